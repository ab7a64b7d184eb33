"""What an MCP tool answered, reduced to the text that a language model reads.

Works on the JSON of the wire (`content`, `structuredContent`), so it needs no MCP library.
"""

import json
from collections.abc import Mapping
from typing import Any

from agentflux.contracts.tools import ToolResult

NO_REASON = "the tool failed and gave no reason"


def result_from_wire(wire: Mapping[str, Any]) -> ToolResult:
    """Join the text blocks; describe other media; structured content only when there is no text."""
    blocks = [_block(block) for block in wire.get("content") or ()]
    text = "\n".join(part for part in blocks if part)
    structured = wire.get("structuredContent")
    has_text = any(block.get("type") == "text" and block.get("text") for block in wire["content"])
    if structured is not None and not has_text:
        compact = json.dumps(structured, ensure_ascii=False, separators=(",", ":"))
        text = f"{text}\n{compact}" if text else compact
    is_error = bool(wire.get("isError"))
    return ToolResult(text=text or (NO_REASON if is_error else ""), is_error=is_error)


def _block(block: Mapping[str, Any]) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text") or "")
        case "image" | "audio" as kind:
            mime = block.get("mimeType") or kind
            return f"[{mime}, {_size(_base64_bytes(block.get('data') or ''))}]"
        case "resource":
            return _resource(block.get("resource") or {})
        case "resource_link":
            label = block.get("title") or block.get("name") or ""
            about = block.get("description") or ""
            return f"[{label}]({block.get('uri')})" + (f" {about}" if about else "")
        case kind:
            return f"[{kind}]"


def _resource(resource: Mapping[str, Any]) -> str:
    uri = resource.get("uri", "")
    if (text := resource.get("text")) is not None:
        return f"{uri}\n{text}"
    mime = resource.get("mimeType") or "application/octet-stream"
    return f"[{uri}, {mime}, {_size(_base64_bytes(resource.get('blob') or ''))}]"


def _base64_bytes(data: str) -> int:
    return len(data) * 3 // 4 - data[-2:].count("=")


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    if count < 1024**2:
        return f"{round(count / 1024)} KB"
    return f"{count / 1024**2:.1f} MB"
