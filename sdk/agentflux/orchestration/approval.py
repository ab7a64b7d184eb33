"""Who says yes to a call."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard

from agentflux.contracts.tools import ToolCall, ToolSpec
from agentflux.errors import Cancelled, ConfigError
from agentflux.orchestration.policy import Policy, Verdict
from agentflux.ports import CancelToken

Approver = Callable[[ToolCall, ToolSpec], bool]
AsyncApprover = Callable[[ToolCall, ToolSpec], Awaitable[bool]]
Approve = Approver | Literal["read_only", "all", "none"]
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Stands before every call. rule: allow, deny, or let `ask` decide about this very call."""

    rule: Callable[[ToolCall, ToolSpec], Verdict]
    ask: Approver


def gate(approve: Approve, *, trusted: frozenset[str], policy: Policy | None = None) -> Gate:
    """Build the gate: the policy first; what it leaves open, `approve` decides.

    trusted: tool sets that the application wrote itself.

    Raises:
        ConfigError: there is no rule of that name, or the function is async.
    """
    base = _approving(approve, trusted)
    if policy is None:
        return base

    def rule(call: ToolCall, tool: ToolSpec) -> Verdict:
        verdict = policy.verdict(call, tool)
        return base.rule(call, tool) if verdict == "ask" else verdict

    return replace(base, rule=rule)


def _approving(approve: Approve, trusted: frozenset[str]) -> Gate:

    def reads(call: ToolCall, tool: ToolSpec) -> Verdict:
        """Hints can only make it stricter: an unhinted tool passes only if the app wrote it."""
        unhinted = tool.read_only is None and call.tool_set in trusted
        fine = (tool.read_only is True or unhinted) and tool.destructive is not True
        return "allow" if fine else "deny"

    if _is_async(approve):
        raise ConfigError("approve is an async function: give it to `arun`, which awaits it")
    if callable(approve):
        return Gate(rule=lambda call, tool: "ask", ask=approve)
    rules: dict[str, Callable[[ToolCall, ToolSpec], Verdict]] = {
        "all": lambda call, tool: "allow",
        "none": lambda call, tool: "deny",
        "read_only": reads,
    }
    if approve not in rules:
        raise ConfigError(
            f"approve must be a function or one of {', '.join(rules)}, not {approve!r}"
        )
    return Gate(rule=rules[approve], ask=lambda call, tool: False)


def answered(answer: object) -> bool:
    """Return the approver's yes or no.

    Raises:
        ConfigError: it is neither True nor False. By its truth a coroutine would be a yes.
    """
    if isinstance(answer, bool):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise ConfigError(f"approve answered {type(answer).__name__}, where True or False is wanted")


def on_loop(
    approve: Approve | AsyncApprover | None, loop: asyncio.AbstractEventLoop, cancel: CancelToken
) -> Approve | None:
    """Let a run in a worker thread ask an async function on the caller's event loop."""
    if not _is_async(approve):
        return approve  # type: ignore[return-value]  # what is left is an Approve

    def ask(call: ToolCall, tool: ToolSpec) -> bool:
        future = asyncio.run_coroutine_threadsafe(_awaited(approve, call, tool), loop)
        while True:
            try:
                return future.result(timeout=_POLL_S)
            except NotYet:
                if future.done():  # just now, or with the function's own TimeoutError
                    return future.result()
                if cancel.cancelled:
                    future.cancel()
                    raise Cancelled("the run was cancelled") from None

    return ask


async def _awaited(approve: AsyncApprover, call: ToolCall, tool: ToolSpec) -> bool:
    return await approve(call, tool)


def _is_async(approve: object) -> TypeGuard[AsyncApprover]:
    call = getattr(approve, "__call__", None)  # noqa: B004 - an object with an async __call__, too
    return inspect.iscoroutinefunction(approve) or inspect.iscoroutinefunction(call)
