"""Results that every host words the same way, so that the model sees one language of failures."""

from collections.abc import Iterable

from agentflux.contracts.tools import ToolCall, ToolResult


def failed(text: str) -> ToolResult:
    """Return a failed result with this text."""
    return ToolResult(text=text, is_error=True)


def unknown_tool_set(call: ToolCall, *, available: Iterable[str]) -> ToolResult:
    """Answer a call to a tool set that the host does not have."""
    return failed(f"there is no tool set {call.tool_set!r}; there is {_names(available)}")


def unknown_tool(call: ToolCall, *, available: Iterable[str]) -> ToolResult:
    """Answer a call to a tool that the tool set does not have."""
    has = _names(available)
    return failed(f"tool set {call.tool_set!r} has no tool {call.tool!r}; it has {has}")


def timed_out(call: ToolCall, *, timeout_s: float, consequence: str = "") -> ToolResult:
    """Answer a call that gave no result in time."""
    text = f"tool {call.tool!r} of {call.tool_set!r} gave no answer within {timeout_s:g} s"
    return failed(text + (f"; {consequence}" if consequence else ""))


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
