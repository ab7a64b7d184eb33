"""Choose among candidates exactly, in few forward passes.

The candidates' token sequences form a tree. A candidate's probability is the product, over its
branching nodes, of the softmax restricted to that node's children. Best-first search: a node's
probability bounds all candidates below it, so the first complete candidate that leaves the queue
is the best one. Runs of nodes with one child cost no pass of their own. Where every probability is
asked for, the search goes on until nothing is left.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agentflux.engines.prefix import Logits

Path = tuple[int, ...]
MAX_ALTERNATIVES = 4


class Tree:
    """Token sequences as a tree; every sequence ends in the end token, so none is a prefix."""

    def __init__(self, sequences: Sequence[Path]) -> None:
        self._children: dict[Path, list[int]] = {}
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
    every: bool = False,
) -> Best:
    """Find the most probable candidate.

    logits_at(path): the logits after the prompt and `path`. doubted: where this candidate wins, the
    search goes on to the next best one. every: all are computed, and all others are alternatives.
    """
    order = itertools.count()
    queue: list[tuple[float, int, Path]] = [(-1.0, next(order), tree.descend(()))]
    held: tuple[int, float] | None = None
    done: list[tuple[float, int, Path]] = []
    while True:
        if not queue and held is not None:
            return _summed_up(tree, *held, done[1:], most=len(done))
        negative, _, path = heapq.heappop(queue)
        index = tree.leaf(path)
        if index is not None and every:
            done.append((negative, next(order), path))
            held = held or (index, -negative)
            continue
        if index is not None and index == doubted and queue:
            held, doubted = (index, -negative), None
            continue
        if index is not None:
            if held is not None:
                heapq.heappush(queue, (negative, next(order), path))
            return _summed_up(tree, *(held or (index, -negative)), queue)
        tokens = tree.children(path)
        for token, share in zip(tokens, _softmax(logits_at(path)[tokens]), strict=True):
            child = tree.descend((*path, token))
            heapq.heappush(queue, (negative * float(share), next(order), child))


def _summed_up(
    tree: Tree,
    index: int,
    probability: float,
    queue: list[tuple[float, int, Path]],
    *,
    most: int = MAX_ALTERNATIVES,
) -> Best:
    """Tell the winner's lead and how the rest is spread over what the search left open."""
    rest = sorted(((-negative, path) for negative, _, path in queue), reverse=True)
    shares = [probability, *(share for share, _ in rest)]
    known = [(leaf, share) for share, path in rest if (leaf := tree.leaf(path)) is not None]
    return Best(
        index=index,
        probability=probability,
        margin=probability - (rest[0][0] if rest else 0.0),
        entropy=-sum(share * math.log(share) for share in shares if share > 0),
        alternatives=tuple(known[:most]),
    )


def _softmax(values: Logits) -> Logits:
    shifted = np.exp(values.astype(np.float64) - values.max())
    shares: Logits = (shifted / shifted.sum()).astype(np.float32)
    return shares
