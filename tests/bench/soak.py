"""Soak: many calls on one agent. Memory must not grow, and the last calls must be as quick.

python tests/bench/soak.py BUNDLE [CALLS]        # 2000 calls; then 16 conversations at once
"""
# ruff: noqa: T201

import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import agentflux

REQUESTS = [
    "What does notes/plan.md say?",
    "list the files in docs",
    "what time is it in Tokyo?",
    "show me the size of data.csv",
    "good morning",
]
WINDOW = 100


@agentflux.tool(read_only=True)
def read_text_file(path: str) -> str:
    """Read the complete contents of a file as text."""
    return f"{path} says hello"


@agentflux.tool(read_only=True)
def list_directory(path: str) -> str:
    """List the files of a folder."""
    return "a.txt b.txt"


@agentflux.tool(read_only=True)
def get_current_time(timezone: str) -> str:
    """Get the current time in a time zone."""
    return "12:00"


def main(bundle: str, calls: int) -> int:
    """Run, print the figures and return 1 where a bar is missed."""
    tools = [
        agentflux.LocalTools("filesystem", [read_text_file, list_directory]),
        agentflux.LocalTools("time", [get_current_time]),
    ]
    with agentflux.open_bundle(bundle, tools=tools) as agent:
        agent.warm_up()
        decide = decider(agent)
        seconds: list[float] = []
        memory: list[int] = []
        for number in range(calls):
            started = time.perf_counter()
            decide(number)
            seconds.append(time.perf_counter() - started)
            memory.append(resident_bytes())
        first, last = (statistics.median(part) for part in (seconds[:WINDOW], seconds[-WINDOW:]))
        grown = memory[-1] / memory[min(WINDOW, calls - 1)]
        print(f"{calls} calls: memory x{grown:.3f} since call {WINDOW} (bar 1.05)")
        print(f"median ms: first {WINDOW} {first * 1e3:.1f}, last {WINDOW} {last * 1e3:.1f}")
        print(f"last / first {last / first:.2f} (bar 1.10)")
        fair = together(decide, each=min(10, max(1, calls // 20)))
    return int(grown > 1.05 or last / first > 1.10 or not fair)


def decider(agent: agentflux.Agent) -> Callable[[int], None]:
    """Decide one of the requests by its number."""

    def decide(number: int) -> None:
        request = f"{REQUESTS[number % len(REQUESTS)]} ({number})"
        agent.decide(agentflux.Situation(request=request))

    return decide


def together(decide: Callable[[int], None], conversations: int = 16, each: int = 10) -> bool:
    """Let conversations run at once; none may take twice as long as the quickest."""
    ends: list[float] = []
    started = time.perf_counter()

    def converse(number: int) -> None:
        for turn in range(each):
            decide(number + turn)
        ends.append(time.perf_counter() - started)

    threads = [threading.Thread(target=converse, args=(n,)) for n in range(conversations)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{conversations} conversations: quickest {min(ends):.1f} s, slowest {max(ends):.1f} s")
    return len(ends) == conversations and max(ends) < 2 * min(ends)


def resident_bytes() -> int:
    """Memory of this process, as Linux counts it."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000))
