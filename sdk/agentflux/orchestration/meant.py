"""Which of the things that an observation lists the request means.

A small model that has seen a list takes its first or its last entry, whatever it was asked for. A
word of the request that one entry alone has says which is meant: the commit about `tolls`, the one
by `Priya`, the table with the `results`, the `png`. Where the entry that a call names has none of
the request's words and exactly one other has, the other is put in its place.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agentflux.contracts.listed import Item, items_of
from agentflux.contracts.prompts import Situation
from agentflux.contracts.spans import string_leaves, with_leaves, words

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_LEAST = 3  # letters of a word that tells
_STEM = 4  # letters that two forms of a word share; one has fewer more than the other
_HASH = re.compile(r"[0-9a-f]{7,40}")
_SOME = r"(?:\d+|two|three|four|five|six|ten|few|couple|week|month|year|night|time|\w+s)"
# Told by its place among them, or what it is not, or several: words do not say which one then.
_OTHERWISE = re.compile(
    rf"""\b(?:(?:newest|latest|last|first|oldest|earliest|recent|top\w*|bottom|next)\b(?!\s{_SOME}\b)
    |(?:second|third|previous|biggest|largest|smallest|longest|shortest|highest|lowest|least)\b
    |most\b(?!\srecent)|(?:all|every|each|both|any|them|these|those)\b
    |(?:besides|except|without|not|no(?!\s(?:clue|idea)\b)|but|leave|ignore|other)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_COMMON = frozenset(
    """
    the and for with from into that this what which who its his her our your their one ones are was
    were has have had not but then than there here where when how can could would should will may
    please show list find look see get give tell open read add put make new name named called file
    files folder table commit branch change changes changed about only just also now out off
    """.split()
)


def with_the_meant(arguments: Mapping[str, Any], situation: Situation) -> dict[str, Any]:
    """Return the arguments with the entry that the request means, where they name another."""
    same = dict(arguments)
    if not situation.steps or situation.steps[-1].is_error or _OTHERWISE.search(situation.request):
        return same
    items = items_of(situation.steps[-1].observation)
    given = [text for _, text in string_leaves(same)]
    named = [item for item in items if any(_names(text, item.name) for text in given)]
    if len(named) != 1 or named[0].name.lower() in situation.request.lower():
        return same
    meant = _meant(items, named[0], situation.request)
    if meant is None:
        return same

    def instead(_path: str, text: str) -> str:
        end = _names(text, named[0].name)
        return text[: len(text) - end] + meant.name if end else text

    return {name: with_leaves(value, instead, name) for name, value in same.items()}


def _meant(items: Sequence[Item], named: Item, request: str) -> Item | None:
    """Return the one entry that has words of the request for itself, if the named one has none."""
    said = {word for word in _words(request) if word not in _COMMON}
    own = {item.name: _words(item.text) for item in items}
    counts = Counter(word for found in own.values() for word in found)
    told = [
        item
        for item in items
        if any(counts[w] == 1 and any(_same(w, other) for other in said) for w in own[item.name])
    ]
    return told[0] if len(told) == 1 and told[0] is not named else None


def _words(text: str) -> frozenset[str]:
    """The words of a text and of the names in it, those that are too short to tell left out."""
    runs = words(text)
    parts = (part.lower() for run in runs for part in _PARTS.findall(run))
    numbered = {run.lower() for run in runs if not run.isalpha()}
    return frozenset(part for part in parts if len(part) >= _LEAST) | numbered


def _same(one: str, other: str) -> bool:
    """Whether they are one word, or forms of one: `toll` and `tolls`."""
    short, long = sorted((one, other), key=len)
    longer = len(long) - len(short)
    return one == other or (len(short) >= _STEM > longer and long.startswith(short))


def _names(text: str, name: str) -> int:
    """Return how many letters at the end of a text are the name: 0 if it does not name it."""
    if text == name or text.endswith(("/" + name, "\\" + name)):
        return len(name)
    return len(text) if _HASH.fullmatch(text) and name.startswith(text) else 0
