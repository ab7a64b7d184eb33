"""Grammars whose strings are copied: values that may only be spans of the texts at hand.

A small model that writes a path or a name letter by letter drops letters, and invents values that
nobody gave. Where all training values of a parameter were copied from the request, the context or
an observation, decoding is held to such spans. Uses llguidance's substring terminals.

A parameter is named by its path: `path`, `edits[].oldText`, `files[]`. A span begins and ends
between words and stays in one line.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

_ATOM = re.compile(r"\w+|\s|[^\w\s]")
_STRING, _NULL = {"type": "string"}, {"type": "null"}
_OPEN = frozenset({"type", "default", "anyOf"})


def string_leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, text) of each string in an argument object."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from string_leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence):
        for inner in value:
            yield from string_leaves(inner, f"{path}[]")


def is_span(text: str, texts: Iterable[str]) -> bool:
    """Whether the text stands in a line of one of the texts, between words."""
    atoms = _ATOM.findall(text)
    if not atoms or atoms[0].isspace() or atoms[-1].isspace() or "\n" in text:
        return False
    return any(_stands_in(atoms, _ATOM.findall(line)) for t in texts for line in t.splitlines())


def copying_rules(schema: Mapping[str, Any], copied: Collection[str], texts: Sequence[str]) -> str:
    """Write a Lark grammar of a closed object schema whose strings at `copied` are spans.

    Properties come in the schema's order, compact. What holds no copied string stays JSON schema.

    Raises:
        ValueError: a path does not lead to a plain string, or the texts are empty, or the schema
            has references (a part of it would not find them).
    """
    if '"$ref"' in json.dumps(schema):
        msg = "the schema has references"
        raise ValueError(msg)
    return _Rules(frozenset(copied), texts).start(schema)


def _stands_in(atoms: list[str], line: list[str]) -> bool:
    ends = len(line) - len(atoms) + 1
    return any(line[at : at + len(atoms)] == atoms for at in range(ends))


class _Rules:
    def __init__(self, copied: frozenset[str], texts: Sequence[str]) -> None:
        self._copied, self._rules = copied, list[str]()
        lines = dict.fromkeys(line.strip() for text in texts for line in text.splitlines())
        spans: list[str] = []
        for line in filter(None, lines):
            chunks = [json.dumps(atom, ensure_ascii=False)[1:-1] for atom in _ATOM.findall(line)]
            listed = json.dumps({"substring_chunks": chunks}, ensure_ascii=False)
            spans.append(f"SPAN{len(spans)}")
            self._rules.append(f"{spans[-1]}: %regex {listed}")
        if not spans or not copied:
            msg = "there is nothing to copy"
            raise ValueError(msg)
        self._rules.append(f"SPAN: ({' | '.join(spans)}) & /.+/")
        self._span = self._rule('"\\"" SPAN "\\""')

    def start(self, schema: Mapping[str, Any]) -> str:
        return "\n".join([f"start: {self._value(schema, '')}", *self._rules])

    def _rule(self, body: str) -> str:
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def _value(self, schema: Mapping[str, Any], path: str) -> str:
        if path in self._copied:
            return self._copy(schema, path)
        below = [c for c in self._copied if not path or c.startswith((f"{path}.", f"{path}["))]
        if not below:
            return self._rule(f"%json {json.dumps(schema)}")
        if schema.get("type") == "array" and isinstance(items := schema.get("items"), Mapping):
            item = self._value(items, f"{path}[]")
            some = f'{item} ("," {item})*'
            return self._rule(f'"[" {some} "]"' if schema.get("minItems") else f'"[" ({some})? "]"')
        if isinstance(properties := schema.get("properties"), Mapping):
            return self._object(properties, frozenset(schema.get("required") or ()), path)
        msg = f"{below[0]!r} does not lead to a string"
        raise ValueError(msg)

    def _copy(self, schema: Mapping[str, Any], path: str) -> str:
        kinds = schema.get("anyOf", [{"type": schema.get("type")}])
        if set(schema) - _OPEN or kinds not in ([_STRING], [_STRING, _NULL]):
            msg = f"{path!r} is not a plain string"
            raise ValueError(msg)
        return self._span if len(kinds) == 1 else self._rule(f'{self._span} | "null"')

    def _object(self, properties: Mapping[str, Any], required: frozenset[str], path: str) -> str:
        first, rest = '""', '""'  # what may follow before any property was written, and after one
        for name, schema in reversed(list(properties.items())):
            value = self._value(schema, f"{path}.{name}" if path else name)
            pair = f"{json.dumps(json.dumps(name) + ':')} {value} {rest}"
            optional = name not in required
            later = self._rule(f'"," {pair}' + (f" | {rest}" if optional else ""))
            first = self._rule(pair + (f" | {first}" if optional else ""))
            rest = later
        return self._rule(f'"{{" {first} "}}"')
