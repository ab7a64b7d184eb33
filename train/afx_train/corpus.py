"""Data folders as training reads them: `tools/<tool_set>.json` and trajectories in `*.jsonl`."""

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from afx_train.errors import DataError
from afx_train.trajectory import Trajectory, TrajectoryStep, read_trajectories
from agentflux.contracts.tools import ToolSpec, load_tool_folder


@dataclass(frozen=True, slots=True)
class KnownTool:
    """A tool of the catalog. A deprecated one stands in the catalog and is never right."""

    spec: ToolSpec

    @property
    def deprecated(self) -> bool:
        """Whether its description says that it is deprecated."""
        return "DEPRECATED" in self.spec.description


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One data folder: tool sets that are offered together, and the requests made there."""

    catalog: dict[str, tuple[ToolSpec, ...]]
    trajectories: tuple[Trajectory, ...]

    @property
    def taught(self) -> frozenset[str]:
        """The tool sets that training asks for; whole ones may be kept for evaluation."""
        asked = (item for item in self.trajectories if item.split == "train")
        return frozenset(step.tool_set for item in asked for step in item.steps)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Data folders as one, with a hash over all of them."""

    worlds: tuple[World, ...]
    sha256: str

    @cached_property
    def catalog(self) -> dict[str, tuple[ToolSpec, ...]]:
        """The tool sets of all worlds."""
        return {name: tools for world in self.worlds for name, tools in world.catalog.items()}

    @cached_property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """The trajectories of all worlds."""
        return tuple(item for world in self.worlds for item in world.trajectories)

    def listed(self) -> dict[str, list[dict[str, Any]]]:
        """Return the tools of each set, names and schemas as servers list them."""
        return {
            name: [{"name": tool.name, "inputSchema": dict(tool.input_schema)} for tool in tools]
            for name, tools in self.catalog.items()
        }

    def offering(self, tool_sets: Set[str]) -> "Corpus":
        """Return the worlds where one of these tool sets is offered."""
        chosen = tuple(world for world in self.worlds if tool_sets & world.catalog.keys())
        return replace(self, worlds=chosen)

    def whole(self) -> "Corpus":
        """Return the worlds without those cut from another one, whose requests would count twice.

        Those have only tools of another one with fewer tool sets (`afx-train data parts`).
        """
        held = [
            {tool.sha256 for tools in world.catalog.values() for tool in tools}
            for world in self.worlds
        ]
        sizes = [len(world.catalog) for world in self.worlds]
        chosen = tuple(
            world
            for world, tools, size in zip(self.worlds, held, sizes, strict=True)
            if not any(
                tools <= others and size > fewer for others, fewer in zip(held, sizes, strict=True)
            )
        )
        return replace(self, worlds=chosen)

    def tool(self, step: TrajectoryStep) -> KnownTool:
        """Find the tool that a step calls.

        Raises:
            DataError: the catalog does not have it.
        """
        for spec in self.catalog.get(step.tool_set, ()):
            if spec.name == step.tool:
                return KnownTool(spec)
        raise DataError(f"tool {step.tool!r} of {step.tool_set!r} is not in the data's tools")


def load_corpus(folders: Sequence[Path]) -> Corpus:
    """Read data folders as one.

    Raises:
        DataError: a folder has no trajectories, one is malformed, or two folders name other tools
            by the same tool set.
        ConfigError: a folder has no readable tools.
    """
    worlds: list[World] = []
    homes: dict[str, tuple[Path, tuple[ToolSpec, ...]]] = {}
    digest = hashlib.sha256()
    for folder in folders:
        catalog = load_tool_folder(folder / "tools")
        for name, tools in catalog.items():
            home, there = homes.setdefault(name, (folder, tools))
            if there != tools:
                raise DataError(f"tool set {name!r} has other tools in {home}", where=str(folder))
        files = sorted(folder.glob("*.jsonl"))
        if not files:
            raise DataError("has no *.jsonl of trajectories", where=str(folder))
        items = tuple(item for path in files for item in read_trajectories(path))
        worlds.append(World(catalog=catalog, trajectories=items))
        for path in [*files, *sorted((folder / "tools").glob("*.json"))]:
            digest.update(f"{path.name} ".encode() + path.read_bytes())
    return Corpus(worlds=tuple(worlds), sha256=digest.hexdigest())
