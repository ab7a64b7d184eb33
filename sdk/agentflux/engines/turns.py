"""One native model, many conversations: they take turns in the order in which they came."""

import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

from agentflux.errors import EngineBusy
from agentflux.ports import CancelToken, check_cancelled

MAX_WAITING = 64
_POLL_S = 0.1


class Turns:
    """A fair lock: first come, first served, with a bounded queue.

    A conversation asks again for each of its stages, so many conversations advance side by side
    and none waits for more than one stage of each other.
    """

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def take(self, cancel: CancelToken | None = None) -> Generator[None]:
        """Hold the model.

        Raises:
            EngineBusy: too many wait already. Cancelled: `cancel` was set while this waited.
        """
        ticket = object()
        self._enter(ticket)
        try:
            with self._changed:
                while self._queue[0] is not ticket:
                    check_cancelled(cancel)
                    self._changed.wait(None if cancel is None else _POLL_S)
            yield
        finally:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _enter(self, ticket: object) -> None:
        with self._changed:
            if len(self._queue) > self._max_waiting:
                raise EngineBusy(waiting=len(self._queue) - 1)
            self._queue.append(ticket)
