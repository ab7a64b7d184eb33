"""A server that also prints what is not JSON to stdout."""
# ruff: noqa: T201, TID253

from mcp.server.mcpserver import MCPServer

server = MCPServer("noisy")


@server.tool()
def live() -> str:
    """Answer."""
    return "alive"


if __name__ == "__main__":
    print("Starting up, please wait {", flush=True)
    server.run()
