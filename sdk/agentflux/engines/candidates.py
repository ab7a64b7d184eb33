"""Choose among candidates exactly, in few forward passes.

The candidates' token sequences form a tree. A candidate's probability is the product, over its
branching nodes, of the softmax restricted to that node's children. Best-first search: a node's
probability bounds all candidates below it, so the first complete candidate that leaves the queue
is the best one. Runs of nodes with one child cost no pass of their own. What was opened on the way
tells other candidates' probabilities, too. Where one more is asked for, its branches are opened;
where every one is, the search goes on until nothing is left.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agentflux.engines.prefix import Logits

Path = tuple[int, ...]


class Tree:
    """Token sequences as a tree; every sequence ends in the end token, so none is a prefix."""

    def __init__(self, sequences: Sequence[Path]) -> None:
        self._children: dict[Path, list[int]] = {}
        self.sequences = tuple(sequences)
        self._leaf = {sequence: index for index, sequence in enumerate(sequences)}
        for sequence in sequences:
            for depth, token in enumerate(sequence):
                children = self._children.setdefault(sequence[:depth], [])
                if token not in children:
                    children.append(token)

    def leaf(self, path: Path) -> int | None:
        """Return the index of the candidate that ends here."""
        return self._leaf.get(path)

    def children(self, path: Path) -> list[int]:
        """Return the tokens that may follow."""
        return self._children[path]

    def descend(self, path: Path) -> Path:
        """Follow nodes with one child to the next branch or leaf."""
        while path not in self._leaf and len(self._children[path]) == 1:
            path = (*path, self._children[path][0])
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The most probable candidate, by its index; see `agentflux.ports.Scores`."""

    index: int
    probability: float
    margin: float
    entropy: float
    alternatives: tuple[tuple[int, float], ...]


def best_candidate(
    tree: Tree,
    logits_at: Callable[[Path], Logits],
    *,
    doubted: int | None = None,
    rival: int | None = None,
    every: bool = False,
) -> Best:
    """Find the most probable candidate.

    logits_at(path): the logits after the prompt and `path`. doubted: where this candidate wins, the
    search goes on to the next best one. rival: this one is among the alternatives where it does not
    win. every: all are computed, and all others are alternatives.
    """
    search = _Search(tree, logits_at)
    leaves = search.leaves()
    index, best = next(leaves)
    more = None if every else int(index == doubted)
    found = [entry for _, entry in itertools.islice(leaves, more)]
    if rival is not None:
        search.open_towards(tree.sequences[rival])
    return _summed_up(tree, index, -best.negative, [*found, *search.left])


class _Search:
    """The best-first search: what it has not looked at yet lies in `left`, a heap."""

    def __init__(self, tree: Tree, logits_at: Callable[[Path], Logits]) -> None:
        self._tree, self._logits_at = tree, logits_at
        self._order = itertools.count()
        self.left = [_Entry(-1.0, next(self._order), tree.descend(()))]

    def leaves(self) -> "Iterator[tuple[int, _Entry]]":
        """Take candidates out of `left`, the likeliest first."""
        while self.left:
            entry = heapq.heappop(self.left)
            index = self._tree.leaf(entry.path)
            if index is None:
                self._open(entry)
            else:
                yield index, entry

    def open_towards(self, sequence: Path) -> None:
        """Open what of a candidate's branches is closed."""
        while towards := [e for e in self.left if self._leads(e.path, sequence)]:
            self.left.remove(towards[0])
            self._open(towards[0])
            heapq.heapify(self.left)

    def _leads(self, path: Path, sequence: Path) -> bool:
        return self._tree.leaf(path) is None and sequence[: len(path)] == path

    def _open(self, entry: "_Entry") -> None:
        tokens = self._tree.children(entry.path)
        shares = _softmax(self._logits_at(entry.path)[tokens])
        for token, share in zip(tokens, shares, strict=True):
            path = self._tree.descend((*entry.path, token))
            child = _Entry(entry.negative * float(share), next(self._order), path)
            heapq.heappush(self.left, child)


class _Entry(NamedTuple):
    """A path, minus its probability before it, and an order among equals."""

    negative: float
    order: int
    path: Path


def _summed_up(tree: Tree, index: int, probability: float, left: Sequence[_Entry]) -> Best:
    """Tell the winner's lead and how the rest is spread over what the search left open."""
    rest = sorted(((-entry.negative, entry.path) for entry in left), reverse=True)
    shares = [probability, *(share for share, _ in rest)]
    known = [(leaf, share) for share, path in rest if (leaf := tree.leaf(path)) is not None]
    return Best(
        index=index,
        probability=probability,
        margin=probability - (rest[0][0] if rest else 0.0),
        entropy=-sum(share * math.log(share) for share in shares if share > 0),
        alternatives=tuple(known),
    )


def _softmax(values: Logits) -> Logits:
    shifted = np.exp(values.astype(np.float64) - values.max())
    shares: Logits = (shifted / shifted.sum()).astype(np.float32)
    return shares
