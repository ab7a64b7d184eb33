"""Facts about a Hugging Face model folder, read without loading the model."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afx_export.errors import CorruptModel

_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What the manifest and the KV budget need of config.json."""

    name: str
    layers: int
    hidden_size: int
    vocab_size: int
    kv_heads: int
    head_size: int
    context_tokens: int


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CorruptModel: the file is missing, no JSON, or no object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptModel(str(path.parent), f"{path.name} is unreadable: {error}") from error
    if not isinstance(data, dict):
        raise CorruptModel(str(path.parent), f"{path.name} must hold a JSON object")
    return data


def read_architecture(folder: Path) -> Architecture:
    """Read config.json.

    Raises:
        CorruptModel: a field is missing.
    """
    config = read_json(folder / "config.json")
    config = {**config, **config.get("text_config", {})}
    try:
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        return Architecture(
            name=str(config["architectures"][0]),
            layers=int(config["num_hidden_layers"]),
            hidden_size=hidden,
            vocab_size=int(config["vocab_size"]),
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            context_tokens=int(config["max_position_embeddings"]),
        )
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CorruptModel(str(folder), f"config.json lacks {error}") from error


def linear_shapes(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Return (out_features, in_features) of every linear layer inside the decoder's layers.

    Reads the headers of the safetensors files only.

    Raises:
        CorruptModel: a header is damaged.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for key, shape in _tensor_shapes(folder).items():
        module, _, leaf = key.rpartition(".")
        if leaf == "weight" and ".layers." in module and len(shape) == 2:
            shapes[module] = (shape[0], shape[1])
    return shapes


def ties_embeddings(folder: Path) -> bool:
    """Whether the model's head is its embedding table.

    Raises:
        CorruptModel: config.json or a header of the weights is damaged.
    """
    config = read_json(folder / "config.json")
    said = {**config, **config.get("text_config", {})}.get("tie_word_embeddings")
    return bool(said) if said is not None else "lm_head.weight" not in _tensor_shapes(folder)


def _tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(min(length, 100_000_000)))
            for key, info in header.items():
                if key != "__metadata__":
                    shapes[key] = tuple(int(size) for size in info["shape"])
        except (*_BROKEN, struct.error) as error:
            raise CorruptModel(str(folder), f"{path.name} is damaged: {error}") from error
    return shapes
