"""Who may compute now: a fixed number of places, and a bounded line before them.

Threads and coroutines stand in the same line. A run that waits for a person gives its place back.
"""

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import Future, wait

from agentflux import CancelToken

# How often a wait looks whether it is still wanted.
WAKE_S = 0.2
_FIRST_GUESS_S = 2.0
_WEIGHT = 0.2


class QueueFull(Exception):
    """No room in the line. `retry_after_s`: when there may be some."""

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"the queue is full; try again in {retry_after_s:.0f} s")


class Ticket:
    """A place, or the right to the next one in turn. Leave it exactly once; more is harmless.

    ahead: how many worked or waited when it was drawn.
    """

    def __init__(self, line: "WorkQueue", *, ahead: int = 0) -> None:
        self._line, self.ahead = line, ahead
        self.turn: Future[None] = Future()
        self.since = time.monotonic()

    async def granted(self) -> None:
        """Wait for the place. A caller that gives up leaves the line."""
        try:
            await asyncio.shield(asyncio.wrap_future(self.turn))
        except asyncio.CancelledError:
            self.leave()
            raise

    def leave(self) -> None:
        """Give the place, or the place in the line, to the next one."""
        self._line.leave(self)

    def step_aside(self) -> None:
        """Give the place up while a person thinks."""
        self._line.leave(self)

    def come_back(self, cancel: CancelToken) -> bool:
        """Stand in front of the line again, and wait; blocks the thread. False: cancelled."""
        self.turn = Future()
        self._line.join(self, front=True)
        while not cancel.cancelled:
            if wait({self.turn}, timeout=WAKE_S).done:
                return True
        self.leave()
        return False


class WorkQueue:
    """The places and the line. Thread-safe."""

    def __init__(self, *, places: int, waiting: int) -> None:
        self._places, self._limit = places, waiting
        self._lock = threading.Lock()
        self._line: deque[Ticket] = deque()
        self._working: set[Ticket] = set()
        self._mean_s = _FIRST_GUESS_S

    @property
    def waiting(self) -> int:
        """How many stand in the line."""
        return len(self._line)

    @property
    def working(self) -> int:
        """How many have a place."""
        return len(self._working)

    def enter(self, *, always: bool = False) -> Ticket:
        """Take a place or stand in line. always: work that was accepted before a restart.

        Raises:
            QueueFull: no place is free and the line is full.
        """
        with self._lock:
            full = len(self._working) >= self._places and len(self._line) >= self._limit
            if full and not always:
                ahead = len(self._line) + 1
                raise QueueFull(self._mean_s * ahead / self._places)
            ticket = Ticket(self, ahead=len(self._working) + len(self._line))
        self.join(ticket)
        return ticket

    def join(self, ticket: Ticket, *, front: bool = False) -> None:
        """Put a ticket into the line."""
        with self._lock:
            if front:
                self._line.appendleft(ticket)
            else:
                self._line.append(ticket)
        self._advance()

    def leave(self, ticket: Ticket) -> None:
        """Take a ticket out, wherever it is."""
        with self._lock:
            if ticket in self._working:
                self._working.discard(ticket)
                took = time.monotonic() - ticket.since
                self._mean_s += _WEIGHT * (took - self._mean_s)
            elif ticket in self._line:
                self._line.remove(ticket)
        self._advance()

    def _advance(self) -> None:
        granted: list[Ticket] = []
        with self._lock:
            while self._line and len(self._working) < self._places:
                ticket = self._line.popleft()
                ticket.since = time.monotonic()
                self._working.add(ticket)
                granted.append(ticket)
        for ticket in granted:
            if not ticket.turn.done():
                ticket.turn.set_result(None)
