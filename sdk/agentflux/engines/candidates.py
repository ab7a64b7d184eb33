"""Choose among candidates exactly, in few forward passes.

The candidates' token sequences form a tree. A candidate's probability is the product, over its
branching nodes, of the softmax restricted to that node's children. Best-first search: a node's
probability bounds all candidates below it, so the first complete candidate that leaves the queue
is the best one. Runs of nodes with one child cost no pass of their own.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from agentflux.engines.prefix import Logits

Path = tuple[int, ...]


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


def best_candidate(tree: Tree, logits_at: Callable[[Path], Logits]) -> tuple[int, float, float]:
    """Return (index, probability, margin) of the most probable candidate.

    logits_at(path): the logits after the prompt and `path`.
    """
    order = itertools.count()
    queue: list[tuple[float, int, Path]] = [(-1.0, next(order), tree.descend(()))]
    while True:
        negative, _, path = heapq.heappop(queue)
        index = tree.leaf(path)
        if index is not None:
            runner_up = -queue[0][0] if queue else 0.0
            return index, -negative, -negative - runner_up
        tokens = tree.children(path)
        for token, share in zip(tokens, _softmax(logits_at(path)[tokens]), strict=True):
            child = tree.descend((*path, token))
            heapq.heappush(queue, (negative * float(share), next(order), child))


def _softmax(values: Logits) -> Logits:
    shifted = np.exp(values.astype(np.float64) - values.max())
    shares: Logits = (shifted / shifted.sum()).astype(np.float32)
    return shares
