"""What a world is: a scratch workspace for one tool set, and the values that exist in it.

A worlds file (Python, named by `--worlds`) defines `worlds(scratch, grammars)`, which returns one
`World` for each tool set. It is the sample's code, not ours: it knows the servers.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Protocol, cast

from afx_train.data.template import Value
from afx_train.errors import DataError


class UnknownSlot(KeyError):
    """The scene has no such slot; another world may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """How to start a tool server that speaks MCP on stdio."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What an example asks of a scene before it is drawn.

    slots: names with number, of request and arguments. told: those that stand in the request.
    tools: the tools that are called on it, in no order.
    root: the workspace root as the context shows it; `shown` says whether it does.
    own: the workspace that was written for it, in the world's own terms; None: one is drawn.
    """

    slots: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    root: str = ""
    shown: bool = True
    own: Mapping[str, Any] | None = None


class Scene(Protocol):
    """One drawn state of a world. Drawing is cheap; `build` writes it to the scratch folder."""

    @property
    def paths(self) -> Mapping[str, str]:
        """Absolute paths as the model sees them → where they really are."""
        ...

    def slot(self, name: str) -> Value:
        """Return the slot's value, always the same for one scene.

        Raises:
            UnknownSlot: this world has no such slot.
        """
        ...

    def context(self, rng: Random) -> str:
        """Word what a host application shows about this world; empty where it shows nothing."""
        ...

    def refuses(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Say why a call makes no sense (source equals destination); empty where it does."""
        ...

    def accept(self, tool: str, arguments: Mapping[str, Any], request: str) -> list[dict[str, Any]]:
        """Return other arguments that are just as right."""
        ...

    def build(self) -> None:
        """Bring the state into being, replacing the one before."""
        ...

    def observed(self, tool: str, text: str) -> str:
        """Replace what differs from run to run (dates of today) by drawn values like it.

        Raises:
            Rejected: the text says that the call failed, which the server did not mark.
        """
        ...


class World(Protocol):
    """A tool set that examples can be drawn for and executed on."""

    @property
    def tool_set(self) -> str:
        """The tool set's name."""
        ...

    @property
    def server(self) -> ServerCommand:
        """The server, bound to this world's scratch folder."""
        ...

    def needs_context(self, need: Need) -> bool:
        """Whether such an example cannot be understood without this world's context."""
        ...

    def scene(self, rng: Random, need: Need) -> Scene:
        """Draw a state."""
        ...


def load_worlds(path: Path, *, scratch: Path, grammars: Path) -> dict[str, World]:
    """Load a worlds file and make its worlds, by tool set.

    Raises:
        DataError: the file is missing, fails to load, or defines no `worlds(scratch, grammars)`.
    """
    make = getattr(_load(path), "worlds", None)
    if not callable(make):
        raise DataError("defines no function worlds(scratch, grammars)", where=str(path))
    made = cast("Callable[[Path, Path], Sequence[World]]", make)(scratch, grammars)
    return {world.tool_set: world for world in made}


def _load(path: Path) -> ModuleType:
    """Import a file with its own folder on the path, so that it can have modules beside it."""
    spec = importlib.util.spec_from_file_location(f"afx_worlds_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DataError("is not a Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise DataError(f"cannot be loaded: {error}", where=str(path)) from error
    finally:
        sys.path.pop(0)
    return module
