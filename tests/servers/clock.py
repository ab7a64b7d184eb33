"""A clock with side effects: `clock.py LOG [SECONDS [NOTE]]` writes each call to LOG.

Then it takes its time. It has the names of the sample's time server, so that the sample's adapters
know them. NOTE stands behind the description of a tool. What LOG.says holds is in every answer.
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
more = sys.argv[3] if len(sys.argv) > 3 else ""


def note(state: str, **what: str) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"state": state, "pid": os.getpid(), **what}) + "\n")


def says() -> str:
    path = log.with_name(log.name + ".says")
    return path.read_text(encoding="utf-8") if path.exists() else ""


@server.tool(description="Get current time in a specific timezone.")
def get_current_time(timezone: str) -> str:
    note("called", timezone=timezone, tool="get_current_time")
    time.sleep(seconds)
    note("answered", timezone=timezone)
    return json.dumps({"timezone": timezone, "datetime": "2026-01-12T09:30:00+09:00"}) + says()


@server.tool(
    description=f"Convert time between timezones.{more}",
    annotations=ToolAnnotations(read_only_hint=True),
)
def convert_time(source_timezone: str, time: str, target_timezone: str) -> str:
    note("called", timezone=target_timezone, tool="convert_time")
    note("answered", timezone=target_timezone)
    return json.dumps({"target": target_timezone, "time": time})


if __name__ == "__main__":
    server.run()
