"""A plan of jobs, each in its own process: one that fails does not end the others.

Several jobs with few threads each beat one job with many: on a shared two-core machine two
threads wait for each other at every matrix product (5 to 20 GFLOPS against 45 to 75 on one).
"""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from afx_train.controls import Control
from afx_train.recipe import AdapterPlan

Status = Literal["trained", "skipped", "failed", "not started"]
OnProgress = Callable[[str, dict[str, Any]], None]
_TAIL_LINES = 12
# glibc gives each large activation back to the system and faults it in again: 5 to 10 % of the
# time. Beyond half a GiB at the end of the heap it may: a batch of long rows is not held for ever.
_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "536870912"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How one job ended. place: where it ran, where that is not this machine."""

    name: str
    status: Status
    message: str = ""
    scores: dict[str, float] = field(default_factory=dict[str, float])
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What every worker of a run gets.

    retries: how often a job whose process died is taken up again where it stood. A job that says
    why it failed is not tried again: it would fail for the same reason. gpus: as
    CUDA_VISIBLE_DEVICES names them; each running job gets one of its own. broken_off: set when the
    run ends early; of the process that started it.
    """

    recipe: Path
    out: Path
    threads: int
    resume: bool
    retries: int = 0
    control: Control | None = None
    gpus: tuple[str, ...] = ()
    broken_off: threading.Event | None = field(default=None, compare=False)

    @property
    def is_broken_off(self) -> bool:
        """Whether nothing should be started any more."""
        return self.broken_off is not None and self.broken_off.is_set()


Runner = Callable[[AdapterPlan, Launch, OnProgress], JobResult]
# The job's result, or how its process died.
Attempt = Callable[[AdapterPlan, Launch, OnProgress], JobResult | str]


def run_plan(  # noqa: PLR0913 - facts of a run
    plans: Sequence[AdapterPlan],
    launch: Launch,
    *,
    workers: int,
    on_progress: OnProgress,
    on_result: Callable[[JobResult], None],
    runner: Runner | None = None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> list[JobResult]:
    """Run jobs in order, `workers` at a time; a warm start waits for its origin.

    on_interrupt: called where the run is broken off, so that jobs elsewhere end as well. What a
    job then died of is no reason to take it up again.
    """
    broken_off = threading.Event()

    def broken() -> None:
        broken_off.set()
        on_interrupt()

    launch = replace(launch, broken_off=broken_off)
    start = runner or run_in_process
    results: dict[str, JobResult] = {}
    waiting, running = deque(plans), dict[Future[JobResult], tuple[str, tuple[str, ...]]]()
    free: deque[tuple[str, ...]] = deque((gpu,) for gpu in launch.gpus)
    workers = min(workers, len(free)) if free else workers
    planned = {plan.name for plan in plans}
    with ThreadPoolExecutor(max_workers=workers) as pool, _told(broken):
        while waiting or running:
            for plan in _ready(waiting, results, planned, workers - len(running)):
                waiting.remove(plan)
                if (lost := not_started(plan, results)) is not None:
                    results[plan.name] = lost
                    on_result(lost)
                else:
                    gpu = free.popleft() if free else ()
                    own = replace(launch, gpus=gpu)
                    running[pool.submit(start, plan, own, on_progress)] = plan.name, gpu
            done, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), set())
            for future in done:
                name, gpu = running.pop(future)
                results[name] = future.result()
                if gpu:
                    free.append(gpu)
                on_result(future.result())
    return [results[plan.name] for plan in plans]


def not_started(plan: AdapterPlan, results: Mapping[str, JobResult]) -> JobResult | None:
    """The result of a job whose origin failed; None where nothing speaks against a start."""
    origin = results.get(plan.origin or "")
    if origin is None or origin.status in ("trained", "skipped"):
        return None
    message = f"it starts from {plan.origin!r}, which failed"
    return JobResult(name=plan.name, status="not started", message=message)


def run_in_process(plan: AdapterPlan, launch: Launch, on_progress: OnProgress) -> JobResult:
    """Run a job in a process of its own and read its progress; again if the process dies."""
    return retried(_attempt, plan, launch, on_progress)


def retried(
    attempt: Attempt, plan: AdapterPlan, launch: Launch, on_progress: OnProgress
) -> JobResult:
    """Attempt a job; where its process died, take it up again up to `launch.retries` times."""
    result = attempt(plan, launch, on_progress)
    for _ in range(launch.retries):
        if isinstance(result, JobResult) or launch.is_broken_off:
            break
        result = attempt(plan, replace(launch, resume=True), on_progress)
    if isinstance(result, JobResult):
        return result
    return JobResult(name=plan.name, status="failed", message=result)


def job_process(
    plan: AdapterPlan, launch: Launch
) -> Generator[dict[str, Any], None, JobResult | str]:
    """Run a job once in a process of its own: yield its progress, return how it ended or died."""
    command = [sys.executable, "-P", "-m", "afx_train.worker", str(launch.recipe), plan.name]
    command += [str(launch.out), str(launch.threads), "resume" if launch.resume else "anew"]
    command += [launch.control or "as-is"]
    env = _HEAP | os.environ | {"OMP_NUM_THREADS": str(launch.threads), "PYTHONWARNINGS": "ignore"}
    if launch.gpus:
        env["CUDA_VISIBLE_DEVICES"] = launch.gpus[0]
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        drain = threading.Thread(target=lambda: tail.extend(process.stderr or ()), daemon=True)
        drain.start()
        finished = False
        try:
            result = yield from _read(process.stdout or [], plan.name)
            finished = True
        finally:
            if not finished:
                process.terminate()
        drain.join()
    if result is not None:
        return result
    return f"its process ended with {process.returncode}: {''.join(tail).strip()[-600:]}"


def _attempt(plan: AdapterPlan, launch: Launch, on_progress: OnProgress) -> JobResult | str:
    with closing(job_process(plan, launch)) as events:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                ended: JobResult | str = end.value
                return ended
            if launch.is_broken_off:
                return "the run was broken off"
            on_progress(plan.name, event)


def _read(lines: Iterable[str], name: str) -> Generator[dict[str, Any], None, JobResult | None]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if "progress" in event:
            yield event["progress"]
        elif "failed" in event:
            return JobResult(name=name, status="failed", message=event["failed"])
        elif "done" in event:
            status: Status = "skipped" if event["done"]["skipped"] else "trained"
            long, every = event["done"]["too_long"]
            told = f"{long} of {every} examples are over max_row_tokens and were left out"
            return JobResult(
                name=name,
                status=status,
                scores=event["done"]["scores"],
                message=told if long and status == "trained" else "",
            )
    return None


@contextmanager
def _told(on_interrupt: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        on_interrupt()
        raise


def _ready(
    waiting: deque[AdapterPlan], results: dict[str, JobResult], planned: set[str], free: int
) -> list[AdapterPlan]:
    """The next jobs whose warm start is finished or not part of this run."""

    def ready() -> Iterator[AdapterPlan]:
        for plan in waiting:
            origin = plan.origin
            if origin is None or origin in results or origin not in planned:
                yield plan

    return [plan for plan, _ in zip(ready(), range(free), strict=False)]
