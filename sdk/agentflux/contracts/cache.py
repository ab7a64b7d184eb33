"""The one cache folder of the project (weights, bundles, servers) and the identity of weights."""

import hashlib
import json
import os
import struct
import sys
from pathlib import Path

from agentflux.errors import ConfigError

CACHE_VARIABLE = "AGENTFLUX_CACHE"
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error),
)


def cache_folder() -> Path:
    """Return the cache folder: $AGENTFLUX_CACHE, else `agentflux` in the user's cache."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser().absolute()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "agentflux"


def model_folder(name: str) -> Path:
    """Return where `afx-export fetch NAME` puts the Hugging Face folder of a catalogue model."""
    return cache_folder() / "models" / name


def weights_sha256(folder: Path) -> str:
    """Hash the weights of a Hugging Face folder: names, dtypes, shapes and bytes, in name order.

    Independent of how the tensors are spread over safetensors files.

    Raises:
        ConfigError: the folder has no readable *.safetensors.
    """
    tensors: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(_tensor_hashes(path))
    if not tensors:
        raise ConfigError("has no *.safetensors weights", where=str(folder))
    body = "\n".join(f"{name} {digest}" for name, digest in sorted(tensors.items()))
    return hashlib.sha256(body.encode()).hexdigest()


def _tensor_hashes(path: Path) -> dict[str, str]:
    """Hash each tensor of a file. Format: u64 header length, JSON header, raw data."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 100_000_000)))
            found: dict[str, str] = {}
            for name, info in sorted(header.items()):
                if name == "__metadata__":
                    continue
                start, end = info["data_offsets"]
                stream.seek(8 + length + start)
                digest = hashlib.sha256(f"{info['dtype']} {info['shape']} ".encode())
                digest.update(stream.read(end - start))
                found[name] = digest.hexdigest()
            return found
    except _UNREADABLE as error:
        raise ConfigError(
            f"is not a readable safetensors file: {error}", where=str(path)
        ) from error
