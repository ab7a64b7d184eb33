"""What of a request is still to be done: its clauses, less those that calls made explain.

"Stage notes.md, then show me the log" is two requests in one. Cut at punctuation and at the words
that join requests, and with the clause taken away that speaks most for the call already made, what
is left says whether there is more to do, and what.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from agentflux.contracts.prompts import NONE

# Nothing before a run of marks or digits repeats, so that cutting takes time that grows with the
# text, whatever stands in it.
_JOINTS = re.compile(
    r"(?<![.;!?:])[.;!?:]+\s|\n|\s/\s|,\s|(?<!\S)\d+\)\s|"
    r"\b(?:and then|then|and|after that|afterwards|after|before that|before|once|followed by|next|"
    r"also|plus|but first|first|finally|when that's done|as well as)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")

Shares = Mapping[str, float]
_LIKELY = math.log(0.5)


def clauses(request: str) -> list[str]:
    """Return the parts of a request that hold a word; the whole where none does."""
    parts = [part.strip() for part in _JOINTS.split(request)]
    return [part for part in parts if _WORD.search(part)] or [request]


def left_over(
    request: str, calls: Sequence[str], told: Callable[[str], Shares]
) -> tuple[list[str], int]:
    """Return the clauses that no call explains, in their order, and how many clauses there are.

    told: the log-probability of each call that a text asks for. Each call explains one clause, the
    pairs that go together best first. A single word ("please") is a clause where it most likely
    asks for something.
    """
    known = [(part, told(part)) for part in clauses(request)]
    known = [pair for pair in known if _asks(*pair)] or known
    parts, shares = [part for part, _ in known], [found for _, found in known]
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


def _asks(part: str, shares: Shares) -> bool:
    if len(_WORD.findall(part)) > 1:
        return True
    best = max(shares, key=shares.__getitem__, default=NONE)
    return best != NONE and shares[best] > _LIKELY
