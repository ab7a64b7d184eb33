"""Leave out optional arguments that nothing founds.

An adapter that reads a schema it never saw likes to fill all of it: a date that nobody said, a
comment that repeats the id. A small model's required arguments are mostly copied, and so are its
optional ones when they are meant. An optional string is left out when it is empty, when it
repeats what another argument has, or when neither the texts at hand nor the descriptions of the
tool's parameters have any of its words. Numbers, flags and enumerated values stay: they follow from
words that are not theirs ("twice", "silently", "urgent").

Tools that an adapter was trained for are not touched: there, training has seen what is written.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from agentflux.contracts.spans import words
from agentflux.contracts.tools import ToolSpec

_HALF_A_DAY = 12
_DEFINITIONS = ("$defs", "definitions")
_DEEPEST = 8  # references may go in circles
# Of English alone; in another language a time or a date in words only is left out.
_NUMBER_WORDS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand dozen half quarter noon midday midnight first second third fourth fifth "
    "sixth seventh eighth ninth tenth".split()
)


def grounded(arguments: Mapping[str, Any], tool: ToolSpec, texts: Iterable[str]) -> dict[str, Any]:
    """Return the arguments without the optional strings that nothing founds."""
    schema = tool.input_schema
    properties = schema.get("properties")
    required = schema.get("required") or ()
    if not isinstance(properties, Mapping):
        return dict(arguments)
    described = [schema[key] for key in ("properties", *_DEFINITIONS) if key in schema]
    said = _Said([*texts, json.dumps(described, ensure_ascii=False)])
    kept: dict[str, Any] = {}
    for name, value in arguments.items():
        free = isinstance(value, str) and not _enumerated(properties.get(name), schema)
        if free and name not in required and not said.founds(value, kept.values()):
            continue
        kept[name] = value
    return kept


def _enumerated(node: object, schema: Mapping[str, Any], depth: int = _DEEPEST) -> bool:
    """Whether a property's schema lists its values, itself or where it refers to."""
    if not isinstance(node, Mapping) or not depth:
        return False
    if "enum" in node or "const" in node:
        return True
    branches = [branch for key in ("anyOf", "oneOf", "allOf") for branch in node.get(key) or ()]
    head, _, name = str(node.get("$ref", "")).rpartition("/")
    if head.removeprefix("#/") in _DEFINITIONS:
        branches.append((schema.get(head.removeprefix("#/")) or {}).get(name))
    return any(_enumerated(branch, schema, depth - 1) for branch in branches)


class _Said:
    def __init__(self, texts: Iterable[str]) -> None:
        self._words = frozenset(word.lower() for text in texts for word in words(text))
        self._numbers = frozenset(int(word) for word in self._words if word.isdecimal())

    def founds(self, value: str, others: Iterable[object]) -> bool:
        if not value.strip() or any(_same(value, other) for other in others):
            return False
        parts = [word.lower() for word in words(value)]
        return not parts or any(self._has(part) for part in parts)

    def _has(self, word: str) -> bool:
        if not word.isdecimal():
            return word in self._words
        number = int(word)  # 15:00 is 3 pm
        return bool({number, number - _HALF_A_DAY} & self._numbers or _NUMBER_WORDS & self._words)


def _same(value: str, other: object) -> bool:
    return isinstance(other, str) and other.casefold() == value.casefold()
