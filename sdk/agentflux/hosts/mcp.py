"""MCP servers as a tool host: processes over stdio, services over streamable HTTP.

The MCP library is asynchronous. One background thread holds the event loop of a host; each session
(`mcp_session.py`) is entered and left in a task of its own, as its cancel scopes ask for. Here is
what outlives a session: which server is connected, how often it was lost, when it starts again.
"""

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from agentflux.contracts.tools import ToolCall, ToolResult, ToolSpec
from agentflux.errors import ServerGone, ServerStartError
from agentflux.hosts.background import BackgroundLoop, LoopStopped
from agentflux.hosts.mcp_config import DEFAULT_ENV_ALLOW, ServerConfig, load_servers
from agentflux.hosts.mcp_session import CallFailed, McpSession, SessionLost
from agentflux.hosts.results import failed, timed_out, unknown_tool_set

T = TypeVar("T")

RESTART_DELAYS_S = (0.0, 0.5, 2.0)
_FORGIVEN_AFTER_S = 60.0
_HOST_CLOSED = "its host was closed"


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
        self._session: McpSession | None = None
        self._opening: McpSession | None = None
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
        session = await self._connected()
        known = self._known.get(call.tool)
        if known is not None and known not in session.tools:
            return failed(
                f"tool {call.tool!r} changed when its server was started again; not called"
            )
        try:
            result = await session.call(call, timeout_s)
        except TimeoutError:
            self._lost(session)
            note = "its session was ended" if self._config.url else "its server was stopped"
            return timed_out(call, timeout_s=timeout_s, consequence=note)
        except SessionLost:
            self._lost(session)
            return failed(f"tool server {call.tool_set!r} ended during the call of {call.tool!r}")
        except CallFailed as error:
            return failed(str(error))
        self._losses = 0
        return result

    async def close(self) -> None:
        """End the session, and the start of one that another thread's call waits for."""
        self._closed = True
        held = [one for one in (self._session, self._opening) if one is not None]
        await asyncio.gather(*(session.close() for session in held))

    async def _connected(self) -> McpSession:
        async with self._lock:
            if self._session is None:
                self._session = await self._start()
            elif not await self._session.still_alive():
                self._lost(self._session)
                await self._session.close()
                self._session = await self._restart()
            return self._session

    async def _start(self) -> McpSession:
        if self._closed:
            raise ServerGone(self._config.name, _HOST_CLOSED)
        self._opening = session = McpSession(self._config, self._changed)
        self._changed()
        try:
            await session.open(self._start_timeout_s)
        finally:
            self._opening = None
        return session

    async def _restart(self) -> McpSession:
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

    def _lost(self, session: McpSession) -> None:
        if session.retire():
            self._count_loss()

    def _count_loss(self) -> None:
        self._losses += 1
        self._last_loss_s = asyncio.get_running_loop().time()

    def _recent_losses(self) -> int:
        if asyncio.get_running_loop().time() - self._last_loss_s > _FORGIVEN_AFTER_S:
            self._losses = 0
        return max(self._losses, 1)


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
