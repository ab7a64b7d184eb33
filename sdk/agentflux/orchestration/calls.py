"""One call to a tool host, given up as soon as the run is cancelled."""

import queue
import threading
from contextvars import copy_context
from dataclasses import replace

from agentflux.contracts.prompts import cut
from agentflux.contracts.tools import ToolCall, ToolResult
from agentflux.ports import CancelToken, ToolHost, check_cancelled

# Kept in a run's steps and its journal; a prompt shows far less of it.
MAX_KEPT_CHARS = 100_000
_POLL_S = 0.05

_Outcome = ToolResult | BaseException


def call_tool(
    host: ToolHost, call: ToolCall, *, timeout_s: float, cancel: CancelToken | None
) -> ToolResult:
    """Call the tool. With a cancel token it runs in a thread of its own, which nobody waits for.

    A call that was given up may still take effect; the host bounds it by `timeout_s`.

    Raises:
        Cancelled: the token was set before the answer came.
        ToolHostError: see `ToolHost.call`.
    """
    if cancel is None:
        return clean(host.call(call, timeout_s=timeout_s))
    outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcomes.put(host.call(call, timeout_s=timeout_s))
        except BaseException as error:  # noqa: BLE001 - raised again in the run's thread
            outcomes.put(error)

    inside = copy_context().run  # the caller's context variables
    threading.Thread(target=inside, args=(work,), name=f"call {call.tool}", daemon=True).start()
    while True:
        try:
            outcome = outcomes.get(timeout=_POLL_S)
        except queue.Empty:
            check_cancelled(cancel)
            continue
        if isinstance(outcome, BaseException):
            raise outcome
        return clean(outcome)


def clean(result: ToolResult) -> ToolResult:
    """Cut what no prompt could hold, and replace half characters, which no tokenizer takes."""
    text = cut(result.text, MAX_KEPT_CHARS).encode("utf-8", "replace").decode("utf-8")
    return result if text == result.text else replace(result, text=text)
