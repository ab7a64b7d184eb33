"""Prefix reuse: which KV cache a request continues from.

A *stream* is one live KV cache. A *line* is a stream and the (token, adapter) pairs that its cache
holds. A request continues the line that shares its longest run of identical pairs; the rest of that
line is rewound. So KV computed under one adapter is never read as another's, and reuse needs equal
tokens: it cannot change a result.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agentflux.contracts.switching import MAX_SWITCHES
from agentflux.errors import ContextOverflow, EngineError

_log = logging.getLogger("agentflux.engine")

Logits = npt.NDArray[np.float32]
Pair = tuple[int, str]

CAPACITY_STEP = 1024
# Room in a new line for what later stages append; without it the next stage starts another line.
HEADROOM = 384


class Stream(Protocol):
    """One live KV cache of the backend. `capacity`: the tokens that it has room for."""

    capacity: int

    def append(self, tokens: Sequence[int]) -> None:
        """Compute tokens under the active adapter."""
        ...

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        ...

    def activate(self, adapter: str) -> None:
        """Compute later tokens under this adapter."""
        ...

    def logits(self) -> Logits:
        """Return the logits after the last token. Shape (vocab_size,)."""
        ...


@dataclass(slots=True, eq=False)
class Line:
    """A stream and what its cache holds. `kept`: the first tokens that many requests share.

    `graph`: a cache computed by one graph is never continued by another.
    """

    stream: Stream
    graph: str = ""
    pairs: list[Pair] = field(default_factory=list[Pair])
    kept: int = 0
    active: str = ""
    switches: int = 0
    used_at: float = 0.0

    def shared(self, pairs: Sequence[Pair]) -> int:
        """Count the leading pairs that the cache already holds."""
        for index, (mine, wanted) in enumerate(zip(self.pairs, pairs, strict=False)):
            if mine != wanted:
                return index
        return min(len(self.pairs), len(pairs))

    def extend(self, pairs: Sequence[Pair]) -> None:
        """Compute pairs, one call of the backend for each run of one adapter."""
        start = 0
        while start < len(pairs):
            adapter = pairs[start][1]
            end = start
            while end < len(pairs) and pairs[end][1] == adapter:
                end += 1
            self._switch(adapter)
            self.stream.append([token for token, _ in pairs[start:end]])
            self.pairs.extend(pairs[start:end])
            start = end

    def decode(self, tokens: Sequence[int]) -> None:
        """Compute decoded tokens under the adapter that is active."""
        self.stream.append(tokens)
        self.pairs.extend((token, self.active) for token in tokens)

    def rewind(self, length: int) -> None:
        """Keep the first `length` tokens."""
        if length < len(self.pairs):
            self.stream.rewind(length)
            del self.pairs[length:]

    def _switch(self, adapter: str) -> None:
        if adapter != self.active:
            self.stream.activate(adapter)
            self.active = adapter
            self.switches += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A line whose cache now holds exactly the request, and what that took."""

    line: Line
    prefilled: int
    reused: int
    switches: int


class PrefixPool:
    """Lines under a budget of bytes; the least recently used go first.

    Not thread-safe: the engine holds a lock around a request.
    """

    def __init__(  # noqa: PLR0913 - one parameter a limit
        self,
        open_stream: Callable[[int, str], Stream],
        *,
        context_tokens: int,
        bytes_per_token: int,
        budget_bytes: int,
        max_lines: int | None = None,
        max_switches: int = MAX_SWITCHES,
        can_rewind: bool = True,
    ) -> None:
        self._open_stream = open_stream
        self._context_tokens = context_tokens
        self._bytes_per_token = bytes_per_token
        self._budget_bytes = budget_bytes
        self._max_lines = max_lines or sys.maxsize
        self._max_switches = max_switches
        self.can_rewind = can_rewind
        self._lines: list[Line] = []

    @property
    def lines(self) -> int:
        """How many KV caches are alive."""
        return len(self._lines)

    @property
    def bytes(self) -> int:
        """Bytes of KV cache reserved by all lines."""
        return sum(line.stream.capacity for line in self._lines) * self._bytes_per_token

    def place(self, pairs: Sequence[Pair], *, kept: int, room: int, graph: str = "") -> Placed:
        """Bring a line's cache to hold exactly `pairs`, with logits after the last one.

        kept: the leading pairs worth keeping for other requests. room: tokens to decode after them.
        graph: which of the bundle's graphs computes them.

        Raises:
            ContextOverflow: `pairs` and `room` do not fit the context.
        """
        needed = len(pairs) + room
        if needed > self._context_tokens:
            raise ContextOverflow(needed=needed, limit=self._context_tokens)
        line = self._best(pairs, needed, graph) or self._new(needed, graph)
        reused = _whole_batch(pairs, min(line.shared(pairs), len(pairs) - 1))
        before = line.switches
        try:
            if not self._rewound(line, reused):
                return self.place(pairs, kept=kept, room=room, graph=graph)
            line.extend(pairs[reused:])
        except BaseException:
            self.drop(line)
            raise
        line.kept = kept
        line.used_at = time.monotonic()
        return Placed(
            line=line,
            prefilled=len(pairs) - reused,
            reused=reused,
            switches=line.switches - before,
        )

    def branch(self, line: Line, length: int, tokens: Sequence[int]) -> Line:
        """Return a line that holds the first `length` pairs of this one and then decoded tokens.

        That is the same line, or where the model cannot rewind one that computes them again.
        """
        if not self._rewound(line, length):
            start, room = line.pairs[:length], line.stream.capacity - length
            line = self.place(start, kept=line.kept, room=room, graph=line.graph).line
        line.decode(tokens)
        return line

    def drop(self, line: Line) -> None:
        """Forget a line, as after a fault of its stream."""
        if line in self._lines:
            self._lines.remove(line)

    def clear(self) -> None:
        """Forget every line."""
        self._lines.clear()

    def _best(self, pairs: Sequence[Pair], needed: int, graph: str) -> Line | None:
        """Pick the line with the longest shared run, among those whose kept part survives."""
        best, longest = None, 0
        for line in list(self._lines):
            if line.switches >= self._max_switches:
                self.drop(line)
                continue
            if line.graph != graph:
                continue
            shared, whole = line.shared(pairs), True
            if not self.can_rewind:
                whole = _whole_batch(pairs, min(shared, len(pairs) - 1)) == len(line.pairs)
            if whole and line.stream.capacity >= needed and shared >= max(line.kept, longest, 1):
                best, longest = line, shared
        return best

    def _rewound(self, line: Line, length: int) -> bool:
        """Rewind; False, and the line is forgotten, where the model cannot. That is tried once."""
        if length >= len(line.pairs):
            return True
        if self.can_rewind:
            try:
                line.rewind(length)
            except EngineError as error:
                _log.warning("the model cannot rewind its cache, so little is reused: %s", error)
                self.can_rewind = False
        if not self.can_rewind:
            self.drop(line)
        return self.can_rewind

    def _new(self, needed: int, graph: str) -> Line:
        steps = -(-(needed + HEADROOM) // CAPACITY_STEP)
        capacity = min(steps * CAPACITY_STEP, self._context_tokens)
        wanted = capacity * self._bytes_per_token
        while self._lines and (
            self.bytes + wanted > self._budget_bytes or self.lines >= self._max_lines
        ):
            self.drop(min(self._lines, key=lambda line: line.used_at))
        line = Line(stream=self._open_stream(capacity, graph), graph=graph)
        self._lines.append(line)
        return line


def _whole_batch(pairs: Sequence[Pair], reused: int) -> int:
    """Reuse one token less where a run of one adapter would be left with a single token.

    Quantized kernels compute a single row in another way than several (measured on ONNX Runtime
    1.31, CPU, int4 and int8: logits differ by about 1), so a lone token would change a result.
    """
    adapter = pairs[reused][1]
    alone = reused + 1 == len(pairs) or pairs[reused + 1][1] != adapter
    continued = reused > 0 and pairs[reused - 1][1] == adapter
    return reused - 1 if alone and continued else reused
