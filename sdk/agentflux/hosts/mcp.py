"""MCP servers as a tool host: processes over stdio, services over streamable HTTP.

The MCP library is asynchronous. One background thread holds the event loop of a host; each session
is entered and left in a task of its own, as its cancel scopes ask for. The only importer of `mcp`.
"""

import asyncio
import atexit
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio
from pydantic import ValidationError

from agentflux.contracts.tools import ToolCall, ToolResult, ToolSpec
from agentflux.errors import MissingExtra, ServerGone, ServerStartError, ToolHostError
from agentflux.hosts.background import BackgroundLoop, LoopStopped
from agentflux.hosts.mcp_config import DEFAULT_ENV_ALLOW, ServerConfig, load_servers
from agentflux.hosts.mcp_content import result_from_wire
from agentflux.hosts.results import failed, timed_out, unknown_tool_set
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
T = TypeVar("T")

# Without a handler, Python prints the library's warnings about a server on the user's terminal.
logging.getLogger("mcp").addHandler(logging.NullHandler())

RESTART_DELAYS_S = (0.0, 0.5, 2.0)
_FORGIVEN_AFTER_S = 60.0
# The library gives a process 2 s after its stdin closed and 2 s after SIGTERM, then kills it.
_SESSION_CLOSE_S = 8.0
_STDERR_LINES = 8
_MAX_PAGES = 100
# Turns of the event loop from a pipe's end of file to the end of the session's stream.
_SETTLE_TURNS = 20
_HOST_CLOSED = "its host was closed"
_HTTP_TIMEOUT = httpx2.Timeout(30.0, read=300.0)


class McpHost:
    """The tools of MCP servers; each server's name is its tool set.

    Servers start, all at once, when they are first needed or with `open`. A server that dies or
    does not answer in time is stopped, and started again by the next call to it.
    """

    def __init__(
        self,
        servers: Sequence[ServerConfig],
        *,
        start_timeout_s: float = 30.0,
        restart_delays_s: Sequence[float] = RESTART_DELAYS_S,
    ) -> None:
        self._servers = {
            config.name: _Server(config, start_timeout_s, tuple(restart_delays_s))
            for config in servers
        }
        self._loop: BackgroundLoop | None = None
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def from_config(
        cls,
        source: str | Path | Mapping[str, Any],
        *,
        env_allow: Iterable[str] = DEFAULT_ENV_ALLOW,
        start_timeout_s: float = 30.0,
        restart_delays_s: Sequence[float] = RESTART_DELAYS_S,
    ) -> Self:
        """Read the `mcpServers` JSON of desktop clients; start nothing yet.

        env_allow: variables that child processes get beside those of their own `env`; the MCP
        library always adds HOME, LOGNAME, PATH, SHELL, TERM and USER.
        restart_delays_s: the waits before each try to start a lost server again.

        Raises:
            ConfigError: names the file and the key.
        """
        servers = load_servers(source, env_allow=env_allow)
        return cls(servers, start_timeout_s=start_timeout_s, restart_delays_s=restart_delays_s)

    @property
    def tool_sets(self) -> tuple[str, ...]:
        """The servers' names, in the order of the configuration."""
        return tuple(self._servers)

    @property
    def revision(self) -> int:
        """Rises when a server says that its tools changed, and when one is started again."""
        return sum(server.revision for server in self._servers.values())

    def open(self) -> Self:
        """Start the servers that do not run, all at once.

        Raises:
            ServerStartError: the first of the servers that failed to start.
        """
        self.list_tools()
        return self

    def list_tools(self) -> Sequence[ToolSpec]:
        """Return the tools of all servers, as each last listed them."""
        servers = tuple(self._servers.values())
        return self._run(lambda: _all_tools(servers), ", ".join(self._servers))

    def call(self, call: ToolCall, *, timeout_s: float) -> ToolResult:
        """Send the call once. Starting a lost server again is not part of `timeout_s`."""
        server = self._servers.get(call.tool_set)
        if server is None:
            return unknown_tool_set(call, available=self._servers)
        return self._run(lambda: server.call(call, timeout_s), call.tool_set)

    def close(self) -> None:
        """End all sessions and child processes, within about ten seconds at worst."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is None:
            return
        atexit.unregister(self.close)
        loop.run(_close_all(tuple(self._servers.values())))
        loop.stop(timeout_s=2.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
        with self._lock:
            if self._closed:
                raise ServerGone(name, _HOST_CLOSED)
            if self._loop is None:
                self._loop = BackgroundLoop("agentflux-mcp")
                atexit.register(self.close)
            loop = self._loop
        try:
            return loop.run(work())
        except LoopStopped:
            raise ServerGone(name, _HOST_CLOSED) from None


class _Server:
    """Keeps one server connected. All methods run on the host's loop."""

    def __init__(
        self, config: ServerConfig, start_timeout_s: float, restart_delays_s: tuple[float, ...]
    ) -> None:
        self._config = config
        self._start_timeout_s = start_timeout_s
        self._delays_s = restart_delays_s
        self._connection: _Connection | None = None
        self._opening: _Connection | None = None
        self._closed = False
        self._lock = asyncio.Lock()
        self._losses = 0
        self._last_loss_s = 0.0
        self._known: dict[str, ToolSpec] = {}
        self.revision = 0

    async def tools(self) -> tuple[ToolSpec, ...]:
        tools = await (await self._connected()).listed(self._start_timeout_s)
        self._known = {tool.name: tool for tool in tools}
        return tools

    async def call(self, call: ToolCall, timeout_s: float) -> ToolResult:
        connection = await self._connected()
        known = self._known.get(call.tool)
        if known is not None and known not in connection.tools:
            return failed(
                f"tool {call.tool!r} changed when its server was started again; not called"
            )
        try:
            with anyio.fail_after(timeout_s):
                wire = await connection.call(call)
        except TimeoutError:
            self._lost(connection)
            note = "its session was ended" if self._config.url else "its server was stopped"
            return timed_out(call, timeout_s=timeout_s, consequence=note)
        except mcp.MCPError as error:
            if not connection.lost_by(error):
                return failed(self._config.redact(error.message))
            self._lost(connection)
            return failed(f"tool server {call.tool_set!r} ended during the call of {call.tool!r}")
        except (ValidationError, RuntimeError) as error:
            reason = self._config.redact(_first_line(error))
            return failed(f"tool {call.tool!r} ran, but its answer breaks its contract: {reason}")
        self._losses = 0
        return result_from_wire(wire)

    async def close(self) -> None:
        """End the session, and the start of one that another thread's call waits for."""
        self._closed = True
        held = [one for one in (self._connection, self._opening) if one is not None]
        await asyncio.gather(*(connection.close() for connection in held))

    async def _connected(self) -> "_Connection":
        async with self._lock:
            if self._connection is None:
                self._connection = await self._start()
            elif not await self._connection.still_alive():
                self._lost(self._connection)
                await self._connection.close()
                self._connection = await self._restart()
            return self._connection

    async def _start(self) -> "_Connection":
        if self._closed:
            raise ServerGone(self._config.name, _HOST_CLOSED)
        self._opening = connection = _Connection(self._config, self._changed)
        self._changed()
        try:
            await connection.open(self._start_timeout_s)
        finally:
            self._opening = None
        return connection

    async def _restart(self) -> "_Connection":
        reason = "it kept dying or hanging"
        while (losses := self._recent_losses()) <= len(self._delays_s):
            await asyncio.sleep(self._delays_s[losses - 1])
            try:
                return await self._start()
            except ServerStartError as error:
                reason = str(error)
                self._count_loss()
        tries = len(self._delays_s)
        raise ServerGone(self._config.name, f"gave up after {tries} restarts: {reason}")

    def _changed(self) -> None:
        self.revision += 1

    def _lost(self, connection: "_Connection") -> None:
        if connection.retire():
            self._count_loss()

    def _count_loss(self) -> None:
        self._losses += 1
        self._last_loss_s = asyncio.get_running_loop().time()

    def _recent_losses(self) -> int:
        if asyncio.get_running_loop().time() - self._last_loss_s > _FORGIVEN_AFTER_S:
            self._losses = 0
        return max(self._losses, 1)


class _Connection:
    """One session from its handshake to its end, held open by a task."""

    def __init__(self, config: ServerConfig, on_change: Callable[[], None]) -> None:
        self.tools: tuple[ToolSpec, ...] = ()
        self._config, self._on_change = config, on_change
        self._stale = False
        self._stderr: StderrTail | None = None
        self._watched: WatchedStream | None = None
        self._client: mcp.Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._scope = anyio.CancelScope()
        self._ready, self._stop = asyncio.Event(), asyncio.Event()

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
            except (TimeoutError, mcp.MCPError, ValidationError) as error:
                self._stale = True
                reason = self._config.redact(_first_line(error))
                raise ToolHostError(self._config.name, f"lists no tools: {reason}") from error
        return self.tools

    async def call(self, call: ToolCall) -> dict[str, Any]:
        """Return the result with its wire names."""
        assert self._client is not None, "opened before it is called"
        result = await self._client.call_tool(call.tool, dict(call.arguments))
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)

    def lost_by(self, error: "mcp.MCPError") -> bool:
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
            self._scope.cancel()
        _, pending = await asyncio.wait({self._task}, timeout=_SESSION_CLOSE_S)
        if pending:
            self._scope.cancel()
            await asyncio.wait({self._task}, timeout=1.0)

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


async def _all_tools(servers: Sequence[_Server]) -> tuple[ToolSpec, ...]:
    found = await asyncio.gather(*(server.tools() for server in servers), return_exceptions=True)
    tools: list[ToolSpec] = []
    for one in found:
        if isinstance(one, BaseException):
            raise one
        tools.extend(one)
    return tuple(tools)


async def _close_all(servers: Sequence[_Server]) -> None:
    await asyncio.gather(*(server.close() for server in servers))


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
