"""What a larger catalog costs: warm decisions over a small and a large set of servers, alternating.

python tests/bench/catalogs.py BUNDLE TOOLS SMALL_SET,SMALL_SET,…

TOOLS: a folder of <tool_set>.json files (as `afx eval --tools`); the small catalog is the named
sets of it, the large one all of them. No server is started.
"""
# ruff: noqa: T201

import statistics
import sys
import time
from pathlib import Path

from agentflux import Situation
from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.tools import load_tool_folder
from agentflux.engines.ort import OrtEngine
from agentflux.orchestration.stages import Stages

REQUESTS = [
    "What does notes/plan.md say?",
    "list the files in docs",
    "how many rows has the orders table?",
    "what time is it in Tokyo?",
    "show the last three commits of this repository",
    "remember that Ana likes tea",
]
ROUNDS = 10


def main(bundle: Path, tools: Path, small: list[str]) -> None:
    """Print median milliseconds a decision, and the KV cache that each catalog takes."""
    manifest, everything = read_manifest(bundle), load_tool_folder(tools)
    catalogs = {"small": {name: everything[name] for name in small}, "large": everything}
    engines = {name: OrtEngine(bundle, manifest) for name in catalogs}
    stages = {name: Stages(engines[name], manifest, catalogs[name]) for name in catalogs}
    taken: dict[str, list[float]] = {name: [] for name in catalogs}
    for name in catalogs:
        stages[name].warm_up()
    for turn in range(ROUNDS):
        for request in REQUESTS:
            for name, times in taken.items():
                started = time.perf_counter()
                asked = Situation(request=f"{request} ({turn})")
                stages[name].decide(asked, emit=lambda event: None, cancel=None)
                times.append((time.perf_counter() - started) * 1e3)
    for name, times in taken.items():
        count = sum(map(len, catalogs[name].values()))
        pool = engines[name].pool
        print(
            f"{name}: {len(catalogs[name])} sets, {count} tools, n={len(times)}, "
            f"median {statistics.median(times):.0f} ms, "
            f"KV {pool.bytes / 2**20:.0f} MiB in {pool.lines} lines "
            f"(budget {manifest.runtime.kv_budget_bytes / 2**20:.0f} MiB)"
        )
    small_ms, large_ms = (statistics.median(taken[name]) for name in ("small", "large"))
    print(f"large / small: {large_ms / small_ms:.2f} (bar 1.25)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","))
