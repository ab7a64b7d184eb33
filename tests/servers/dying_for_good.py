"""Starts once, dies in its first call and does not start again: `dying_for_good.py MARKER`."""
# ruff: noqa: TID253

import os
import sys
from pathlib import Path

marker = Path(sys.argv[1])
if marker.exists():
    sys.exit("cannot start again")
marker.touch()

from mcp.server.mcpserver import MCPServer  # noqa: E402 - a second start fails without the wait

server = MCPServer("dying_for_good")


@server.tool()
def die() -> str:
    """End the process."""
    os._exit(3)


if __name__ == "__main__":
    server.run()
