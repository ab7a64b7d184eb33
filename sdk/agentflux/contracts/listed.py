"""What an observation lists: the things that a next call can name, and what is said of each."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

MOST = 40  # more than that is no list that a request picks one thing of
_LONGEST = 20_000
_LITERAL = re.compile(r"""(?:\[\s*)?[{"']""")
_BLOCK = re.compile(r"\n\s*\n")
_FIELD = re.compile(r"(?m)^(?P<key>\w[\w ]{0,20}): *(?P<value>\S.*)$")
_BULLET = re.compile(r"^(?:\[\w+\] |[*+-] |\d+[.)] )?\s*")
_NAME_LINE = re.compile(r"[^\s=:;,'\"<>{}()|]+(?: [^\s=:;,'\"<>{}()|]+){0,3}")
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Item:
    """One of several things. name: what a call would name; text: all that is said of it."""

    name: str
    text: str


def items_of(observation: str) -> tuple[Item, ...]:
    """Return the things that an observation lists, at least two of different names, or none.

    Objects of a JSON or Python list (their `name`, else their first text), blocks with the same
    first field (a commit in a log), lines with a name each (files, branches).
    """
    text = observation.strip()
    if not text or len(text) > _LONGEST:
        return ()
    parsed = _parsed(text)
    found = tuple(_of_value(parsed) if parsed is not None else _of_blocks(text) or _of_lines(text))
    names = {item.name for item in found}
    return found if 1 < len(names) == len(found) <= MOST else ()


def _parsed(text: str) -> object:
    if not _LITERAL.match(text):
        return None
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            return cast("object", parse(text))
    return None


def _of_value(value: object) -> Iterator[Item]:
    """Yield the objects, or the texts, of the first list that has any."""
    if isinstance(value, Mapping):
        for inner in cast("Mapping[str, object]", value).values():
            if isinstance(inner, list) and (found := [*_of_value(cast("object", inner))]):
                yield from found
                return
    if isinstance(value, list):
        for one in cast("list[object]", value):
            texts = [*_texts(one)]
            named = cast("Mapping[str, Any]", one).get("name") if isinstance(one, Mapping) else None
            name = named if isinstance(named, str) else next(iter(texts), "")
            if name:
                yield Item(name, " ".join(texts))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in cast("Mapping[str, object]", value).values():
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in cast("Sequence[object]", value):
            yield from _texts(inner)


def _of_blocks(text: str) -> list[Item]:
    blocks = _BLOCK.split(text)
    first = _FIELD.search(blocks[1]) if len(blocks) > 1 else None
    if first is None:
        return []
    found = [
        (
            next((f["value"] for f in _FIELD.finditer(block) if f["key"] == first["key"]), None),
            block,
        )
        for block in blocks
    ]
    return [Item(value.strip("'\" "), block) for value, block in found if value is not None]


def _of_lines(text: str) -> list[Item]:
    names = [_BULLET.sub("", line.strip()) for line in text.splitlines() if line.strip()]
    if not all(_NAME_LINE.fullmatch(_DRIVE.sub("", name)) for name in names):
        return []
    return [Item(name, name) for name in names]
