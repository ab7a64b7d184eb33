"""Whatever a model prefers: what leaves a tool's grammar is valid against the tool's schema.

The model here picks at random among the tokens that the grammar allows. AGENTFLUX_LONG=1 walks 500
generated schemas instead of 100; AGENTFLUX_TOOLS names a folder of real tool lists to walk as well.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import jsonschema
import llguidance
import llguidance.numpy
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from agentflux import ToolSpec
from agentflux.contracts.grammar import arguments_grammar, tokenizer
from agentflux.contracts.tools import load_tool_folder
from agentflux.errors import SchemaNotSupported

COUNT = 500 if os.environ.get("AGENTFLUX_LONG") else 100
TOOLS = os.environ.get("AGENTFLUX_TOOLS")
END = 256
PATIENCE, LIMIT = 60, 1500
NAMES = ["path", "größe", "名前", "a b", 'quo"te', "x-y", "$ref_", "emoji🙂", "n"]


@pytest.fixture(scope="module")
def tokens() -> llguidance.LLTokenizer:
    """One token a byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<end>"])
    return tokenizer(made.to_str(), len(letters) + 1, END)


def walk(tokens: llguidance.LLTokenizer, grammar: str, rng: random.Random) -> str | None:
    """Decode with random choices; after some patience, with those that end soonest."""
    matcher = llguidance.LLMatcher(tokens, grammar)
    mask = llguidance.numpy.allocate_token_bitmask(1, tokens.vocab_size)
    closing = [int(tokens.tokenize_bytes(sign)[0]) for sign in (b'"', b"}", b"]", b"0")]
    made: list[int] = []
    while len(made) < LIMIT and not matcher.is_stopped():
        forced = matcher.compute_ff_tokens()
        if forced:
            matcher.consume_tokens(forced)
            made.extend(forced)
            continue
        llguidance.numpy.fill_next_token_bitmask(matcher, mask, 0)
        allowed = [t for t in range(tokens.vocab_size) if mask[0, t // 32] >> (t % 32) & 1]
        ends = [t for t in closing if t in allowed]
        hurry = len(made) > PATIENCE or rng.random() < 0.3
        token = END if END in allowed and hurry else rng.choice(ends if ends and hurry else allowed)
        if token == END:
            break
        assert matcher.consume_token(token)
        made.append(token)
    finished = matcher.is_accepting() or matcher.is_stopped()
    return tokens.decode_bytes(made).decode("utf-8", "replace") if finished else None


def check(tokens: llguidance.LLTokenizer, tool: ToolSpec, rng: random.Random) -> bool:
    """Walk once; return whether the walk came to an end."""
    text = walk(tokens, arguments_grammar(tool), rng)
    if text is None:
        return False
    jsonschema.validate(json.loads(text), dict(tool.input_schema))
    return True


def schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A random schema of one value."""
    kinds = [text, number, choice, flag, plain]
    if depth < 3:
        kinds += [array, record, either, nullable]
    return rng.choice(kinds)(rng, depth)


def text(rng: random.Random, depth: int) -> dict[str, Any]:
    limits = [{}, {"maxLength": 5}, {"minLength": 1, "maxLength": 9}]
    shapes = [{"pattern": r"^[a-z]{2,4}-\d{2}$"}, {"pattern": "^(a|bb)+$"}, {"format": "date"}]
    return {"type": "string", **rng.choice([*limits, *shapes])}


def number(rng: random.Random, depth: int) -> dict[str, Any]:
    ranges = [{}, {"minimum": 0}, {"minimum": -(10**18), "maximum": 10**18}, {"maximum": 3}]
    return {"type": rng.choice(["integer", "number"]), **rng.choice(ranges)}


def choice(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"enum": rng.sample(["rot", "grün", "青", 'q"', "", 7, 10**30, -0.5, True, None], 3)}


def flag(rng: random.Random, depth: int) -> dict[str, Any]:
    return rng.choice([{"type": "boolean"}, {"const": "🙂"}, {"type": "null"}])


def plain(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"type": "string", "description": "words", "title": "Words", "default": "x"}


def array(rng: random.Random, depth: int) -> dict[str, Any]:
    sizes = rng.choice([{}, {"minItems": 1}, {"maxItems": 2}, {"minItems": 2, "maxItems": 3}])
    return {"type": "array", "items": schema(rng, depth + 1), **sizes}


def record(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(NAMES, rng.randint(0, 4))
    made = {
        "type": "object",
        "properties": {name: schema(rng, depth + 1) for name in names},
        "required": [name for name in names if rng.random() < 0.5],
    }
    if rng.random() < 0.3:
        made["additionalProperties"] = False
    return made


def either(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [schema(rng, depth + 1) for _ in range(rng.randint(2, 3))]}


def nullable(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [schema(rng, depth + 1), {"type": "null"}], "default": None}


def test_random_walks_through_generated_schemas_are_valid(tokens: llguidance.LLTokenizer) -> None:
    ended, refused = 0, 0
    for seed in range(COUNT):
        rng = random.Random(seed)
        tool = ToolSpec(tool_set="s", name=f"tool{seed}", input_schema=record(rng, 0))
        try:
            ended += check(tokens, tool, rng)
        except SchemaNotSupported:
            refused += 1
        except jsonschema.ValidationError as error:
            raise AssertionError(f"seed {seed}: {tool.input_schema}") from error
    assert refused <= COUNT // 20
    assert ended >= (COUNT - refused) * 9 // 10


@pytest.mark.skipif(TOOLS is None, reason="AGENTFLUX_TOOLS names no folder of tool lists")
def test_random_walks_through_real_schemas_are_valid(tokens: llguidance.LLTokenizer) -> None:
    found = [tool for tools in load_tool_folder(Path(TOOLS or "")).values() for tool in tools]
    with_arguments = [tool for tool in found if tool.takes_arguments]
    ended = sum(check(tokens, tool, random.Random(tool.name)) for tool in with_arguments)
    assert ended >= len(with_arguments) * 9 // 10
