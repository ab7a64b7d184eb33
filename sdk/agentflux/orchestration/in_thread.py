"""A blocking run behind an async call, on a thread of its own.

asyncio's own pool is small: a few runs that wait for approvals would hold all of it.
"""

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from agentflux.ports import CancelToken

T = TypeVar("T")


async def in_thread(work: Callable[[], T], cancel: CancelToken) -> T:
    """Await the work's result. Cancelling the task sets `cancel`; the work ends soon after."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again in the awaiting task
            _tell(loop, partial(_fail, done, error))
        else:
            _tell(loop, partial(_succeed, done, result))

    inside = copy_context().run  # the caller's context variables
    threading.Thread(target=inside, args=(run,), name="agentflux run", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        cancel.cancel()
        done.add_done_callback(_retrieved)
        raise


def _tell(loop: asyncio.AbstractEventLoop, outcome: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(outcome)
    except RuntimeError:
        return  # the loop was closed; nobody waits any more


def _succeed(done: "asyncio.Future[T]", result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[T]", error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


def _retrieved(done: "asyncio.Future[T]") -> None:
    if not done.cancelled():
        done.exception()
