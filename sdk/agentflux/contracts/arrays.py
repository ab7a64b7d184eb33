"""Small files of named arrays that travel in a bundle: a version, arrays, and a card for people."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from agentflux.errors import FileMismatch

Found = TypeVar("Found")
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayFile:
    """One kind of file. version: of what its numbers rest on, kept under the name `of`."""

    of: str
    version: int
    made_by: str

    def save(self, path: Path, card: Mapping[str, str], **arrays: Array) -> None:
        """Write the file, by a temporary name. Equal content gives equal bytes."""
        partial = path.with_name(path.name + ".partial")
        about = json.dumps(dict(card), sort_keys=True)
        held: dict[str, Any] = {self.of: np.array(self.version), **arrays, "card": np.array(about)}
        with partial.open("wb") as stream:
            np.savez_compressed(stream, **held)
        partial.replace(path)

    def load(
        self, path: Path, build: Callable[[Mapping[str, Array], dict[str, str]], Found]
    ) -> Found:
        """Read the file and build what it holds; `build` raises ValueError for what is wrong.

        Raises:
            FileMismatch: it is no such file, or of another version.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
                version = int(held[self.of])
                if version != self.version:
                    msg = f"is of version {version} of its {self.of}, this SDK reads {self.version}"
                    raise self._unusable(path, msg)
                return build(held, json.loads(str(held["card"])))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise self._unusable(path, f"cannot be read: {error}") from error

    def _unusable(self, path: Path, what: str) -> FileMismatch:
        hint = f"make it with: {self.made_by}"
        return FileMismatch(f"{path.name} {what}", bundle=str(path.parent), hint=hint)
