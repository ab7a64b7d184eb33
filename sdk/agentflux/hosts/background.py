"""An event loop on a thread of its own, for asynchronous libraries behind a synchronous API."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future, wait
from typing import Any, TypeVar

T = TypeVar("T")


class LoopStopped(Exception):
    """The loop was stopped before the coroutine ended."""


class BackgroundLoop:
    """Runs coroutines for callers on other threads. The thread does not keep the program alive."""

    def __init__(self, name: str) -> None:
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting: set[Future[Any]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        self._ready.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for the coroutine's result. An interrupted caller cancels it.

        Raises:
            LoopStopped: `stop` came first.
        """
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise LoopStopped
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        try:
            return future.result()
        except CancelledError as error:
            raise LoopStopped from error
        finally:
            future.cancel()

    def stop(self, *, timeout_s: float) -> None:
        """End the thread. What still runs may end within the limit, then it is cancelled."""
        with self._lock:
            self._stopped = True
            waiting = tuple(self._waiting)
        wait(waiting, timeout_s)
        for future in waiting:
            future.cancel()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout_s)

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._stop.wait()
