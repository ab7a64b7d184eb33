"""Real MCP servers for tests: each script of tests/servers as a process."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from agentflux.contracts.tools import ToolCall
from agentflux.hosts.mcp import McpHost

SERVERS = Path(__file__).parents[2] / "servers"
LIMIT_S = 20.0


def entry(script: str, *args: str, env: dict[str, str] | None = None) -> dict[str, object]:
    """Describe a server script as an `mcpServers` entry."""
    return {"command": sys.executable, "args": [str(SERVERS / script), *args], "env": env or {}}


def host(name: str, script: str, *args: str, env: dict[str, str] | None = None) -> McpHost:
    """Make a host with one stdio server; lost servers are started again without a wait."""
    config = {"mcpServers": {name: entry(script, *args, env=env)}}
    return McpHost.from_config(config, start_timeout_s=LIMIT_S, restart_delays_s=(0.0, 0.0, 0.0))


def call(tool_set: str, tool: str, **arguments: object) -> ToolCall:
    """Write a call."""
    return ToolCall(tool_set=tool_set, tool=tool, arguments=arguments)


@contextmanager
def http_server() -> Generator[tuple[str, subprocess.Popen[str]], None, None]:
    """Serve tests/servers/good.py over HTTP on a free port; yields its URL and its process."""
    command = [sys.executable, str(SERVERS / "good.py"), "http"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp", process
        finally:
            process.kill()
