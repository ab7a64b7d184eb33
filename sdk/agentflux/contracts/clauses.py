"""What of a request is still to be done: its clauses, less those that calls made explain.

"Stage notes.md, then show me the log" is two requests in one. Cut at punctuation and at the words
that join requests, and with the clause taken away that speaks most for the call already made, what
is left says whether there is more to do, and what.
"""

import re
from collections.abc import Callable, Mapping, Sequence

_FEWEST_WORDS = 2
_JOINTS = re.compile(
    r"[.;!?:\n]+\s+|\s+/\s+|,\s+|\d[.)]\s|"
    r"\b(?:and then|then|and|after that|afterwards|after|before that|before|once|followed by|next|"
    r"also|plus|but first|first|finally|when that's done|as well as)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")

Shares = Mapping[str, float]


def clauses(request: str) -> list[str]:
    """Return the parts of a request that have two words or more; the whole where none has."""
    parts = [part.strip() for part in _JOINTS.split(request)]
    return [part for part in parts if len(_WORD.findall(part)) >= _FEWEST_WORDS] or [request]


def left_over(
    request: str, calls: Sequence[str], told: Callable[[str], Shares]
) -> tuple[list[str], int]:
    """Return the clauses that no call explains, in their order, and how many clauses there are.

    told: says what a text speaks for, by the calls' names. Each call explains one clause, the pairs
    that go together best first.
    """
    parts = clauses(request)
    shares = [told(part) for part in parts]
    pairs = sorted(
        (-shares[part].get(call, float("-inf")), number, part)
        for number, call in enumerate(calls)
        for part in range(len(parts))
    )
    explained, served = set[int](), set[int]()
    for _, number, part in pairs:
        if number not in served and part not in explained:
            served.add(number)
            explained.add(part)
    return [part for at, part in enumerate(parts) if at not in explained], len(parts)
