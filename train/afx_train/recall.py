"""What the base computed before the boundary, kept for later epochs; the least recently used goes.

The last bits of a row's keys and values depend on the rows that were computed beside it. So a run
that goes on after a kill must recall exactly what the uninterrupted one would have recalled:
`replay` finds out which computations those are and does no others.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Generic, TypeVar

from afx_train.codec import Tokens

Key = tuple[Tokens, Tokens]
V = TypeVar("V")


class Recall(Generic[V]):
    """Values by (static prefix, tokens after it). `budget`: the tokens that may be kept."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.kept: OrderedDict[Key, V] = OrderedDict()
        self._tokens = 0

    def fetch(
        self,
        static: Tokens,
        befores: Sequence[Tokens],
        compute: Callable[[list[Tokens]], Iterable[V]],
    ) -> dict[Tokens, V]:
        """Return the values of all non-empty `befores`; what is missing is computed together."""
        wanted = [b for b in dict.fromkeys(befores) if b]
        missing = [b for b in wanted if (static, b) not in self.kept]
        found = {b: self.kept[static, b] for b in wanted if (static, b) in self.kept}
        if missing:
            found |= dict(zip(missing, compute(missing), strict=True))
        for before in wanted:
            self.keep((static, before), found[before])
        return found

    def keep(self, key: Key, value: V) -> None:
        """Take a value as the most recently used one."""
        if key in self.kept:
            self.kept.move_to_end(key)
            return
        self.kept[key] = value
        self._tokens += len(key[1])
        while self._tokens > self.budget and len(self.kept) > 1:
            (_, gone), _ = self.kept.popitem(last=False)
            self._tokens -= len(gone)


def replay(
    asked: Iterable[tuple[Tokens, Sequence[Tokens]]],
    budget: int,
    compute: Callable[[Tokens, list[Tokens]], Iterable[V]],
) -> Recall[V]:
    """Return what is kept after all of `asked`, in order; only what survives is computed."""
    packs: list[tuple[Tokens, list[Tokens]]] = []
    plan: Recall[int] = Recall(budget)
    for static, befores in asked:
        plan.fetch(static, befores, partial(_noted, packs, static))
    values: dict[Key, V] = {}
    for number in sorted({*plan.kept.values()}):
        static, missing = packs[number]
        for before, value in zip(missing, compute(static, missing), strict=True):
            if plan.kept.get((static, before)) == number:
                values[static, before] = value
    made: Recall[V] = Recall(budget)
    for key in plan.kept:
        made.keep(key, values[key])
    return made


def _noted(
    packs: list[tuple[Tokens, list[Tokens]]], static: Tokens, rows: list[Tokens]
) -> list[int]:
    """Write down what would be computed together; each row's value is the number of its pack."""
    packs.append((static, rows))
    return [len(packs) - 1] * len(rows)
