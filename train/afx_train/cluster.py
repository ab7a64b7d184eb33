"""Jobs on a Ray cluster: one task an adapter, wherever a core or a GPU is free.

A node runs the same worker process as this machine would and streams its progress back, so the
artifacts are the same. Recipe, data, base model and output folder have to lie on storage that all
nodes share under the same path; a job whose process dies goes on from its checkpoint there.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from afx_train.errors import ClusterUnavailable
from afx_train.jobs import JobResult, Launch, OnProgress, job_process, retried
from afx_train.recipe import AdapterPlan
from agentflux.errors import MissingExtra

_NODE_CHARS = 8
_KNOCK_S = 10.0


class RayCluster:
    """A joined cluster. What it has when the run starts says how many jobs go at a time."""

    def __init__(self, ray: Any, shared: Path) -> None:  # noqa: ANN401
        self._ray, self._mark = ray, shared / f".shared-{uuid4().hex[:12]}"
        self._running = set[Any]()
        found = ray.cluster_resources()
        self.cpus, self.gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.nodes, self._largest = len(alive), int(max(one.get("CPU", 0) for one in alive))
        if not self.cpus:
            raise ClusterUnavailable("the Ray cluster has no CPUs to run jobs on")

    def share(self, workers: int, threads: int) -> tuple[int, int]:
        """Jobs at a time and threads a job; 0 stands for what suits: one a GPU, or one a core.

        Raises:
            ClusterUnavailable: no node has so many cores; Ray would wait for one for ever.
        """
        if threads > self._largest:
            raise ClusterUnavailable(
                f"--threads {threads}: the largest node has {self._largest} CPUs"
            )
        workers = workers or max(1, self.gpus or self.cpus // max(1, threads))
        return workers, threads or max(1, min(self._largest, self.cpus // workers))

    @contextmanager
    def marked(self) -> Iterator[None]:
        """Leave a file in the shared folder by which nodes tell that they see it."""
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()
        try:
            yield
        finally:
            self._mark.unlink(missing_ok=True)

    def run(self, plan: AdapterPlan, launch: Launch, on_progress: OnProgress) -> JobResult:
        """Run a job on some node; again, maybe on another one, if its process dies.

        Progress says as `place` where it is made.
        """
        return retried(self._attempt, plan, launch, on_progress)

    def cancel(self) -> None:
        """End the running jobs."""
        for task in tuple(self._running):
            self._ray.cancel(task)

    def _attempt(
        self, plan: AdapterPlan, launch: Launch, on_progress: OnProgress
    ) -> JobResult | str:
        remote = self._ray.remote(_on_node).options(
            num_cpus=launch.threads,
            num_gpus=1 if self.gpus else 0,
            num_returns="streaming",
            scheduling_strategy="SPREAD",
            max_retries=0,  # taken up again by us, from the checkpoint
        )
        place, death = "", "the task gave no result"
        task = remote.remote(plan, replace(launch, broken_off=None), self._mark)
        self._running.add(task)
        try:
            for reference in task:
                item = self._ray.get(reference)
                if isinstance(item, JobResult):
                    return replace(item, place=place)
                if isinstance(item, dict):
                    on_progress(plan.name, item | {"place": place})
                elif not place:
                    place = item
                else:
                    death = item
        except self._ray.exceptions.RayError as error:
            death = _reason(error)
        finally:
            self._running.discard(task)
        return f"node {place}: {death}" if place else death


@contextmanager
def joined(shared: Path) -> Iterator[RayCluster]:
    """Join the cluster that RAY_ADDRESS names, or the one that runs on this machine.

    shared: the output folder.

    Raises:
        MissingExtra: ray is not installed.
        ClusterUnavailable: there is no cluster, or it has no CPUs.
    """
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise MissingExtra("ray", extra="train-ray") from error
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError, SystemExit) as error:
        raise ClusterUnavailable(
            f"no Ray cluster answers at {address!r}; start one with `ray start --head`, "
            "or set RAY_ADDRESS to its HOST:PORT"
        ) from error
    try:
        cluster = RayCluster(ray, shared)
        with cluster.marked():
            yield cluster
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError or ValueError where nobody listens: Ray would try for two minutes and exit."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def _on_node(
    plan: AdapterPlan, launch: Launch, mark: Path
) -> Iterator[str | dict[str, Any] | JobResult]:
    """Run a job on the node where this is called: the node's name, its progress, its result.

    The last item is a text where the worker process died, as `job_process` words it.
    """
    node: str = import_module("ray").get_runtime_context().get_node_id()[:_NODE_CHARS]
    yield node
    if not mark.is_file():
        message = f"node {node} does not see {mark.parent}; --out has to be on shared storage"
        yield JobResult(name=plan.name, status="failed", message=message)
        return
    ended = yield from job_process(plan, launch)
    yield ended


def _reason(error: Exception) -> str:
    """The cause in one line; Ray's own texts span a page."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or [''])[-1][:300]}"
