"""A clock with side effects: `clock.py LOG [SECONDS]` writes each call to LOG, then takes its time.

It has the names of the sample's time server, so that the sample's adapters know them.
"""
# ruff: noqa: TID253

import json
import os
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("clock")
log = Path(sys.argv[1])
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0


def note(state: str, **what: str) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"state": state, "pid": os.getpid(), **what}) + "\n")


@server.tool(description="Get current time in a specific timezone.")
def get_current_time(timezone: str) -> str:
    note("called", timezone=timezone)
    time.sleep(seconds)
    note("answered", timezone=timezone)
    return json.dumps({"timezone": timezone, "datetime": "2026-01-12T09:30:00+09:00"})


@server.tool(
    description="Convert time between timezones.", annotations=ToolAnnotations(read_only_hint=True)
)
def convert_time(source_timezone: str, time: str, target_timezone: str) -> str:
    note("called", timezone=target_timezone)
    note("answered", timezone=target_timezone)
    return json.dumps({"target": target_timezone, "time": time})


if __name__ == "__main__":
    server.run()
