"""Wakes the readers of a run's events. The database holds the events themselves."""

import asyncio
from collections import defaultdict


class Hub:
    """Readers wait here; writers notify from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.closed = False

    def notify(self, run_id: str) -> None:
        """Wake the readers of a run. Thread-safe."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, run_id)

    def close(self) -> None:
        """Wake all readers for good: the service stops."""
        self.closed = True
        for run_id in list(self._waiting):
            self._wake(run_id)

    def listen(self, run_id: str) -> "Listener":
        """Begin to listen. Listen first and read the database then, so that nothing is missed."""
        return Listener(self._waiting, run_id)

    def _wake(self, run_id: str) -> None:
        for event in self._waiting.get(run_id, ()):
            event.set()


class Listener:
    """One reader's bell; use it in a `with` block."""

    def __init__(self, waiting: dict[str, set[asyncio.Event]], run_id: str) -> None:
        self._waiting, self._run_id, self._bell = waiting, run_id, asyncio.Event()

    async def heard(self, timeout_s: float) -> bool:
        """Wait for the bell; False after the time."""
        try:
            await asyncio.wait_for(self._bell.wait(), timeout_s)
        except TimeoutError:
            return False
        self._bell.clear()
        return True

    def __enter__(self) -> "Listener":
        self._waiting[self._run_id].add(self._bell)
        return self

    def __exit__(self, *error: object) -> None:
        bells = self._waiting[self._run_id]
        bells.discard(self._bell)
        if not bells:
            del self._waiting[self._run_id]
