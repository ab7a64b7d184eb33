"""One session with one MCP server, from its handshake to its end. The only importer of `mcp`.

The library's errors become ours here, its results ours, its tools `ToolSpec`s.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import anyio
from pydantic import ValidationError

from agentflux.contracts.tools import ToolCall, ToolResult, ToolSpec
from agentflux.errors import ConfigError, MissingExtra, ServerStartError, ToolHostError
from agentflux.hosts.mcp_config import ServerConfig
from agentflux.hosts.mcp_content import result_from_wire
from agentflux.hosts.stderr_tail import StderrTail
from agentflux.hosts.watched_stream import WatchedStream

try:
    import httpx2
    import mcp
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
    from mcp.types import CONNECTION_CLOSED
except ModuleNotFoundError as error:
    raise MissingExtra("mcp", extra="mcp") from error

_Streams = tuple[Any, Any]

# Without a handler, Python prints the library's warnings about a server on the user's terminal.
logging.getLogger("mcp").addHandler(logging.NullHandler())

# The library gives a process 2 s after its stdin closed and 2 s after SIGTERM, then kills it.
_SESSION_CLOSE_S = 8.0
_SPAWN_S = 2.0
_STDERR_LINES = 8
_MAX_PAGES = 100
# Turns of the event loop from a pipe's end of file to the end of the session's stream.
_SETTLE_TURNS = 20
_HTTP_TIMEOUT = httpx2.Timeout(30.0, read=300.0)


class SessionLost(Exception):
    """The session ended while a call was on its way."""


class CallFailed(Exception):
    """The server answered with an error, or with what breaks its own contract. Text: for models."""


class McpSession:
    """One session, held open by a task. All methods run on the host's loop."""

    def __init__(self, config: ServerConfig, on_change: Callable[[], None]) -> None:
        self.tools: tuple[ToolSpec, ...] = ()
        self._config, self._on_change = config, on_change
        self._stale = False
        self._stderr: StderrTail | None = None
        self._watched: WatchedStream | None = None
        self._client: mcp.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._scope = anyio.CancelScope()
        self._spawned, self._ready, self._stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @property
    def alive(self) -> bool:
        running = self._task is not None and not self._task.done() and not self._stop.is_set()
        return running and not (self._watched is not None and self._watched.ended)

    async def still_alive(self) -> bool:
        """Tell whether the session lives, after reading an end that has come but was not read yet.

        Without it a call goes out to a server that is known to be dead, and is lost.
        """
        for _ in range(_SETTLE_TURNS):
            await asyncio.sleep(0)
        return self.alive

    async def open(self, timeout_s: float) -> None:
        """Connect and list the tools.

        Raises:
            ServerStartError: names the server, how it is started and its last words.
        """
        self._task = asyncio.create_task(self._live(), name=f"mcp {self._config.name}")
        self._task.add_done_callback(_retrieve_error)
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                {self._task, ready}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
            if not self._ready.is_set():
                self._scope.cancel()
        if not self._ready.is_set():
            late = not self._task.done()
            await self.close()
            raise ServerStartError(self._config.name, self._start_failure(late, timeout_s))

    async def listed(self, timeout_s: float) -> tuple[ToolSpec, ...]:
        """Return the tools, asked for again if the server said that they changed.

        Raises:
            ToolHostError: it does not list them.
        """
        if self._stale and self._client is not None:
            self._stale = False
            try:
                with anyio.fail_after(timeout_s):
                    self.tools = await _tools_of(self._config.name, self._client)
            except (TimeoutError, mcp.MCPError, ValidationError, ConfigError) as error:
                self._stale = True
                reason = self._config.redact(_first_line(error))
                raise ToolHostError(self._config.name, f"lists no tools: {reason}") from error
        return self.tools

    async def call(self, call: ToolCall, timeout_s: float) -> ToolResult:
        """Send the call once.

        Raises:
            TimeoutError: no answer came in time. SessionLost, CallFailed: see there.
        """
        assert self._client is not None, "opened before it is called"
        try:
            with anyio.fail_after(timeout_s):
                result = await self._client.call_tool(call.tool, dict(call.arguments))
        except mcp.MCPError as error:
            if self._lost_by(error):
                raise SessionLost from error
            raise CallFailed(self._config.redact(error.message)) from error
        except (ValidationError, RuntimeError) as error:
            reason = self._config.redact(_first_line(error))
            told = f"tool {call.tool!r} ran, but its answer breaks its contract: {reason}"
            raise CallFailed(told) from error
        return result_from_wire(result.model_dump(by_alias=True, mode="json", exclude_none=True))

    def _lost_by(self, error: "mcp.MCPError") -> bool:
        """Whether the error ends the connection. Servers use the code for their own errors too."""
        if self._config.url:
            return error.code == CONNECTION_CLOSED or "session terminated" in str(error).lower()
        return not self.alive

    def retire(self) -> bool:
        """Begin to end the session, in its own task; False if that was done before."""
        first = not self._stop.is_set()
        self._stop.set()
        return first

    async def close(self) -> None:
        """End the session; cut it off where it does not end in time."""
        self.retire()
        if self._task is None:
            return
        if not self._ready.is_set():
            await self._stop_start(self._task)
        _, pending = await asyncio.wait({self._task}, timeout=_SESSION_CLOSE_S)
        if pending:
            self._scope.cancel()
            await asyncio.wait({self._task}, timeout=1.0)

    async def _stop_start(self, task: asyncio.Task[None]) -> None:
        """Cut a start off, but not while its process is made: asyncio would lose sight of it."""
        spawned = asyncio.create_task(self._spawned.wait())
        await asyncio.wait({task, spawned}, timeout=_SPAWN_S, return_when=asyncio.FIRST_COMPLETED)
        spawned.cancel()
        self._scope.cancel()

    async def _live(self) -> None:
        with self._scope:
            client = mcp.Client(self._transport(), cache=None, message_handler=self._heard)
            async with client as self._client:
                self.tools = await _tools_of(self._config.name, client)
                self._ready.set()
                listener = asyncio.create_task(self._listen(client))
                try:
                    await self._stop.wait()
                finally:
                    listener.cancel()
                    await asyncio.gather(listener, return_exceptions=True)

    async def _heard(self, message: object) -> None:
        """Note a change that a server tells of on its own, as those before 2026 do."""
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            self._mark_stale()

    async def _listen(self, client: mcp.Client) -> None:
        """Subscribe to changes, as servers since the 2026-07-28 protocol want it."""
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._mark_stale()
        except (ListenNotSupportedError, SubscriptionLost, mcp.MCPError, TimeoutError):
            return

    def _mark_stale(self) -> None:
        self._stale = True
        self._on_change()

    @asynccontextmanager
    async def _transport(self) -> AsyncGenerator[_Streams]:
        async with self._streams() as (read, write):
            self._spawned.set()
            self._watched = WatchedStream(read)
            yield self._watched, write

    def _streams(self) -> AbstractAsyncContextManager[_Streams]:
        if self._config.url:
            return _http_streams(self._config)
        self._stderr = StderrTail()
        return _stdio_streams(self._config, self._stderr)

    def _start_failure(self, late: bool, timeout_s: float) -> str:
        assert self._task is not None
        died = None if late or self._task.cancelled() else self._task.exception()
        if died is not None:
            reason = _explained(died, self._config)
        elif late:
            reason = f"did not answer within {timeout_s:g} s"
        else:
            reason = "was stopped while it started"
        if self._watched is not None and self._watched.not_json:
            reason += "; it writes to stdout what is not JSON-RPC"
        tail = self._stderr.lines(_STDERR_LINES, wait_s=0.5) if self._stderr else []
        said = "\n  ".join(["; the last lines of its stderr:", *tail]) if tail else ""
        return self._config.redact(f"{reason} (started as: {self._config.shown}){said}")


@asynccontextmanager
async def _stdio_streams(config: ServerConfig, stderr: StderrTail) -> AsyncGenerator[_Streams]:
    parameters = mcp.StdioServerParameters(
        command=config.command, args=list(config.args), env=dict(config.env), cwd=config.cwd
    )
    with stderr.sink:
        async with stdio_client(parameters, errlog=stderr.sink) as streams:
            stderr.sink.close()
            yield streams


@asynccontextmanager
async def _http_streams(config: ServerConfig) -> AsyncGenerator[_Streams]:
    async with (
        httpx2.AsyncClient(headers=dict(config.headers), timeout=_HTTP_TIMEOUT) as client,
        streamable_http_client(config.url, http_client=client) as streams,
    ):
        yield streams


async def _tools_of(tool_set: str, client: mcp.Client) -> tuple[ToolSpec, ...]:
    tools: list[ToolSpec] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        wire = (
            tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in page.tools
        )
        tools.extend(ToolSpec.from_wire(tool_set, tool) for tool in wire)
        cursor = page.next_cursor
        if cursor is None:
            return tuple(tools)
    raise ServerStartError(tool_set, f"its list of tools does not end after {_MAX_PAGES} pages")


def _retrieve_error(task: asyncio.Task[None]) -> None:
    # How a session ends is told by the call that it fails; asyncio would print it once more.
    if not task.cancelled():
        task.exception()


def _explained(error: BaseException, config: ServerConfig) -> str:
    error = _first_leaf(error)
    if isinstance(error, ToolHostError):
        return str(error).partition(": ")[2]
    if isinstance(error, FileNotFoundError):
        missing = config.cwd if config.cwd and not config.cwd.is_dir() else config.command
        return f"did not start: {str(missing)!r} was not found"
    if isinstance(error, OSError):
        return f"did not start: {error.strerror or error}"
    if isinstance(error, mcp.MCPError) and error.code == CONNECTION_CLOSED and not config.url:
        return "ended before it spoke MCP"
    return f"did not speak MCP: {_first_line(error) or type(error).__name__}"


def _first_leaf(error: BaseException) -> BaseException:
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return _first_leaf(leaves[0])


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]
