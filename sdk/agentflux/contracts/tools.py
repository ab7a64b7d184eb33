"""Tools as servers describe them, calls as the model writes them, results as servers answer."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentflux.errors import ConfigError

JsonSchema = Mapping[str, Any]
Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """One tool of one tool set. `input_schema` is the server's JSON Schema, untouched.

    Raises:
        ConfigError: `input_schema` names its properties in a way that no prompt can show.
    """

    tool_set: str
    name: str
    description: str = ""
    input_schema: JsonSchema = field(default_factory=dict[str, Any])
    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None

    def __post_init__(self) -> None:
        """Check the schema here, before a prompt is written of it in the middle of the work."""
        if not _is_readable(self.input_schema):
            msg = (
                f"tool {self.name!r}: its input schema must be an object, "
                "'properties' in it an object and 'required' a list of names"
            )
            raise ConfigError(msg, where=self.tool_set)

    @property
    def repeatable(self) -> bool:
        """Whether a call may be made again when nobody knows if the first one arrived."""
        return self.idempotent is True or (self.read_only is True and self.destructive is not True)

    @property
    def takes_arguments(self) -> bool:
        """Whether the schema declares any property."""
        return bool(self.input_schema.get("properties"))

    @property
    def sha256(self) -> str:
        """Hash over name, description and schema: what a changed tool changes."""
        body = [self.name, self.description, self.input_schema]
        text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def wire(self) -> dict[str, Any]:
        """As MCP lists it, without annotations."""
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": dict(self.input_schema),
        }

    @classmethod
    def from_wire(cls, tool_set: str, wire: Mapping[str, Any]) -> "ToolSpec":
        """Read an MCP tool with wire names (`name`, `description`, `inputSchema`, `annotations`).

        Raises:
            ConfigError: a key is missing or has the wrong type, in the schema, too.
        """
        name, schema = wire.get("name"), wire.get("inputSchema", {})
        description, hints = wire.get("description") or "", wire.get("annotations") or {}
        if not isinstance(name, str) or not name:
            raise ConfigError("a tool needs a 'name' (text)", where=tool_set)
        if not isinstance(description, str):
            raise ConfigError(f"tool {name!r}: 'description' must be text", where=tool_set)
        hints = hints if isinstance(hints, dict) else {}
        return cls(
            tool_set=tool_set,
            name=name,
            description=description,
            input_schema=schema,
            read_only=hints.get("readOnlyHint"),
            destructive=hints.get("destructiveHint"),
            idempotent=hints.get("idempotentHint"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model decided on."""

    tool_set: str
    tool: str
    arguments: Arguments = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool answered, reduced to text. A failed tool is a result with `is_error`."""

    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call and its observation, as later stages see them."""

    call: ToolCall
    observation: str
    is_error: bool = False


Catalog = Mapping[str, Sequence[ToolSpec]]


def by_set(tools: Iterable[ToolSpec]) -> dict[str, tuple[ToolSpec, ...]]:
    """Group tools by their set, in order."""
    sets: dict[str, list[ToolSpec]] = {}
    for tool in tools:
        sets.setdefault(tool.tool_set, []).append(tool)
    return {name: tuple(found) for name, found in sets.items()}


def load_tool_folder(folder: Path) -> dict[str, tuple[ToolSpec, ...]]:
    """Read every `<tool_set>.json` (a JSON list of MCP tools) of a folder, sorted by name.

    Other JSON files (not a list) are passed over.

    Raises:
        ConfigError: the folder or a file is unreadable, holds no tools, or a tool is malformed.
    """
    if not folder.is_dir():
        raise ConfigError("is not a folder of <tool_set>.json files", where=str(folder))
    catalog: dict[str, tuple[ToolSpec, ...]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            wire = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot be read as JSON: {error}", where=str(path)) from error
        if isinstance(wire, list):
            catalog[path.stem] = tuple(_wire_tool(path, item) for item in wire)
    if not catalog:
        raise ConfigError("has no <tool_set>.json with a list of tools", where=str(folder))
    return catalog


def _is_readable(schema: object) -> bool:
    """Whether properties and required names can be told. Servers write null or [] for none."""
    if not isinstance(schema, Mapping):
        return False
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, Mapping) and properties not in (None, []):
        return False
    if required is None:
        return True
    return isinstance(required, list | tuple) and all(isinstance(name, str) for name in required)


def _wire_tool(path: Path, item: object) -> ToolSpec:
    if not isinstance(item, dict):
        raise ConfigError("every entry of the list must be a tool object", where=str(path))
    return ToolSpec.from_wire(path.stem, item)
