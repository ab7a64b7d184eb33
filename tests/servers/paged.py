"""Lists 30 tools on pages of 7. `paged.py endless` never comes to the last page."""
# ruff: noqa: TID253

import sys
from typing import Any

import anyio
from mcp import types
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.stdio import stdio_server

PAGE, TOTAL = 7, 30


async def list_tools(
    context: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    start = int(params.cursor) if params and params.cursor else 0
    end = start + PAGE
    tools = [
        types.Tool(name=f"tool_{index}", input_schema={"type": "object"})
        for index in range(start, min(end, TOTAL))
    ]
    more = end < TOTAL or sys.argv[1:] == ["endless"]
    return types.ListToolsResult(tools=tools, next_cursor=str(end) if more else None)


async def main() -> None:
    server = Server("paged", on_list_tools=list_tools)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
