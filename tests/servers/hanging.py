"""Its tool blocks the whole process, so that only a kill ends it: `hanging.py LOG`."""
# ruff: noqa: TID253

import sys
import time
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("hanging")


@server.tool()
async def hang() -> str:
    """Block the event loop for a minute."""
    with Path(sys.argv[1]).open("a", encoding="utf-8") as log:
        log.write("hang\n")
    time.sleep(60)
    return "too late"


@server.tool()
def live() -> str:
    """Answer."""
    return "alive"


if __name__ == "__main__":
    server.run()
