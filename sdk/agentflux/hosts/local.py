"""Plain Python functions as tools.

```python
@tool
def add_note(text: str, tags: list[str] = []) -> str:
    \"\"\"Save a note.

    Args:
        text: what to remember
    \"\"\"
    ...

host = LocalTools("notes", [add_note])
```
"""

import asyncio
import contextvars
import inspect
import queue
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import pydantic_core

from agentflux.contracts.tools import ToolCall, ToolResult, ToolSpec
from agentflux.errors import ConfigError
from agentflux.hosts.docstrings import summary
from agentflux.hosts.results import failed, timed_out, unknown_tool, unknown_tool_set
from agentflux.hosts.signatures import ArgumentsInvalid, Signature, read_signature

ToolFunction = Callable[..., object]
F = TypeVar("F", bound=ToolFunction)

_MARK = "__agentflux_tool__"
# Lets the cancellation of an async function end before the caller gives up on its thread.
_CANCEL_GRACE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    name: str | None = None
    description: str | None = None
    read_only: bool | None = None
    destructive: bool | None = None


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
) -> Callable[[F], F]: ...
def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
) -> F | Callable[[F], F]:
    """Mark a function as a tool; it stays an ordinary function.

    name, description: else the function's name and its docstring's first paragraph.
    read_only, destructive: what an approval policy goes by.

    Raises:
        ConfigError: the signature cannot be a tool's.
    """

    def mark(marked: F) -> F:
        read_signature(marked)
        details = _Mark(
            name=name, description=description, read_only=read_only, destructive=destructive
        )
        setattr(marked, _MARK, details)
        return marked

    return mark if function is None else mark(function)


class LocalTools:
    """One tool set of Python functions, marked with `tool` or not.

    A call runs in a thread of its own, an async function in an event loop of its own. A function
    that overruns its time is not heard any more, but Python cannot stop its thread.
    """

    def __init__(self, name: str, functions: Sequence[ToolFunction]) -> None:
        """Read all signatures.

        Raises:
            ConfigError: a signature cannot be a tool's, or two functions share a name.
        """
        self._name = name
        self._tools: dict[str, _LocalTool] = {}
        for function in functions:
            local = _local_tool(name, function)
            if local.spec.name in self._tools:
                raise ConfigError(f"two functions are called {local.spec.name!r}", where=name)
            self._tools[local.spec.name] = local

    def list_tools(self) -> Sequence[ToolSpec]:
        """Return one tool for each function."""
        return tuple(local.spec for local in self._tools.values())

    def call(self, call: ToolCall, *, timeout_s: float) -> ToolResult:
        """Check the arguments and run the function; what it raises becomes a failed result."""
        if call.tool_set != self._name:
            return unknown_tool_set(call, available=[self._name])
        local = self._tools.get(call.tool)
        if local is None:
            return unknown_tool(call, available=self._tools)
        return local.run(call, timeout_s)

    def close(self) -> None:
        """Do nothing: functions need no server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LocalTool:
    spec: ToolSpec
    function: ToolFunction
    signature: Signature

    def run(self, call: ToolCall, timeout_s: float) -> ToolResult:
        try:
            keywords = self.signature.keywords(call.arguments)
        except ArgumentsInvalid as error:
            return failed(f"wrong arguments for {call.tool!r}: {error}")
        answers: queue.SimpleQueue[ToolResult] = queue.SimpleQueue()
        context = contextvars.copy_context()

        def work() -> None:
            answers.put(context.run(self._answer, call, keywords, timeout_s))

        threading.Thread(target=work, name=f"tool {call.tool}", daemon=True).start()
        try:
            wait_s = min(timeout_s + 2 * _CANCEL_GRACE_S, threading.TIMEOUT_MAX)
            return answers.get(timeout=wait_s)
        except queue.Empty:
            return timed_out(call, timeout_s=timeout_s)

    def _answer(self, call: ToolCall, keywords: dict[str, Any], timeout_s: float) -> ToolResult:
        try:
            value = self.function(**keywords)
            if inspect.iscoroutine(value):
                value = asyncio.run(_within(value, timeout_s))
            return value if isinstance(value, ToolResult) else ToolResult(text=_text(value))
        except _Overrun:
            return timed_out(call, timeout_s=timeout_s)
        except BaseException as error:  # noqa: BLE001 - the application's code, in its own thread
            return failed(f"{type(error).__name__}: {error}")


class _Overrun(Exception):
    """An async function was cancelled at its limit."""


async def _within(coroutine: Coroutine[Any, Any, object], timeout_s: float) -> object:
    task = asyncio.ensure_future(coroutine)
    _, pending = await asyncio.wait({task}, timeout=timeout_s)
    if pending:
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_GRACE_S)
        raise _Overrun
    return task.result()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "done"
    return pydantic_core.to_json(value, fallback=str).decode()


def _local_tool(tool_set: str, function: ToolFunction) -> _LocalTool:
    signature = read_signature(function)
    mark = getattr(function, _MARK, _Mark())
    spec = ToolSpec(
        tool_set=tool_set,
        name=mark.name or function.__name__,
        description=mark.description or summary(function.__doc__),
        input_schema=signature.schema,
        read_only=mark.read_only,
        destructive=mark.destructive,
    )
    return _LocalTool(spec=spec, function=function, signature=signature)
