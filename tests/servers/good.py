"""A server that behaves: `good.py` over stdio, `good.py http` over HTTP (prints its port)."""
# ruff: noqa: T201, TID253

import socket
import sys

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("good")
calls = 0


@server.tool()
def echo(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
def fail(message: str) -> str:
    """Fail with this message."""
    raise ToolError(message)


@server.tool()
async def slow(seconds: float) -> str:
    """Answer late."""
    await anyio.sleep(seconds)
    return "at last"


@server.tool()
def count() -> str:
    """Say how often this tool was called."""
    global calls
    calls += 1
    return str(calls)


def serve_http() -> None:
    """Serve on a free loopback port; it accepts connections before the port is printed."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="error")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        serve_http()
    else:
        server.run()
