"""What a larger catalog costs: warm calls over few and over many servers, in turn.

python tests/bench/catalogs.py BUNDLE TOOLS [--small SET,SET,…] [--rounds N] [--out FILE.json]

TOOLS: a folder of <tool_set>.json files (as `afx eval --tools`). The large catalog is all of them,
the small one the sets named, by default those of the desk assistant. The calls are those of
`desk.py`; no server is started. Exit code 1 where the large catalog costs more than 1.25 times as
much, or its KV cache more than the profile's budget. Then, for information, calls that go round
through all sets of the large catalog, more than the budget can keep warm.
"""
# ruff: noqa: T201

import argparse
import statistics
import sys
import time
from pathlib import Path

from desk import REQUESTS, Asked, Steered
from runs import save_result, table

from agentflux.benchmark.machine import resident_bytes
from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.tools import load_tool_folder
from agentflux.engines.ort import OrtEngine
from agentflux.orchestration.stages import Stages

BAR = 1.25
SMALL = "filesystem,git,memory,sqlite,time"
MIB = 2**20


def main(bundle: Path, tools: Path, small: list[str], rounds: int, out: Path | None) -> int:
    """Measure, print and save; return 1 where a bar is missed."""
    manifest, everything = read_manifest(bundle), load_tool_folder(tools)
    catalogs = {"small": {name: everything[name] for name in small}, "large": everything}
    requests = [asked for asked in REQUESTS if asked.tool_set in small]
    budget = manifest.runtime.kv_budget_bytes
    engines = {name: OrtEngine(bundle, manifest) for name in catalogs}
    steered = {name: Steered(engine) for name, engine in engines.items()}
    stages = {name: Stages(steered[name], manifest, catalogs[name]) for name in catalogs}
    taken: dict[str, list[float]] = {name: [] for name in catalogs}
    before = resident_bytes()
    for turn in range(rounds + 1):
        for asked in requests:
            for name, times in taken.items():
                started = time.perf_counter()
                steered[name].decide(stages[name], asked, number=turn)
                if turn:  # the first round warms up
                    times.append((time.perf_counter() - started) * 1e3)
    rows = [
        {
            "catalog": name,
            "sets": len(catalogs[name]),
            "tools": sum(map(len, catalogs[name].values())),
            "n": len(times),
            "median ms": f"{statistics.median(times):.0f}",
            "KV MiB": f"{engines[name].pool.bytes / MIB:.0f}",
            "KV caches": engines[name].pool.lines,
        }
        for name, times in taken.items()
    ]
    print(table(rows))
    ratio = statistics.median(taken["large"]) / statistics.median(taken["small"])
    most = engines["large"].pool.bytes
    around, most_around = go_round(steered["large"], stages["large"], engines["large"])
    held = max(most, most_around)
    print(f"large / small {ratio:.2f} (bar {BAR}); KV cache {held / MIB:.0f} MiB at most")
    print(f"of a budget of {budget / MIB:.0f}; this process grew by both engines' caches to")
    print(f"{resident_bytes() / MIB:.0f} MiB from {before / MIB:.0f}. Round through all sets:")
    print(f"median {statistics.median(around):.0f} ms, n={len(around)}")
    if out is not None:
        figures = {
            "command": "tests/bench/catalogs.py",
            "model": manifest.base_model.id,
            "profile": manifest.runtime.profile,
            "threads": engines["large"].threads,
            "catalogs": rows,
            "ms": {name: [round(ms, 1) for ms in times] for name, times in taken.items()},
            "ratio": round(ratio, 3),
            "kv_budget_mib": budget // MIB,
            "kv_most_mib": held // MIB,
            "round_all_sets_ms": [round(ms, 1) for ms in around],
        }
        save_result(out, figures)
    return int(ratio > BAR or held > budget)


def go_round(
    steered: Steered, stages: Stages, engine: OrtEngine, rounds: int = 2
) -> tuple[list[float], int]:
    """Call a tool of every set in turn; return milliseconds a call and the most KV bytes held."""
    times, most = list[float](), 0
    for turn in range(rounds):
        for name, tools in stages.catalog.items():
            tool = next((t for t in tools if t.takes_arguments), tools[0])
            asked = Asked(
                request=f"{name}: {tool.name} number {turn}", tool_set=name, tool=tool.name
            )
            started = time.perf_counter()
            steered.decide(stages, asked)
            times.append((time.perf_counter() - started) * 1e3)
            most = max(most, engine.pool.bytes)
    return times, most


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("tools", type=Path)
    parser.add_argument("--small", default=SMALL)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sys.exit(main(given.bundle, given.tools, given.small.split(","), given.rounds, given.out))
