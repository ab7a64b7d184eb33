"""Runs as spans, metrics and log records: the conventions' names, and none of the users' words."""

import logging
import subprocess
import sys

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sdk.support import scripted_agent

from agentflux import ToolResult
from agentflux.errors import ServerGone

SECRET = "the-secret-of-ana"
SCRIPT = ["files", "read", f'{{"path":"{SECRET}.txt"}}', "finish", f"It says {SECRET}."]


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    """The spans of this process, from now on."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(scope="module")
def readings() -> InMemoryMetricReader:
    """The metrics of this process, from now on."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


def run(answer: str | ToolResult = SECRET) -> None:
    agent, _ = scripted_agent(SCRIPT, {"files.read": answer})
    agent.run(f"read {SECRET}.txt")


def test_a_run_is_a_tree_of_spans_by_the_genai_conventions(
    spans: InMemorySpanExporter, readings: InMemoryMetricReader
) -> None:
    spans.clear()
    run(ToolResult(text=SECRET, is_error=True))
    found = spans.get_finished_spans()
    root = found[-1]
    assert root.name == "invoke_agent test"
    assert all(span.parent and span.parent.span_id == root.context.span_id for span in found[:-1])
    operations = [span.attributes["gen_ai.operation.name"] for span in found]
    assert operations == ["chat"] * 3 + ["execute_tool"] + ["chat"] * 2 + ["invoke_agent"]
    tool = found[3]
    assert tool.name == "execute_tool read"
    assert tool.attributes["error.type"] == "tool_error"
    assert found[0].attributes["agentflux.stage"] == "route"
    assert SECRET not in str([(span.name, dict(span.attributes or {})) for span in found])

    data = readings.get_metrics_data()
    names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert names == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


def test_of_a_run_that_fails_the_span_has_the_kind_of_error_alone(
    spans: InMemorySpanExporter,
) -> None:
    spans.clear()
    agent, _ = scripted_agent(SCRIPT, {"files.read": ServerGone("files", f"no {SECRET}.txt")})
    with pytest.raises(ServerGone):
        agent.run(f"read {SECRET}.txt")
    found = spans.get_finished_spans()
    assert found[-1].attributes["error.type"] == "ServerGone"
    assert not found[-1].status.is_ok
    assert SECRET not in str([span.to_json() for span in found])


def test_log_records_hold_facts_and_no_words(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="agentflux.run"):
        run()
    facts = [record.agentflux for record in caplog.records]
    assert {"gen_ai.tool.name": "read", "agentflux.tool_set": "files"} in facts
    assert SECRET not in str([(record.getMessage(), vars(record)) for record in caplog.records])


def test_without_opentelemetry_nothing_of_it_is_loaded() -> None:
    program = """
import sys
from sdk.support import scripted_agent
agent, _ = scripted_agent(["none", "hello"], {})
agent.run("hi")
sys.exit("opentelemetry" in sys.modules)
"""
    tests = __file__.rsplit("/sdk/", 1)[0]
    done = subprocess.run([sys.executable, "-c", program], cwd=tests, check=False)
    assert done.returncode == 0
