"""The OpenAPI document against the real process, and bodies that nobody should send.

`make fuzz-service` runs both with the counts of a release: 5,000 requests, 10,000 bodies.
"""

import collections
import json
import os
import random
import re
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service.support import PATIENCE_S, Service, report_figures, until

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("default"),  # of schemathesis and what it imports
]

EXAMPLES = int(os.environ.get("AFX_FUZZ_EXAMPLES", "5"))
BODIES = int(os.environ.get("AFX_FUZZ_BODIES", "150"))
POSTS = ("/v1/chat/completions", "/v1/runs", "/v1/tools/accept", "/mcp", "/v1/runs/x/cancel")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def fuzz_key(service: Service) -> Iterator[str]:
    """A key whose runs are cancelled afterwards."""
    key = service.new_key("fuzz")
    yield key
    with service.client(key) as client:
        until(lambda: all_ended(client), "the runs of the fuzzer end")


def all_ended(client) -> bool:  # noqa: ANN001
    runs = client.get("/v1/runs?limit=100").json()["data"]
    still_open = [run["id"] for run in runs if not run["ended_at"]]
    for run in still_open:
        client.post(f"/v1/runs/{run}/cancel")
    return not still_open


def test_every_answer_is_as_documented(service: Service, fuzz_key: str) -> None:
    document = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    headers = {"Authorization": f"Bearer {fuzz_key}"}
    model, run = real_names(service, fuzz_key)
    statuses: collections.Counter[int] = collections.Counter()
    for operation in (found.ok() for found in document.get_all_operations()):

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            if statuses.total() % 2:
                point_at(case, model, run)
            answer = case.call_and_validate(headers=headers, checks=CHECKS, timeout=PATIENCE_S)
            statuses[answer.status_code] += 1

        check()
    assert statuses.total() >= EXAMPLES
    report_figures(openapi={"requests": statuses.total(), "status": dict(statuses)})


def real_names(service: Service, key: str) -> tuple[str, str]:
    """Return the model, and a run of the key that has ended."""
    with service.client(key) as client:
        model = client.get("/v1/models").json()["data"][0]["id"]
        run = client.post("/v1/runs", json={"request": "hello"}).json()["id"]
        until(lambda: all_ended(client), "the run ends")
    return model, run


def point_at(case: schemathesis.Case, model: str, run: str) -> None:
    """Name what is there: drawn names lead to 404 only."""
    if "run_id" in (case.path_parameters or {}):
        case.path_parameters["run_id"] = run
    if isinstance(case.body, dict) and "messages" in case.body:
        case.body = {**case.body, "model": model, "max_tokens": 4, "max_completion_tokens": 4}


def test_random_bodies_crash_nothing_and_leave_no_memory(service: Service, fuzz_key: str) -> None:
    draw = random.Random(11)
    statuses: collections.Counter[int] = collections.Counter()
    with service.client(fuzz_key) as client:
        before = resident(client.get("/metrics").text)
        for _ in range(BODIES):
            path = draw.choice(POSTS)
            headers = {"Content-Type": draw.choice(["application/json", "text/plain", "a/b;c"])}
            answer = client.post(path, content=body(draw), headers=headers)
            assert answer.status_code < 500, (path, answer.text)
            statuses[answer.status_code] += 1
        assert client.get("/health/ready").status_code == 200
        after = resident(client.get("/metrics").text)
    memory = {"before": before / 1e6, "after": after / 1e6}
    report_figures(bodies={"sent": BODIES, "status": dict(statuses), "memory_mb": memory})
    # Runs that a body happened to start compute, so the caches of the model may fill.
    assert after - before < 300e6


def body(draw: random.Random) -> bytes:
    """Bytes, broken JSON, or JSON of the wrong shape."""
    shape = draw.randrange(4)
    if shape == 0:
        return draw.randbytes(draw.randrange(400))
    if shape == 1:
        return b"[" * draw.randrange(1, 3000)
    keys = ["model", "messages", "tools", "stream", "request", "context", "call_id", "jsonrpc"]
    values = [None, True, -1, 1e308, "", "\x00", "é" * 50, [], {}, [[[]]], {"role": "user"}]
    drawn = {draw.choice(keys): draw.choice(values) for _ in range(draw.randrange(6))}
    drawn.pop("request", None) if isinstance(drawn.get("request"), str) else None
    text = json.dumps(drawn).encode()
    return text if shape == 2 else text[: draw.randrange(len(text))]


def resident(metrics: str) -> float:
    found = re.search(r"^afx_memory_bytes (\S+)", metrics, re.MULTILINE)
    assert found
    return float(found[1])
