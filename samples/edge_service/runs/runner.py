"""Starts, resumes, cancels and answers runs: a thread for each, a place in the line while it works.

What a run needs to go on after a crash is on disk before it matters: its events in the database,
its calls in the SDK's journal.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from edge_service.runs.execution import Active, Execution
from edge_service.runs.schema import RunRequest
from edge_service.work import WAKE_S, QueueFull, Ticket, WorkQueue

_TOO_MANY_OPEN_S = 10.0
_LAST_WORDS_S = 5.0


class Runner:
    """All methods are called on the event loop."""

    def __init__(self, execution: Execution, queue: WorkQueue) -> None:
        self._execution, self._queue = execution, queue
        self._limit = execution.settings.open_runs
        self._threads = ThreadPoolExecutor(self._limit, thread_name_prefix="run")
        self._active: dict[str, Active] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.hub = execution.hub

    def submit(self, tenant: str, asked: RunRequest) -> str:
        """Store a run, put it into the line and return its id.

        Raises:
            QueueFull: the line is full, or too many runs are open.
        """
        if len(self._active) >= self._limit:
            raise QueueFull(_TOO_MANY_OPEN_S)
        ticket = self._queue.enter()
        try:
            run_id = self._execution.store.create(tenant, asked)
        except BaseException:
            ticket.leave()
            raise
        self._start(run_id, ticket, resumed=False)
        return run_id

    def recover(self) -> int:
        """Go on with the runs that the last process left open; return how many."""
        # Runs may have been submitted since the service listens.
        left = [run for run in self._execution.store.unfinished() if run not in self._active]
        for run_id in left:
            self._start(run_id, self._queue.enter(always=True), resumed=True)
        return len(left)

    def answer(self, run_id: str, call_id: str, *, approve: bool) -> bool:
        """Answer the pending call; False where it is not pending (any more)."""
        active = self._active.get(run_id)
        question = active.question if active is not None else None
        if question is None or question.call.call_id != call_id or question.answered.is_set():
            return False
        question.approve = approve
        question.answered.set()
        return True

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop, wherever it is; the wish outlives a restart."""
        self._execution.store.ask_to_cancel(run_id)
        if (active := self._active.get(run_id)) is not None:
            active.cancel.cancel()

    async def drain(self, seconds: float) -> None:
        """Let working runs end; interrupt those that wait, and all others after the time.

        An interrupted run stays open in the database and goes on after the next start.
        """
        for active in list(self._active.values()):
            if active.question is not None or not active.ticket.turn.done():
                _interrupt(active)
        await self._ended(seconds)
        for active in list(self._active.values()):
            _interrupt(active)
        await self._ended(_LAST_WORDS_S)
        self.hub.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ended(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=seconds)

    def _start(self, run_id: str, ticket: Ticket, *, resumed: bool) -> None:
        active = Active(run_id, ticket)
        self._active[run_id] = active
        task = asyncio.get_running_loop().create_task(self._execute(active, resumed=resumed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, active: Active, *, resumed: bool) -> None:
        turn = asyncio.wrap_future(active.ticket.turn)
        try:
            while not turn.done() and not active.cancel.cancelled:
                await asyncio.wait({turn}, timeout=WAKE_S)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(
                self._threads, lambda: self._execution.work(active, resumed=resumed)
            )
        finally:
            active.ticket.leave()
            self._active.pop(active.id, None)
            self.hub.notify(active.id)


def _interrupt(active: Active) -> None:
    active.interrupted = True
    active.cancel.cancel()
