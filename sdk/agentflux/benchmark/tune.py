"""Compare ways to run bundles on this machine: each way in a process of its own, in turns.

A process a measurement keeps idle threads of one way from spinning beside another, and gives each
its own memory figure. The ways take turns for several rounds, and medians over the rounds are kept,
so that a slow minute of the machine hits all of them.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentflux.benchmark.machine import allowed_cpus
from agentflux.benchmark.measure import BundleCost, StageCost
from agentflux.contracts.consistency import own_threads
from agentflux.engines.ort import physical_cores
from agentflux.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A bundle and how its session runs. None: as the bundle says."""

    bundle: Path
    threads: int | None = None
    spinning: bool | None = None

    def command(self, calls: int, options: Sequence[str]) -> list[str]:
        """Return the command of one measurement."""
        command = [sys.executable, "-P", "-m", "agentflux.cli", "bench", str(self.bundle), "--json"]
        command += ["--calls", str(calls), *options]
        if self.threads is not None:
            command += ["--threads", str(self.threads)]
        if self.spinning is not None:
            command += ["--spinning" if self.spinning else "--no-spinning"]
        return command


def ways(bundles: Sequence[Path]) -> tuple[Way, ...]:
    """List what is worth trying here: each bundle as it is; then the first with other threads."""
    cores, cpus = physical_cores(), allowed_cpus()
    bundles = list({bundle.resolve(): bundle for bundle in bundles}.values())
    first = bundles[0]
    others = sorted({1, max(1, cores // 2), cores, cpus} - {own_threads(first) or cores})
    return (
        *(Way(bundle=bundle) for bundle in bundles),
        *(Way(bundle=first, threads=count) for count in others),
        Way(bundle=first, spinning=False),
    )


def tune(
    bundles: Sequence[Path],
    *,
    calls: int,
    rounds: int,
    options: Sequence[str] = (),
    on_done: Callable[[], None] = lambda: None,
) -> tuple[BundleCost, ...]:
    """Measure every way in turns and return each one's medians, in the order of `ways`.

    options: further options of `afx bench` for every measurement.

    Raises:
        EngineError: a measurement failed; with the last line that it wrote.
    """
    tried = ways(bundles)
    found: list[list[BundleCost]] = [[] for _ in tried]
    for _ in range(rounds):
        for way, costs in zip(tried, found, strict=True):
            costs.append(_run(way, calls, options))
            on_done()
    return tuple(medians(costs) for costs in found)


def _run(way: Way, calls: int, options: Sequence[str]) -> BundleCost:
    done = subprocess.run(
        way.command(calls, options), capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise EngineError(f"measuring {way.bundle} failed: {lines[-1]}")
    return read_cost(json.loads(done.stdout))


def read_cost(data: dict[str, Any]) -> BundleCost:
    """Read what `BundleCost.to_dict` wrote."""
    stages = tuple(StageCost(**stage) for stage in data["stages"])
    return BundleCost(**{**data, "stages": stages})


def medians(costs: Sequence[BundleCost]) -> BundleCost:
    """Return the first cost with the medians of all in its speeds and sizes."""
    keys = (
        "open_s",
        "warm_up_s",
        "call_median_ms",
        "call_p95_ms",
        "prefill_tokens_per_s",
        "decode_tokens_per_s",
        "resident_bytes",
        "peak_bytes",
    )
    middle: dict[str, Any] = {
        key: statistics.median(getattr(cost, key) for cost in costs) for key in keys
    }
    return replace(costs[0], **middle)
