"""Dies in the middle of a call: `dying.py LOG` appends each call to LOG before."""
# ruff: noqa: T201, TID253

import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("dying")


def note(what: str) -> None:
    with Path(sys.argv[1]).open("a", encoding="utf-8") as log:
        log.write(what + "\n")


note("start")


@server.tool()
def die() -> str:
    """End the process."""
    note("die")
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


@server.tool()
def live() -> str:
    """Answer."""
    note("live")
    return "alive"


if __name__ == "__main__":
    server.run()
