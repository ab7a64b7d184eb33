"""Soak: many calls on one agent. Memory must not grow, and the last calls must be as quick.

python tests/bench/soak.py BUNDLE [--calls N] [--out FILE.json]

Decides calls over the desk assistant's tools (with copied arguments, whose grammar is another one
for every request) and stages that abstain; then 16 conversations at once. Exit code 1 where memory
grew by 5 % since call 100, the last hundred calls took 1.1 times as long as the first hundred, or
a conversation took twice as long as another.
"""
# ruff: noqa: T201

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from desk import CONTEXT, REQUESTS, desk_catalog
from runs import save_result

import agentflux
from agentflux.benchmark.machine import resident_bytes

WINDOW = 100
CONVERSATIONS = 16
MIB = 2**20


def main(bundle: Path, calls: int, out: Path | None) -> int:
    """Run, print the figures and return 1 where a bar is missed."""
    tools = [tool for found in desk_catalog().values() for tool in found]
    host = agentflux.ScriptedHost({}, tools=tools)
    with agentflux.open_bundle(bundle, tools=[host]) as agent:
        agent.warm_up()
        decide, made = decider(agent), [0, 0]
        seconds: list[float] = []
        memory: list[int] = []
        for number in range(calls):
            started = time.perf_counter()
            made[decide(number)] += 1
            seconds.append(time.perf_counter() - started)
            memory.append(resident_bytes())
        first, last = (statistics.median(part) for part in (seconds[:WINDOW], seconds[-WINDOW:]))
        grown = memory[-1] / memory[min(WINDOW, calls - 1)]
        print(f"{calls} decisions, {made[True]} with a call over {len(tools)} tools")
        print(f"memory {memory[-1] / MIB:.0f} MiB, x{grown:.3f} since call {WINDOW} (bar 1.05)")
        print(f"median ms: first {WINDOW} {first * 1e3:.1f}, last {WINDOW} {last * 1e3:.1f}")
        print(f"last / first {last / first:.2f} (bar 1.10)")
        ends = together(decide, each=min(10, max(1, calls // 20)))
    fair = len(ends) == CONVERSATIONS and max(ends) < 2 * min(ends)
    print(f"{CONVERSATIONS} conversations: quickest {min(ends):.1f} s, slowest {max(ends):.1f} s")
    if out is not None:
        figures = {
            "command": "tests/bench/soak.py",
            "model": agent.manifest.base_model.id,
            "profile": agent.manifest.runtime.profile,
            "calls": calls,
            "with_a_call": made[True],
            "tools": len(tools),
            "memory_mib": [round(m / MIB, 1) for m in memory[WINDOW::WINDOW]],
            "memory_growth": round(grown, 4),
            "median_ms": [
                round(statistics.median(seconds[at : at + WINDOW]) * 1e3, 1)
                for at in range(0, calls, WINDOW)
            ],
            "last_to_first": round(last / first, 3),
            "conversations_s": [round(end, 2) for end in sorted(ends)],
        }
        save_result(out, figures)
    return int(grown > 1.05 or last / first > 1.10 or not fair)


def decider(agent: agentflux.Agent) -> Callable[[int], bool]:
    """Decide one of the requests by its number; tell whether there was a call."""
    requests = [*(asked.request for asked in REQUESTS), "good morning"]

    def decide(number: int) -> bool:
        request = f"{requests[number % len(requests)]} ({number})"
        situation = agentflux.Situation(request=request, context=CONTEXT)
        return agent.decide(situation).call is not None

    return decide


def together(decide: Callable[[int], bool], each: int) -> list[float]:
    """Let conversations run at once; return when each of them ended, in seconds."""
    ends: list[float] = []
    started = time.perf_counter()

    def converse(number: int) -> None:
        for turn in range(each):
            decide(number + turn)
        ends.append(time.perf_counter() - started)

    threads = [threading.Thread(target=converse, args=(n,)) for n in range(CONVERSATIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sys.exit(main(given.bundle, given.calls, given.out))
