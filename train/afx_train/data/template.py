"""The little template language of the phrasings: `{slot}`, `{slot2.field}`, `{slot|filter}`."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from afx_train.errors import DataError

Value = str | int | float | Mapping[str, Any]

FILTERS = ("words", "quoted", "name")
_SLOT = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*?)(\d*)(?:\.(\w+))?(?:\|(\w+))?\}|[{}]")
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One `{...}`. `number` tells draws of one slot apart: "" and "2" for {file} and {file2}."""

    base: str
    number: str = ""
    field: str = ""
    filter: str = ""

    @property
    def name(self) -> str:
        """What is drawn once an example: base and number."""
        return self.base + self.number


Part = str | Slot


def parse(text: str, *, where: str) -> tuple[Part, ...]:
    """Split a template into literal text and slots.

    Raises:
        DataError: a single brace, or a filter that does not exist.
    """
    parts: list[Part] = []
    end = 0
    for match in _SLOT.finditer(text):
        parts.append(text[end : match.start()])
        parts.append(_part(match, text, where))
        end = match.end()
    parts.append(text[end:])
    return _merged(parts)


def _part(match: re.Match[str], text: str, where: str) -> Part:
    token = match.group()
    if token in ("{{", "}}"):
        return token[0]
    if len(token) == 1:
        raise DataError(f"single brace in {text!r}; write it twice to mean it", where=where)
    base, number, field, name = (group or "" for group in match.groups())
    if name and name not in FILTERS:
        raise DataError(f"unknown filter {name!r} in {text!r}; there is {FILTERS}", where=where)
    return Slot(base=base, number=number, field=field, filter=name)


def _merged(parts: list[Part]) -> tuple[Part, ...]:
    out: list[Part] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part != "":
            out.append(part)
    return tuple(out)


def slots_of(node: object, *, where: str) -> Iterator[Slot]:
    """Yield every slot in a text, or in the texts of a nested document."""
    if isinstance(node, str):
        yield from (part for part in parse(node, where=where) if isinstance(part, Slot))
    else:
        for value in children(node):
            yield from slots_of(value, where=where)


def children(node: object) -> Iterable[object]:
    """The members of a JSON object or array; none of anything else."""
    if isinstance(node, Mapping):
        return cast("Mapping[str, object]", node).values()
    return cast("list[object]", node) if isinstance(node, list) else ()


def change_texts(node: object, change: Callable[[str], object]) -> object:
    """Return a document with every text changed."""
    if isinstance(node, Mapping):
        pairs = cast("Mapping[str, object]", node).items()
        return {key: change_texts(value, change) for key, value in pairs}
    if isinstance(node, list):
        return [change_texts(value, change) for value in cast("list[object]", node)]
    return change(node) if isinstance(node, str) else node


def fill(text: str, draw: Callable[[Slot], Value], *, where: str) -> Value:
    """Fill the slots of a text. A text that is exactly one slot keeps the value's type."""
    parts = parse(text, where=where)
    if len(parts) == 1 and isinstance(parts[0], Slot):
        return filtered(parts[0], draw(parts[0]))
    return "".join(p if isinstance(p, str) else str(filtered(p, draw(p))) for p in parts)


def filtered(slot: Slot, value: Value) -> Value:
    """Apply the filters that need no chance (`quoted` is left to the wording)."""
    if slot.filter == "name":
        return str(value).replace("\\", "/").rsplit("/", 1)[-1]
    if slot.filter == "words":
        return number_words(value) if isinstance(value, int) else str(value).replace("_", " ")
    return value


def number_words(number: int) -> str:
    """Spell a number from 0 to 99; others stay digits."""
    if not 0 <= number < 100:
        return str(number)
    if number < len(_NUMBERS):
        return _NUMBERS[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens] + (f"-{_NUMBERS[ones]}" if ones else "")
