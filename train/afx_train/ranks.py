"""Jobs shared out among the processes of `accelerate launch` or `torchrun`, one device each.

Every process takes the next job that nobody has: the launcher's key-value store says which. A job
runs in the same worker process as elsewhere, so the artifacts are the same.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

from torch.distributed.rendezvous import rendezvous

from afx_train.jobs import JobResult, Launch, OnProgress, Runner, not_started, run_in_process
from afx_train.recipe import AdapterPlan

_POLL_S = 0.2


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


class Store(Protocol):
    """What is used of torch's key-value store between the processes of a launch."""

    def set(self, key: str, value: str, /) -> None:
        """Write a value."""
        ...

    def get(self, key: str, /) -> bytes:
        """Read a value that is there."""
        ...

    def add(self, key: str, amount: int, /) -> int:
        """Add to a counter and return it, in one step for all processes."""
        ...

    def check(self, keys: list[str], /) -> bool:
        """Whether all the keys are there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The processes of one launch, and this one's place among them.

    store: theirs in common. launch: tells this launch's keys from those of one before a restart.
    """

    store: Store
    rank: int
    count: int
    launch: str = "0"

    @property
    def local(self) -> int:
        """This process's number on its machine: it takes the GPU of that number."""
        return int(os.environ.get("LOCAL_RANK", self.rank))

    @property
    def local_count(self) -> int:
        """Processes on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.count))

    def run(
        self,
        plans: Sequence[AdapterPlan],
        launch: Launch,
        *,
        on_progress: OnProgress,
        on_result: Callable[[JobResult], None],
        runner: Runner = run_in_process,
    ) -> list[JobResult]:
        """Run this process's part of a plan; return when all parts have ended, with all results.

        on_progress, on_result: of the jobs that ran here.
        """
        results: dict[str, JobResult] = {}
        others = set[str]()
        while len(results) < len(plans):
            self._collect(plans, results)
            plan = self._next(plans, results, others)
            if plan is None:
                time.sleep(_POLL_S)
                continue
            done = not_started(plan, results) or runner(plan, launch, on_progress)
            results[plan.name] = done
            self.store.set(self._key("result", plan), json.dumps(asdict(done)))
            on_result(done)
        return [results[plan.name] for plan in plans]

    def _collect(self, plans: Sequence[AdapterPlan], results: dict[str, JobResult]) -> None:
        for plan in plans:
            key = self._key("result", plan)
            if plan.name not in results and self.store.check([key]):
                results[plan.name] = JobResult(**json.loads(self.store.get(key)))

    def _next(
        self, plans: Sequence[AdapterPlan], results: dict[str, JobResult], others: set[str]
    ) -> AdapterPlan | None:
        """Claim the first job that is free and whose origin is done or not part of this run."""
        planned = {plan.name for plan in plans}
        for plan in plans:
            ready = plan.origin not in planned or plan.origin in results
            if plan.name in results or plan.name in others or not ready:
                continue
            if self.store.add(self._key("claim", plan), 1) == 1:
                return plan
            others.add(plan.name)
        return None

    def leave(self) -> None:
        """Wait, where this process may hold the store, until the others need it no more."""
        left = self.store.add(f"afx_train/{self.launch}/left", 1)
        while self.rank == 0 and left < self.count:
            time.sleep(_POLL_S)
            left = self.store.add(f"afx_train/{self.launch}/left", 0)

    def _key(self, kind: str, plan: AdapterPlan) -> str:
        return f"afx_train/{self.launch}/{kind}/{plan.name}"


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meet the launch's other processes; at the end none leaves before all have what they need."""
    store, rank, count = next(iter(rendezvous("env://")))
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    ranks = Ranks(store=store, rank=rank, count=count, launch=again)
    yield ranks
    ranks.leave()
