"""Catalog pinning: a tool that changed is held back until a person accepts it again.

A server can describe a tool harmlessly, be approved, and describe it otherwise later (a "rug
pull"). A tool is pinned by the hash that the bundle's adapters were exported with, or else by what
it looked like when it was first seen. A held tool is in no prompt and cannot be called.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.tools import ToolSpec, by_set
from agentflux.errors import ConfigError
from agentflux.orchestration.known_sets import KnownSets


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTool:
    """A tool that changed since it was exported or accepted. `tool`: as it is now."""

    tool: ToolSpec
    since: Literal["export", "acceptance"]

    @property
    def sha256(self) -> str:
        """Hash over the tool with its hints, which `ToolSpec.sha256` leaves out."""
        return fingerprint(self.tool)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1] = 1
    tools: dict[str, str] = {}


class Pins:
    """What each tool looked like when it was accepted; in memory, and in a file where one is given.

    exported: with more than one entry for a tool, each of them is accepted.

    Raises:
        ConfigError: the file is unreadable or not one of ours.
    """

    def __init__(self, exported: Iterable[CatalogTool] = (), *, path: Path | None = None) -> None:
        self._known = tuple(exported)
        self._exported: dict[tuple[str, str], set[str]] = {}
        for tool in self._known:
            self._exported.setdefault((tool.tool_set, tool.name), set()).add(tool.sha256)
        self._path = path
        self._accepted = dict(_read(path).tools) if path is not None else {}

    def sift(self, tools: Sequence[ToolSpec]) -> tuple[tuple[ToolSpec, ...], tuple[HeldTool, ...]]:
        """Part all listed tools into those that may be used and those held; pin what is new.

        A tool set is looked up under the name that the export knows it by.
        """
        sets = KnownSets(by_set(tools), self._known)
        usable: list[ToolSpec] = []
        held: list[HeldTool] = []
        before = dict(self._accepted)
        for tool in tools:
            since = self._changed(tool, sets.trained(tool.tool_set))
            if since is None:
                self._accepted[_key(tool)] = fingerprint(tool)
                usable.append(tool)
            else:
                held.append(HeldTool(tool=tool, since=since))
        if self._accepted != before:
            self._save()
        return tuple(usable), tuple(held)

    def accept(self, tool: ToolSpec) -> None:
        """Take the tool as it is now."""
        self._accepted[_key(tool)] = fingerprint(tool)
        self._save()

    def _changed(self, tool: ToolSpec, exported_set: str) -> Literal["export", "acceptance"] | None:
        accepted = self._accepted.get(_key(tool))
        if accepted is not None:
            return None if accepted == fingerprint(tool) else "acceptance"
        exported = self._exported.get((exported_set, tool.name))
        return None if exported is None or tool.sha256 in exported else "export"

    def _save(self) -> None:
        if self._path is None:
            return
        body = _File(tools=dict(sorted(self._accepted.items()))).model_dump()
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise ConfigError(
                f"cannot be written: {error.strerror}", where=str(self._path)
            ) from error


def fingerprint(tool: ToolSpec) -> str:
    """Hash what a model or a person judges a tool by: name, description, schema and hints."""
    hints = [tool.read_only, tool.destructive, tool.idempotent]
    return hashlib.sha256(json.dumps([tool.sha256, hints]).encode()).hexdigest()


def _key(tool: ToolSpec) -> str:
    return f"{tool.tool_set}/{tool.name}"


def _read(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValidationError as error:
        raise ConfigError("is not a file of accepted tools", where=str(path)) from error
