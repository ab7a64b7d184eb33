"""From a tool's input schema to the grammar that its arguments are decoded under.

Training tokenizes its targets through the same grammar, because a constrained decoder appends
forced tokens on its own: the model must have seen the split that it will meet.
Needs llguidance, no tokenizer library.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import llguidance

from agentflux.contracts.spans import FREE, Held, copying_rules
from agentflux.contracts.tools import JsonSchema, ToolSpec
from agentflux.errors import SchemaNotSupported

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

_OPTIONS: "JsonCompileOptions" = {"whitespace_flexible": False}


@lru_cache(maxsize=4)
def tokenizer(tokenizer_json: str, vocab_size: int, end_token: int) -> "llguidance.LLTokenizer":
    """Build llguidance's view of a tokenizer from the text of tokenizer.json (0.25 s, kept)."""
    return llguidance.LLTokenizer(tokenizer_json, n_vocab=vocab_size, eos_token=end_token)


def arguments_grammar(tool: ToolSpec) -> str:
    """Compile-ready grammar of a tool's arguments: compact JSON, no undeclared properties. Kept.

    Raises:
        SchemaNotSupported: with llguidance's reason, where the schema cannot be expressed.
    """
    try:
        return _grammar(json.dumps(_closed(tool.input_schema)))
    except (ValueError, RecursionError) as error:
        raise SchemaNotSupported(tool.name, reason=str(error).splitlines()[0]) from error


@lru_cache(maxsize=1024)
def _grammar(closed_schema: str) -> str:
    grammar = llguidance.LLMatcher.grammar_from_json_schema(closed_schema, overrides=_OPTIONS)
    if failed := llguidance.LLMatcher.validate_grammar(grammar):
        raise ValueError(failed)
    return grammar


def copying_grammar(
    tool: ToolSpec,
    copied: Collection[str],
    texts: Sequence[str],
    *,
    worded: Mapping[str, Collection[str]] = MappingProxyType({}),
    held: Held = FREE,
) -> str:
    """Do as `arguments_grammar` does, with strings that are copied from the texts.

    Those at the paths `copied` are spans, those at `worded` are made of words from there and of
    their own; beside it they obey `held`. Where the schema has no plain string at such a path,
    nothing is held to the texts.

    Raises:
        SchemaNotSupported: as `arguments_grammar` does.
    """
    plain = arguments_grammar(tool)
    if not copied and not worded and not held:
        return plain
    try:
        return copying_rules(_closed(tool.input_schema), copied, texts, worded, held)
    except ValueError:
        return plain


def forced_split(
    tokens: "llguidance.LLTokenizer", grammar: str, text: str, *, end_token: int
) -> list[int]:
    """Tokenize `text` as a decoder under `grammar` would produce it, end token included.

    Raises:
        ValueError: the text does not match the grammar.
    """
    matcher = llguidance.LLMatcher(tokens, grammar)
    done: list[int] = []
    rest = text.encode()
    while rest:
        step = matcher.compute_ff_tokens() or [_allowed_head(matcher, tokens, rest)]
        spelled = tokens.decode_bytes(step)
        if not rest.startswith(spelled) or matcher.try_consume_tokens(step) != len(step):
            msg = f"{text!r} does not match the grammar at {rest[:40]!r}"
            raise ValueError(msg)
        done += step
        rest = rest[len(spelled) :]
    if not matcher.is_accepting():
        msg = f"{text!r} ends before the grammar does"
        raise ValueError(msg)
    return [*done, end_token]


def _allowed_head(
    matcher: "llguidance.LLMatcher", tokens: "llguidance.LLTokenizer", rest: bytes
) -> int:
    """Return the canonical next token of `rest`, or the longest prefix the grammar lets through."""
    head: int = tokens.tokenize_bytes(rest)[0]
    if matcher.validate_tokens([head]) == 1:
        return head
    for length in range(len(tokens.decode_bytes([head])), 0, -1):
        shorter = tokens.tokenize_bytes(rest[:length])
        if len(shorter) == 1 and matcher.validate_tokens(shorter) == 1:
            return int(shorter[0])
    return head


def _closed(schema: JsonSchema) -> dict[str, Any]:
    """Forbid properties that the schema does not name, wherever it names some."""
    closed = _close(schema)
    if not isinstance(closed, dict) or closed.get("type", "object") != "object":
        msg = "the schema is not an object"
        raise ValueError(msg)
    closed.setdefault("type", "object")
    closed.setdefault("properties", {})
    closed.setdefault("additionalProperties", False)
    return closed


def _close(node: object) -> object:
    if isinstance(node, list):
        return [_close(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    out = {key: _close(value) for key, value in node.items() if key not in _ANNOTATIONS}
    properties = node.get("properties")
    if isinstance(properties, Mapping):
        out["properties"] = {key: _close(value) for key, value in properties.items()}
        if isinstance(node.get("type"), str):
            out.setdefault("additionalProperties", False)
    return out


_ANNOTATIONS = frozenset({"$schema", "title", "examples", "description"})
