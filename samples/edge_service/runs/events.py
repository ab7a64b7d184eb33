"""Events of the SDK as events of a run."""

from dataclasses import asdict
from typing import Any

from agentflux import AnswerText, CallFinished, CallStarted, StageFinished, StageStarted, ToolCall
from edge_service.runs.schema import EventType

Told = tuple[EventType, dict[str, Any]]


def told(event: object) -> Told | None:
    """Return type and data; None for what the service tells itself (approvals)."""
    if isinstance(event, StageStarted):
        return "stage_started", {"stage": event.stage, "adapter": event.adapter}
    if isinstance(event, StageFinished):
        row = asdict(event.record)
        usage = row.pop("usage")
        return "stage_finished", {**row, **usage, "ms": round(usage["ms"], 2)}
    if isinstance(event, CallStarted):
        return "call_started", call_data(event.call)
    if isinstance(event, CallFinished):
        step = event.step
        seen = {"observation": step.observation, "is_error": step.is_error}
        return "call_finished", {**call_data(step.call), **seen}
    if isinstance(event, AnswerText):
        return "answer_text", {"text": event.text}
    return None


def call_data(call: ToolCall) -> dict[str, Any]:
    """Return a call as JSON."""
    return {"tool_set": call.tool_set, "tool": call.tool, "arguments": dict(call.arguments)}
