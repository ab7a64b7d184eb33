"""Load on loopback: many clients on the real service with the sample's bundle.

    python tests/bench/service_load.py BUNDLE [--clients 32] [--seconds 300]

Prints answers by status, the time to the first event (p50, p95) beside that of a single client, the
resident memory, and what the service adds to a call of the embedded SDK. Ends with 1 where an
answer was neither a success nor 429, or an accepted request was not answered.
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

import httpx

sys.path.insert(0, str(Path(__file__).parents[1]))
from service.support import Service, start

import agentflux

TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_time",
        "description": "Get current time in a specific timezone.",
        "parameters": {
            "type": "object",
            "properties": {"timezone": {"type": "string"}},
            "required": ["timezone"],
        },
    },
}
ASK = "What time is it in Tokyo right now?"


@dataclass
class Seen:
    """What clients saw. first: seconds to the first event of accepted requests."""

    status: collections.Counter[int] = field(default_factory=collections.Counter)
    first: list[float] = field(default_factory=list)
    unfinished: int = 0


async def client(service: Service, model: str, until: float, seen: Seen) -> None:
    headers = {"Authorization": f"Bearer {service.key}"}
    body = {
        "model": model,
        "messages": [{"role": "user", "content": ASK}],
        "tools": [TOOL],
        "tool_choice": "required",
        "stream": True,
    }
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=300) as http:
        while time.monotonic() < until:
            began, first, done = time.monotonic(), None, False
            async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                seen.status[answer.status_code] += 1
                async for line in answer.aiter_lines():
                    first = first or time.monotonic()
                    done = done or line == "data: [DONE]"
            if answer.status_code == 200:
                seen.unfinished += not done
                seen.first.append((first or time.monotonic()) - began)
            elif answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["Retry-After"]))


async def load(service: Service, clients: int, seconds: float) -> Seen:
    with service.client() as http:
        model = http.get("/v1/models").json()["data"][0]["id"]
    seen, until = Seen(), time.monotonic() + seconds
    await asyncio.gather(*(client(service, model, until, seen) for _ in range(clients)))
    return seen


def embedded(bundle: Path, calls: int = 10) -> float:
    """Median seconds of the same decision by the SDK alone, warm."""
    function = TOOL["function"]
    spec = agentflux.ToolSpec(
        tool_set="time",
        name=function["name"],
        description=function["description"],
        input_schema=function["parameters"],
    )
    times = []
    with agentflux.open_bundle(bundle, threads=2) as agent:
        for _ in range(calls + 1):
            began = time.monotonic()
            agent.decide(agentflux.Situation(request=ASK), tools=[spec], required=True)
            times.append(time.monotonic() - began)
    return statistics.median(times[1:])


def memory_mb(service: Service) -> float:
    with service.client() as http:
        return http.get("/v1/stats").json()["memory"][-1]["bytes"] / 1e6


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=300)
    given = parser.parse_args()
    alone = embedded(given.bundle)
    with tempfile.TemporaryDirectory() as folder:
        service = start(
            given.bundle, Path(folder), servers=None, requests_per_minute="1000000", queue="16"
        )
        single = asyncio.run(load(service, 1, min(20.0, given.seconds)))
        before = memory_mb(service)
        many = asyncio.run(load(service, given.clients, given.seconds))
        after = memory_mb(service)
        service.stop()
    report = {
        "clients": given.clients,
        "seconds": given.seconds,
        "status": dict(many.status),
        "unfinished": many.unfinished,
        "first_event_s": {
            "single_p50": percentile(single.first, 0.5),
            "p50": percentile(many.first, 0.5),
            "p95": percentile(many.first, 0.95),
        },
        "embedded_call_s": alone,
        "service_overhead_percent": 100 * (percentile(single.first, 0.5) / alone - 1),
        "memory_mb": {"before": before, "after": after},
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return int(bool(set(many.status) - {200, 429}) or many.unfinished > 0)


if __name__ == "__main__":
    sys.exit(main())
