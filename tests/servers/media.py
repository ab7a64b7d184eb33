"""Answers with everything that is not plain text, and shows its environment."""
# ruff: noqa: TID253

import os

from mcp import types
from mcp.server.mcpserver import Image, MCPServer
from pydantic import BaseModel

server = MCPServer("media")


class Weather(BaseModel):
    """What `weather` answers."""

    city: str
    celsius: float


@server.tool()
def picture() -> Image:
    """Return 12 KB of picture."""
    return Image(data=bytes(12 * 1024), format="png")


@server.tool()
def weather(city: str) -> Weather:
    """Return structured content."""
    return Weather(city=city, celsius=21.5)


@server.tool()
def bare_structure() -> types.CallToolResult:
    """Return structured content and no text."""
    return types.CallToolResult(content=[], structured_content={"städte": ["Köln"], "n": 2})


@server.tool()
def mixed() -> types.CallToolResult:
    """Return text, a resource, a link and sound."""
    note = types.TextResourceContents(uri="file:///notes.txt", text="buy milk")
    link = types.ResourceLink(type="resource_link", uri="file:///big.bin", name="big.bin")
    return types.CallToolResult(
        content=[
            types.TextContent(type="text", text="see below"),
            types.EmbeddedResource(type="resource", resource=note),
            link,
            types.AudioContent(type="audio", data="AAAA", mime_type="audio/wav"),
        ]
    )


@server.tool(annotations=types.ToolAnnotations(read_only_hint=True))
def environment() -> str:
    """Return the names and values of all environment variables."""
    return "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))


if __name__ == "__main__":
    server.run()
