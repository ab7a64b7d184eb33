"""Runs as OpenTelemetry spans and metrics, and as log records.

Spans and metrics only where the application has loaded OpenTelemetry itself; nothing is imported,
sent or stored otherwise. Names follow the GenAI conventions (`invoke_agent`, `chat`,
`execute_tool`; `gen_ai.client.operation.duration`, `gen_ai.client.token.usage`); what they do not
name begins with `agentflux.`. The MCP library adds its own spans for what goes over the wire.

Log records of the logger `agentflux.run` (level DEBUG) carry the same facts as attributes.
Requests, arguments, observations and answers are in neither: they hold what users say, and secrets.
"""

import logging
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentflux.contracts.bundle import Manifest
from agentflux.orchestration.events import (
    ApprovalGiven,
    CallFinished,
    CallStarted,
    Event,
    StageFinished,
    StageStarted,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

Emit = Callable[[Event], None]
Facts = dict[str, str | int | float | bool]

_LOG = logging.getLogger("agentflux.run")
_LOG.addHandler(logging.NullHandler())
_SCOPE = "agentflux"


@contextmanager
def observed(manifest: Manifest, emit: Emit) -> Generator[Emit]:
    """Yield an `emit` that also tells the log and, where it is loaded, OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        yield _both(emit, log_event)
        return
    with _traced(manifest) as tell:
        yield _both(_both(emit, log_event), tell)


def log_event(event: Event) -> None:
    """Log an event without any text of the user, the model or a tool."""
    if _LOG.isEnabledFor(logging.DEBUG) and (facts := _facts(event)):
        _LOG.debug("%s", type(event).__name__, extra={"agentflux": facts})


@contextmanager
def _traced(manifest: Manifest) -> Generator[Emit]:
    from opentelemetry import trace

    model: Facts = {
        "gen_ai.provider.name": "agentflux",
        "gen_ai.request.model": manifest.base_model.id,
    }
    attributes: Facts = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": manifest.name,
    }
    tracer = trace.get_tracer(_SCOPE)
    with tracer.start_as_current_span(
        f"invoke_agent {manifest.name}",
        attributes=attributes | model,
        record_exception=False,  # what an error says may be what a user or a tool said
        set_status_on_exception=False,
    ) as span:
        spans = _Spans(model)
        try:
            yield spans
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(trace.StatusCode.ERROR)
            raise
        finally:
            spans.end()


class _Spans:
    """Opens and closes the span of what is going on; a run does one thing at a time."""

    def __init__(self, model: Facts) -> None:
        from opentelemetry import metrics, trace

        self._tracer = trace.get_tracer(_SCOPE)
        meter = metrics.get_meter(_SCOPE)
        self._duration = meter.create_histogram("gen_ai.client.operation.duration", unit="s")
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", unit="{token}")
        self._model = model
        self._span: Span | None = None
        self._started = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self._open(f"chat {self._model['gen_ai.request.model']}", "chat", _facts(event))
        elif isinstance(event, CallStarted):
            self._open(f"execute_tool {event.call.tool}", "execute_tool", _facts(event))
        elif isinstance(event, StageFinished):
            usage = event.record.usage
            self._count(usage.prefill_tokens + usage.reused_tokens, "input")
            self._count(usage.decoded_tokens, "output")
            self._close("chat", _facts(event))
        elif isinstance(event, CallFinished) and self._span is not None:
            self._close("execute_tool", _facts(event), failed=event.step.is_error)

    def end(self) -> None:
        """Close what an error left open."""
        if self._span is not None:
            self._span.end()
            self._span = None

    def _open(self, name: str, operation: str, facts: Facts) -> None:
        self.end()
        attributes = self._model | {"gen_ai.operation.name": operation} | facts
        self._span = self._tracer.start_span(name, attributes=attributes)
        self._started = time.perf_counter()

    def _close(self, operation: str, facts: Facts, *, failed: bool = False) -> None:
        if self._span is None:
            return
        self._span.set_attributes(facts | ({"error.type": "tool_error"} if failed else {}))
        seconds = time.perf_counter() - self._started
        self._duration.record(seconds, self._model | {"gen_ai.operation.name": operation})
        self.end()

    def _count(self, tokens: int, kind: str) -> None:
        chat: Facts = {"gen_ai.operation.name": "chat", "gen_ai.token.type": kind}
        self._tokens.record(tokens, self._model | chat)


def _facts(event: Event) -> Facts:
    if isinstance(event, StageStarted):
        return {"agentflux.stage": event.stage, "agentflux.adapter": event.adapter or "base"}
    if isinstance(event, StageFinished):
        return _stage_facts(event)
    if isinstance(event, CallStarted | ApprovalGiven):
        facts = _tool_facts(event.call.tool_set, event.call.tool)
        given = {"agentflux.approved": event.approved} if isinstance(event, ApprovalGiven) else {}
        return facts | given
    if isinstance(event, CallFinished):
        called = _tool_facts(event.step.call.tool_set, event.step.call.tool)
        return called | {"agentflux.tool.is_error": event.step.is_error}
    return {}


def _stage_facts(event: StageFinished) -> Facts:
    record, usage = event.record, event.record.usage
    facts: Facts = {
        "agentflux.stage": record.stage,
        "agentflux.adapter": record.adapter or "base",
        "gen_ai.usage.input_tokens": usage.prefill_tokens + usage.reused_tokens,
        "gen_ai.usage.output_tokens": usage.decoded_tokens,
        "agentflux.usage.reused_tokens": usage.reused_tokens,
    }
    if record.choice is not None:
        facts["agentflux.choice"] = record.choice
    if record.probability is not None:
        facts["agentflux.probability"] = record.probability
    return facts


def _tool_facts(tool_set: str, tool: str) -> Facts:
    return {"gen_ai.tool.name": tool, "agentflux.tool_set": tool_set}


def _both(first: Emit, second: Emit) -> Emit:
    def emit(event: Event) -> None:
        second(event)
        first(event)

    return emit
