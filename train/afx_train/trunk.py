"""The decoder layers below the first adapted one.

They compute the same for a row in every epoch, so they run once a row; later passes start at the
first adapted layer from what entered it then. The last bits of that depend on the rows that were
computed beside it, so rows keep their company: those that were first seen together are always
computed together, and one that was dropped from memory or lost by a kill comes back the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from afx_train.codec import Tokens

RowKey = tuple[Tokens, Tokens, Tokens]
"""Static prefix, tokens before the boundary, tokens after it."""


def row_keys(static: Tokens, befores: Sequence[Tokens], tokens: Sequence[Tokens]) -> list[RowKey]:
    """The keys of a batch's rows, which share one static prefix."""
    return [(static, before, own) for before, own in zip(befores, tokens, strict=True)]


class Trunk:
    """Skips or stops at the layers below `first`, and keeps what came out of them."""

    def __init__(self, layers: Sequence[torch.nn.Module], first: int) -> None:
        self._below, self._first = list(layers[:first]), layers[first]
        self._company: dict[RowKey, tuple[RowKey, ...]] = {}
        self._kept: OrderedDict[RowKey, Tensor] = OrderedDict()
        self.kept_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._below)

    def seen(self, keys: Sequence[RowKey]) -> None:
        """Note rows of a batch: those that are new will be computed together."""
        new = tuple(dict.fromkeys(key for key in keys if key not in self._company))
        self._company |= dict.fromkeys(new, new)

    def entering(
        self,
        keys: Sequence[RowKey],
        compute: Callable[[Sequence[RowKey]], object],
        *,
        budget: int,
    ) -> Tensor:
        """Return what enters the first adapted layer behind the boundary, (N, hidden), packed.

        compute: runs rows, what stands before the boundary included, through the model; it is
        stopped at the first adapted layer. budget: bytes that may be kept; the least recently used
        goes.
        """
        self.seen(keys)
        found: list[Tensor] = []
        for key in keys:
            if key not in self._kept:
                self._run(self._company[key], compute)
            self._kept.move_to_end(key)
            found.append(self._kept[key])
        while self.kept_bytes > budget and len(self._kept) > 1:
            self.kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return torch.cat(found)

    def forget(self) -> None:
        """Drop what is kept."""
        self._kept.clear()
        self.kept_bytes = 0

    def _run(self, rows: Sequence[RowKey], compute: Callable[[Sequence[RowKey]], object]) -> None:
        lengths = [len(before) + len(tokens) for _, before, tokens in rows]
        parts = torch.split(self._stopped(compute, rows), lengths)
        for row, part in zip(rows, parts, strict=True):
            if row not in self._kept:
                self._kept[row] = part[len(row[1]) :].clone()
                self.kept_bytes += self._kept[row].nbytes

    def _stopped(
        self, compute: Callable[[Sequence[RowKey]], object], rows: Sequence[RowKey]
    ) -> Tensor:
        hook = self._first.register_forward_pre_hook(_stop, with_kwargs=True)
        try:
            compute(rows)
        except _Reached as reached:
            return reached.hidden
        finally:
            hook.remove()
        raise RuntimeError("the first adapted layer was not run")

    @contextmanager
    def skipped(self, entering: Tensor) -> Iterator[None]:
        """Within it, the model's layers start at the first adapted one, from `entering` (N, h)."""

        def enter(_: object, given: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401
            return (entering.unsqueeze(0), *given[1:]), named

        with ExitStack() as undo:
            for layer in self._below:
                layer.forward = _pass_on
                undo.callback(layer.__dict__.pop, "forward")
            hook = self._first.register_forward_pre_hook(enter, with_kwargs=True)
            undo.callback(hook.remove)
            yield


class _Reached(Exception):  # noqa: N818 - not an error: how a pass ends early
    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def _stop(_: object, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    raise _Reached(given[0][0].detach())


def _pass_on(hidden: Tensor, *_: object, **__: object) -> Tensor:
    return hidden
