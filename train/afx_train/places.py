"""Where jobs run: on this machine, in the processes of a launcher, on a Ray cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from afx_train.jobs import JobResult, Launch, OnProgress, run_plan
from afx_train.recipe import AdapterPlan

if TYPE_CHECKING:
    from afx_train.ranks import Ranks

On = Literal["here", "ray"]
PLACES: tuple[On, ...] = ("here", "ray")


class RunJobs(Protocol):
    """Runs the jobs of a plan and returns their results in the plan's order."""

    def __call__(
        self,
        plans: Sequence[AdapterPlan],
        launch: Launch,
        *,
        on_progress: OnProgress,
        on_result: Callable[[JobResult], None],
    ) -> list[JobResult]:
        """Run them; see `jobs.run_plan`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """A place that is ready. threads: of a job. gpus: as CUDA_VISIBLE_DEVICES names them.

    reports: whether this process tells how the run ended; of a launcher's processes one does.
    """

    name: str
    workers: int
    threads: int
    run: RunJobs
    gpus: tuple[str, ...] = ()
    reports: bool = True

    def __str__(self) -> str:
        """As `2 at a time, 1 thread each, here`."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.workers} at a time, {threads} each, {self.name}"


@contextmanager
def workplace(on: On, out: Path, workers: int, threads: int, jobs: int) -> Iterator[Workplace]:
    """Prepare a place for so many jobs. out: the output folder.

    workers, threads: 0 for what suits the place.

    Raises:
        MissingExtra: ray is not installed.
        ClusterUnavailable: there is no cluster to join.
    """
    if on == "ray":
        yield from _on_ray(out, workers, threads, jobs)
        return
    from afx_train import ranks

    if ranks.launched():
        with ranks.joined() as joined:
            yield _of_launcher(joined, threads)
    else:
        yield _here(workers, threads, jobs)


def _on_ray(out: Path, workers: int, threads: int, jobs: int) -> Iterator[Workplace]:
    from afx_train.cluster import joined

    with joined(out) as cluster:
        workers, threads = cluster.share(workers, threads)
        workers = min(workers, jobs)
        run = partial(run_plan, workers=workers, runner=cluster.run, on_interrupt=cluster.cancel)
        nodes = "1 node" if cluster.nodes == 1 else f"{cluster.nodes} nodes"
        yield Workplace(name=f"on Ray, {nodes}", workers=workers, threads=threads, run=run)


def _of_launcher(joined: "Ranks", threads: int) -> Workplace:
    gpus = _gpus()
    return Workplace(
        name=f"process {joined.rank + 1} of {joined.count}",
        workers=1,
        threads=threads or max(1, _cores() // joined.local_count),
        run=joined.run,
        gpus=(gpus[joined.local % len(gpus)],) if gpus else (),
        reports=joined.rank == 0,
    )


def _here(workers: int, threads: int, jobs: int) -> Workplace:
    """Default: on a CPU one job a core with one thread each; otherwise one job a GPU."""
    gpus, cores = _gpus(), _cores()
    workers = max(1, min(workers or len(gpus) or cores, jobs))
    return Workplace(
        name="here",
        workers=workers,
        threads=threads or max(1, cores // workers),
        run=partial(run_plan, workers=workers),
        gpus=gpus,
    )


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def _gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return ()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    count = torch.cuda.device_count()
    return tuple(named[:count]) if named[0] else tuple(str(number) for number in range(count))
