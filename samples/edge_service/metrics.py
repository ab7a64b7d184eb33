"""Counters for Prometheus, and the last samples for the page's chart."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.types import Scope

from agentflux import StageRecord
from edge_service.work import WorkQueue

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
KEPT_STAGES = 60
KEPT_MEMORY = 120


class Metrics:
    """All that the service counts. Thread-safe. Labels hold no names that clients choose."""

    def __init__(self, queue: WorkQueue) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "afx_http_requests", "answers", ["route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "afx_http_seconds", "to the end", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._stage_seconds = Histogram(
            "afx_stage_seconds", "model time", ["stage"], buckets=_SECONDS, registry=self.registry
        )
        self._tokens = Counter("afx_tokens", "of stages", ["kind"], registry=self.registry)
        self._runs = Counter("afx_runs", "ended runs", ["status"], registry=self.registry)
        self._calls = Counter("afx_tool_calls", "made", ["error"], registry=self.registry)
        waiting = Gauge("afx_queue_waiting", "waiting requests", registry=self.registry)
        waiting.set_function(lambda: queue.waiting)
        working = Gauge("afx_queue_working", "requests with a place", registry=self.registry)
        working.set_function(lambda: queue.working)
        memory = Gauge("afx_memory_bytes", "resident, all processes", registry=self.registry)
        memory.set_function(lambda: resident_bytes() or 0)
        self._lock = threading.Lock()
        self._recent: deque[dict[str, object]] = deque(maxlen=KEPT_STAGES)
        self._memory: deque[tuple[float, int]] = deque(maxlen=KEPT_MEMORY)

    def http(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer, by the route's template."""
        route = getattr(scope.get("route"), "path", "(none)")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def stages(self, records: Iterable[StageRecord]) -> None:
        """Count stages and keep them for the chart."""
        for record in records:
            usage = record.usage
            self._stage_seconds.labels(record.stage).observe(usage.ms / 1e3)
            self._tokens.labels("prefilled").inc(usage.prefill_tokens)
            self._tokens.labels("reused").inc(usage.reused_tokens)
            self._tokens.labels("decoded").inc(usage.decoded_tokens)
            row = {"stage": record.stage, "ms": round(usage.ms, 1), "at": time.time()}
            with self._lock:
                self._recent.append(row)

    def call(self, *, is_error: bool) -> None:
        """Count a tool call."""
        self._calls.labels(str(is_error).lower()).inc()

    def run_ended(self, status: str) -> None:
        """Count a run."""
        self._runs.labels(status).inc()

    def sample_memory(self) -> None:
        """Keep the resident memory of now, where the system tells it. Blocks for milliseconds."""
        if (resident := resident_bytes()) is not None:
            with self._lock:
                self._memory.append((time.time(), resident))

    def recent(self) -> tuple[list[dict[str, object]], list[tuple[float, int]]]:
        """Return the last stages and the last samples of memory, oldest first."""
        with self._lock:
            return list(self._recent), list(self._memory)

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)


def resident_bytes() -> int | None:
    """Return the resident memory of this process and those below it: the model's, the tools'.

    None where /proc does not tell it. Pages that processes share count in each.
    """
    if sys.platform != "linux":
        return None
    pages: dict[int, int] = {}
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold spaces: man 5 proc.
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        process = int(stat.parent.name)
        pages[process] = int(fields[21])
        below.setdefault(int(fields[1]), []).append(process)
    family = [os.getpid()]
    for process in family:
        family += below.get(process, ())
    return sum(pages.get(process, 0) for process in family) * os.sysconf("SC_PAGE_SIZE")
