"""Servers written by hand: a YAML file each, with its tools and requests for them.

```yaml
tool_set: greenhouse
tools:                        # as MCP lists them
  - {name: list_zones, description: List the zones., inputSchema: {type: object, properties: {}}}
requests:
  - {request: which zones do we have, tool: list_zones}
  - {request: how much is a bag of soil}      # sounds near, but no tool of the server serves it
```
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afx_train.data.generate import bucket_of
from afx_train.data.imports.files import read_text
from afx_train.data.imports.rows import Call, Row, Tool
from afx_train.errors import DataError
from afx_train.trajectory import Split

DEV_PERCENT = 8


class _Listed(BaseModel):
    """A tool as MCP lists it."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    name: str
    description: str = ""
    inputSchema: dict[str, Any]  # noqa: N815 - MCP's name


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    request: str
    tool: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    accept: tuple[dict[str, Any], ...] = ()


class _Server(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    tool_set: str
    about: str = ""
    tools: tuple[_Listed, ...] = Field(min_length=1)
    requests: tuple[_Asked, ...] = ()


def servers(source: Path, _: Path | None) -> Iterator[Row]:
    """A folder of <tool_set>.yaml, or one file. Some whole servers are the dev split."""
    paths = sorted(source.glob("*.yaml")) if source.is_dir() else [source]
    if not paths:
        raise DataError("has no *.yaml of servers", where=str(source))
    for path in paths:
        server = _read(path)
        tools = {
            tool.name: Tool(
                name=tool.name,
                description=tool.description,
                schema=tool.inputSchema,
                field=server.tool_set,
            )
            for tool in server.tools
        }
        for asked in server.requests:
            if asked.tool is not None and asked.tool not in tools:
                raise DataError(f"request for {asked.tool!r}, which is no tool", where=str(path))
            calls: tuple[Call, ...] = ()
            if asked.tool is not None:
                tool = tools[asked.tool]
                calls = (Call(tool=tool, arguments=asked.arguments, accept=asked.accept),)
            yield Row(
                request=asked.request,
                calls=calls,
                tools=tuple(tools.values()),
                none=server.tool_set,
                split=_split(server.tool_set),
                vouched=True,
            )


def _read(path: Path) -> _Server:
    try:
        return _Server.model_validate(yaml.safe_load(read_text(path)))
    except yaml.YAMLError as error:
        raise DataError(f"is not YAML: {error}", where=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{field}: {first['msg']}", where=str(path)) from error


def _split(tool_set: str) -> Split:
    return "dev" if bucket_of(tool_set) < DEV_PERCENT else "train"
