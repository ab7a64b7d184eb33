"""Data folders as training reads them: `tools/<tool_set>.json` and trajectories in `*.jsonl`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
class Corpus:
    """All trajectories and the catalog that they call, with a hash over both."""

    catalog: dict[str, tuple[ToolSpec, ...]]
    trajectories: tuple[Trajectory, ...]
    sha256: str

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
        DataError: a folder has no trajectories, or one is malformed.
        ConfigError: a folder has no readable tools.
    """
    catalog: dict[str, tuple[ToolSpec, ...]] = {}
    trajectories: list[Trajectory] = []
    digest = hashlib.sha256()
    for folder in folders:
        catalog |= load_tool_folder(folder / "tools")
        files = sorted(folder.glob("*.jsonl"))
        if not files:
            raise DataError("has no *.jsonl of trajectories", where=str(folder))
        for path in files:
            trajectories += read_trajectories(path)
        for path in [*files, *sorted((folder / "tools").glob("*.json"))]:
            digest.update(f"{path.name} ".encode() + path.read_bytes())
    return Corpus(catalog=catalog, trajectories=tuple(trajectories), sha256=digest.hexdigest())
