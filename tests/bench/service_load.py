"""Load on loopback: many clients on the real service with the sample's bundle.

    python tests/bench/service_load.py BUNDLE [--clients 32] [--seconds 300] [--out FILE]

First, in turns, the same decision by the embedded SDK and through the service: what the service
adds to a call. Then the load: answers by status, the time to the first event against the place in
the line (`X-Queue-Position`), memory. Ends with 1 where a bar of `BARS` is missed.
"""

import argparse
import asyncio
import collections
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))
from service.support import Service, start

import agentflux

# times the single client's first event times the place in the line, at the 95th percentile
SLOWER = 2.0
OVERHEAD_PERCENT = 5.0
GROWTH_PERCENT = 5.0
MEMORY_EVERY_S = 5.0
TEXT = {"type": "string"}


def function(tool_set: str, name: str, description: str, *properties: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": dict.fromkeys(properties, TEXT),
        "required": list(properties),
    }
    return {
        "name": f"{tool_set}__{name}",
        "description": description,
        "parameters": schema,
    }


FUNCTIONS = (
    function("time", "get_current_time", "Get current time in a specific timezone.", "timezone"),
    function(
        "time",
        "convert_time",
        "Convert time between timezones.",
        *("source_timezone", "time", "target_timezone"),
    ),
    function("filesystem", "read_text_file", "Read the complete contents of a file.", "path"),
    function("filesystem", "list_directory", "List the files of a directory.", "path"),
    function("filesystem", "create_directory", "Create a new directory.", "path"),
    function("git", "git_status", "Shows the working tree status.", "repo_path"),
    function("git", "git_create_branch", "Creates a new branch.", "repo_path", "branch_name"),
)
NOUNS = ("letters", "plans", "orders", "bills", "recipes", "photos", "notes", "tickets", "songs")
CITIES = ("Tokyo", "Paris", "Dubai", "London", "Oslo", "Lima", "Cairo", "Quito", "Delhi", "Rome")


def request(number: int) -> str:
    """Return a request that was not made before: what it says has to be computed."""
    city, noun = CITIES[number % len(CITIES)], NOUNS[number % len(NOUNS)]
    asks = (
        f"What time is it in {city} right now? My train number {number} leaves soon.",
        f"Read the file {noun}/{city.lower()}-{number}.txt to me",
        f"Make a folder called {noun}-{number} for everything about {city}",
        f"Show me what is in the folder {noun}/{number}",
    )
    return asks[number % len(asks)]


def body(model: str, number: int) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": request(number)}],
        "tools": [{"type": "function", "function": each} for each in FUNCTIONS],
        "tool_choice": "required",
        "stream": True,
    }


def specs() -> list[agentflux.ToolSpec]:
    found = []
    for each in FUNCTIONS:
        tool_set, _, name = each["name"].partition("__")
        described, schema = each["description"], each["parameters"]
        found.append(
            agentflux.ToolSpec(
                tool_set=tool_set, name=name, description=described, input_schema=schema
            )
        )
    return found


@dataclass
class Seen:
    """What clients saw. first: seconds to the first event, and place in the line.

    stages_s: seconds of each answer's stages, as the service told them.
    """

    status: collections.Counter[int] = field(default_factory=collections.Counter)
    first: list[tuple[float, int]] = field(default_factory=list)
    stages_s: list[float] = field(default_factory=list)
    unfinished: int = 0
    without_call: int = 0


async def ask(http: httpx.AsyncClient, model: str, number: int, seen: Seen) -> float:
    """Make one request; return the seconds to wait before the next."""
    began, first, done, called = time.perf_counter(), 0.0, False, False
    async with http.stream("POST", "/v1/chat/completions", json=body(model, number)) as answer:
        seen.status[answer.status_code] += 1
        async for line in answer.aiter_lines():
            first = first or time.perf_counter() - began
            done = done or line == "data: [DONE]"
            called = called or '"tool_calls"' in line
            if '"agentflux"' in line:
                told = json.loads(line.removeprefix("data: "))["agentflux"]["stages"]
                seen.stages_s.append(sum(stage["ms"] for stage in told) / 1e3)
    if answer.status_code == 200:
        seen.unfinished += not done
        seen.without_call += not called
        seen.first.append((first, int(answer.headers["X-Queue-Position"])))
    return float(answer.headers["Retry-After"]) if answer.status_code == 429 else 0.0


def connect(service: Service) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {service.key}"}
    return httpx.AsyncClient(base_url=service.url, headers=headers, timeout=300)


async def load(service: Service, model: str, clients: int, seconds: float) -> tuple[Seen, list]:
    seen, began = Seen(), time.monotonic()
    memory: list[tuple[float, float]] = []

    async def client(index: int) -> None:
        number = 1_000_000 * (index + 1)
        async with connect(service) as http:
            while time.monotonic() - began < seconds:
                await asyncio.sleep(await ask(http, model, number, seen))
                number += 1

    async def watch() -> None:
        async with connect(service) as http:
            while time.monotonic() - began < seconds:
                sample = (await http.get("/v1/stats")).json()["memory"][-1]["bytes"] / 1e6
                memory.append((time.monotonic() - began, sample))
                await asyncio.sleep(MEMORY_EVERY_S)

    await asyncio.gather(watch(), *(client(index) for index in range(clients)))
    return seen, memory


async def compare(service: Service, model: str, bundle: Path, pairs: int) -> dict[str, Any]:
    """In turns: a decision by the embedded SDK, the same through the service. Both warm."""
    embedded, served, seen, tools = [], [], Seen(), specs()
    stages_s: list[float] = []
    with agentflux.open_bundle(bundle, threads=2) as agent:
        async with connect(service) as http:
            for number in range(-5, pairs):
                for turn in (0, 1):
                    began = time.perf_counter()
                    if (turn + number) % 2:
                        asked = agentflux.Situation(request=request(number + 100))
                        decided = await asyncio.to_thread(
                            agent.decide, asked, tools=tools, required=True
                        )
                        embedded.append(time.perf_counter() - began)
                        stages_s.append(sum(stage.usage.ms for stage in decided.stages) / 1e3)
                    else:
                        await ask(http, model, number + 100, seen)
                        served.append(time.perf_counter() - began)
                    await asyncio.sleep(0.2)  # threads of the other process stop spinning
    outside = {
        "embedded": statistics.median(
            a - b for a, b in zip(embedded[5:], stages_s[5:], strict=True)
        ),
        "service": statistics.median(
            a - b for a, b in zip(served[5:], seen.stages_s[5:], strict=True)
        ),
    }
    embedded, served = embedded[5:], served[5:]
    added = [b - a for a, b in zip(embedded, served, strict=True)]
    return {
        "pairs": pairs,
        "embedded_ms_p50": 1e3 * statistics.median(embedded),
        "service_ms_p50": 1e3 * statistics.median(served),
        "service_first_event_ms_p50": 1e3 * statistics.median(f for f, _ in seen.first[5:]),
        "added_ms_p50": 1e3 * statistics.median(added),
        "outside_stages_ms_p50": {name: 1e3 * seconds for name, seconds in outside.items()},
        "overhead_percent": 100 * statistics.median(added) / statistics.median(embedded),
    }


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def mean_memory(memory: list[tuple[float, float]], begin: float, end: float) -> float:
    return statistics.mean([size for at, size in memory if begin <= at <= end] or [0.0])


def summary(seen: Seen, memory: list[tuple[float, float]], seconds: float, single_s: float) -> dict:
    """The load's figures. Memory is compared from when the caches have filled: the first fifth."""
    times = [first for first, _ in seen.first]
    slower = [first / (single_s * place) for first, place in seen.first]
    early = mean_memory(memory, 0.2 * seconds, 0.4 * seconds)
    late = mean_memory(memory, 0.8 * seconds, seconds)
    return {
        "seconds": seconds,
        "status": dict(seen.status),
        "answered_a_second": len(times) / seconds,
        "unfinished": seen.unfinished,
        "without_call": seen.without_call,
        "first_event_s": {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95)},
        "place_in_line": {
            "p50": percentile([float(place) for _, place in seen.first], 0.5),
            "largest": max((place for _, place in seen.first), default=0),
        },
        "first_event_by_single_times_place": {
            "p50": percentile(slower, 0.5),
            "p95": percentile(slower, 0.95),
        },
        "memory_mb": {
            "first": memory[0][1],
            "second_fifth": early,
            "last_fifth": late,
            "largest": max(size for _, size in memory),
            "growth_percent": 100 * (late / early - 1) if early else 0.0,
        },
    }


def missed(report: dict[str, Any]) -> list[str]:
    """Return the bars that were missed."""
    many = report["load"]
    slower = many["first_event_by_single_times_place"]["p95"]
    bars = {
        "no error but 429": not set(many["status"]) - {200, 429},
        "every accepted request answered": many["unfinished"] == many["without_call"] == 0,
        f"first event at most {SLOWER:g} times the single one times the place": slower <= SLOWER,
        f"memory grows at most {GROWTH_PERCENT:g} %": (
            many["memory_mb"]["growth_percent"] <= GROWTH_PERCENT
        ),
        f"service adds at most {OVERHEAD_PERCENT:g} % to a call": (
            report["call"]["overhead_percent"] <= OVERHEAD_PERCENT
        ),
    }
    return [name for name, kept in bars.items() if not kept]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = start(
            given.bundle, Path(folder), servers=None, requests_per_minute="1000000", queue="16"
        )
        with service.client() as http:
            model = http.get("/v1/models").json()["data"][0]["id"]
        call = asyncio.run(compare(service, model, given.bundle, given.pairs))
        seen, memory = asyncio.run(load(service, model, given.clients, given.seconds))
        service.stop()
    single_s = call["service_first_event_ms_p50"] / 1e3
    many = {"clients": given.clients, **summary(seen, memory, given.seconds, single_s)}
    report: dict[str, Any] = {"bundle": given.bundle.name, "call": call, "load": many}
    report["missed"] = missed(report)
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")
    return int(bool(report["missed"]))


if __name__ == "__main__":
    sys.exit(main())
