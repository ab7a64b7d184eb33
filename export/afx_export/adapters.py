"""Read PEFT LoRA folders, and refuse what could not be exported faithfully.

What is read here is exactly what `delta_W = scale * B @ A` describes; every PEFT feature that
means more than that is refused by name.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from afx_export.errors import AdapterRefused
from agentflux.contracts.cache import weights_sha256
from agentflux.contracts.experts import FILES
from agentflux.errors import ConfigError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FloatArray = npt.NDArray[np.float32]

_PREFIX = "base_model.model."
_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_PLAIN_INIT = {True, False, None, "gaussian", "orthogonal", "eva"}
_FORBIDDEN = {
    "use_dora": "DoRA scales the base weights as well; train it with use_dora=False",
    "modules_to_save": "modules_to_save replaces base layers ({value}); export can only add LoRA",
    "lora_bias": "lora_bias adds a bias that the graph has no input for",
    "use_qalora": "QALoRA pools the inputs before A",
    "use_bdlora": "BD-LoRA lays A and B out in blocks",
    "layer_replication": "layer_replication changes the base model's layers",
    "target_parameters": "target_parameters adapts raw parameters, not linear layers",
    "trainable_token_indices": "trainable_token_indices changes the embedding",
    "arrow_config": "Arrow routes among adapters at run time",
    "monteclora_config": "MonteCLoRA samples its weights at run time",
    "velora_config": "VeLoRA changes the projection",
    "kasa_config": "KaSA truncates the base weights by SVD",
}
# Fields that do not change what the saved matrices mean. A field that is in neither list is of a
# newer PEFT, and refused.
_KNOWN = {
    *("peft_type", "bias", "init_lora_weights", "r", "lora_alpha", "rank_pattern", "alpha_pattern"),
    *("use_rslora", "alora_invocation_tokens", "target_modules", "exclude_modules", "lora_dropout"),
    *("fan_in_fan_out", "layers_to_transform", "layers_pattern", "megatron_config", "task_type"),
    *("megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "revision"),
    *("qalora_group_size", "runtime_config", "ensure_weight_tying", "auto_mapping", "peft_version"),
    *("base_model_name_or_path", "inference_mode"),
}
_MAX_CONFIG_BYTES = 1_000_000
_HUGE = 1e300
# A pattern with more, or with a repeated group, can take exponential time on a module's path.
_MAX_REPETITIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraPair:
    """One module's matrices. a: (rank, in_features), b: (out_features, rank), scale folded in b."""

    a: FloatArray
    b: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter: module path (`model.layers.0.self_attn.q_proj`) to its matrices.

    invocation_tokens: of an activated LoRA, the tokens from whose last occurrence on it is active.
    """

    name: str
    folder: Path
    pairs: Mapping[str, LoraPair]
    weights_sha256: str
    invocation_tokens: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(int(pair.a.shape[0]) for pair in self.pairs.values())

    @property
    def target_modules(self) -> tuple[str, ...]:
        """The last names of the adapted modules, sorted."""
        return tuple(sorted({module.rpartition(".")[2] for module in self.pairs}))


def find_adapters(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """List adapter folders: each given folder is one, or holds some directly inside.

    Raises:
        ConfigError: a folder is missing or holds no adapter.
    """
    found: list[Path] = []
    for folder in folders:
        inside = (
            [folder]
            if (folder / CONFIG).is_file()
            else sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
        )
        if not inside:
            raise ConfigError(f"is no adapter folder and holds none ({CONFIG})", where=str(folder))
        found += inside
    return tuple(dict.fromkeys(found))


def find_experts(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the files beside the adapters that help to choose, by the manifest's field.

    Raises:
        ConfigError: two of the folders hold different ones.
        FileMismatch: one cannot be read.
    """
    found: dict[str, Path] = {}
    for name, (file, read) in FILES.items():
        paths = [folder / file for folder in folders if (folder / file).is_file()]
        if len({path.read_bytes() for path in paths}) > 1:
            msg = f"two of the folders hold an {file}, and a bundle has one"
            raise ConfigError(msg, where="--adapters")
        for path in paths[:1]:
            read(path)
            found[name] = path
    return found


def read_adapter(folder: Path, name: str, shapes: Mapping[str, tuple[int, int]]) -> Adapter:
    """Read one PEFT folder for a base model whose linear layers have `shapes` (out, in).

    Raises:
        AdapterRefused: with the reason, naming the module where there is one.
    """
    config = _config(folder, name)
    _check_config(config, name)
    matrices = _matrices(folder, name)
    pairs: dict[str, LoraPair] = {}
    for module, sides in sorted(matrices.items()):
        if module not in shapes:
            raise AdapterRefused(name, f"module {module!r} is not a linear layer of the base model")
        pairs[module] = _pair(name, module, sides, shapes[module], config)
    if not pairs:
        raise AdapterRefused(name, f"{WEIGHTS} holds no LoRA matrices")
    return Adapter(
        name=name,
        folder=folder,
        pairs=pairs,
        weights_sha256=weights_sha256(folder),
        invocation_tokens=tuple(config.get("alora_invocation_tokens") or ()),
    )


def _config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise AdapterRefused(name, f"{CONFIG} is larger than {_MAX_CONFIG_BYTES} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterRefused(name, f"{CONFIG} is unreadable: {error}") from error
    if not isinstance(config, dict):
        raise AdapterRefused(name, f"{CONFIG} must hold a JSON object")
    return config


def _check_config(config: Mapping[str, Any], name: str) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterRefused(name, f"its PEFT type is {kind!r}; only LORA can be exported")
    if (bias := config.get("bias", "none")) != "none":
        raise AdapterRefused(name, f"bias is {bias!r}; only 'none' can be exported")
    for key, reason in _FORBIDDEN.items():
        if config.get(key):
            raise AdapterRefused(name, reason.format(value=config[key]))
    if unknown := sorted(k for k, v in config.items() if v and {k}.isdisjoint(_KNOWN)):
        raise AdapterRefused(name, f"{CONFIG} has {unknown[0]!r}, which this version does not know")
    init = config.get("init_lora_weights", True)
    if not isinstance(init, str | bool | None) or init not in _PLAIN_INIT:
        raise AdapterRefused(
            name,
            f"init_lora_weights is {init!r}, which changes the base weights; "
            "save it with PEFT's path_initial_model_for_weight_conversion",
        )
    _check_numbers(config, name)


def _check_numbers(config: Mapping[str, Any], name: str) -> None:
    for key, whole in (("r", True), ("lora_alpha", False)):
        if not _is_positive(config.get(key), whole=whole):
            kind = "whole" if whole else "positive"
            raise AdapterRefused(name, f"{key} must be a {kind} number, not {config.get(key)!r}")
    for key, whole in (("rank_pattern", True), ("alpha_pattern", False)):
        pattern = config.get(key) or {}
        if not isinstance(pattern, dict) or not all(
            _is_positive(value, whole=whole) for value in pattern.values()
        ):
            raise AdapterRefused(name, f"{key} must map module patterns to positive numbers")
    if not isinstance(config.get("use_rslora"), bool | None):
        raise AdapterRefused(name, "use_rslora must be true or false")
    tokens = config.get("alora_invocation_tokens") or []
    if not isinstance(tokens, list) or not all(type(t) is int and t >= 0 for t in tokens):
        raise AdapterRefused(name, "alora_invocation_tokens must be a list of token ids")


def _is_positive(value: object, *, whole: bool) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    # The comparison is exact for whole numbers of any size; NaN fails it, and so does infinity.
    return 0 < value < _HUGE and (not whole or value == int(value))


def _matrices(folder: Path, name: str) -> dict[str, dict[str, FloatArray]]:
    """Group the file's tensors by module. All are returned as fp32."""
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = any(folder.glob("*.bin"))
        why = (
            "its weights are a pickle, which can run code; save as safetensors"
            if pickled
            else (f"the folder has no {WEIGHTS}")
        )
        raise AdapterRefused(name, why)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise AdapterRefused(name, f"{WEIGHTS} is unreadable: {error}") from error
    grouped: dict[str, dict[str, FloatArray]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key.removeprefix(_PREFIX))
        if match is None:
            raise AdapterRefused(name, f"tensor {key!r} is no LoRA matrix of a linear layer")
        if not tensor.is_floating_point():
            raise AdapterRefused(name, f"tensor {key!r} is {tensor.dtype}, not floating point")
        array = tensor.float().numpy()
        if not np.isfinite(array).all():
            raise AdapterRefused(name, f"tensor {key!r} holds NaN or infinity")
        sides = grouped.setdefault(match["module"], {})
        if match["side"] in sides:
            raise AdapterRefused(name, f"{match['module']!r} has two lora_{match['side']}")
        sides[match["side"]] = array
    return grouped


def _pair(
    name: str,
    module: str,
    sides: Mapping[str, FloatArray],
    shape: tuple[int, int],
    config: Mapping[str, Any],
) -> LoraPair:
    rank = int(_pattern_value(config.get("rank_pattern"), module, config["r"], name))
    alpha = float(_pattern_value(config.get("alpha_pattern"), module, config["lora_alpha"], name))
    out_features, in_features = shape
    for side, wanted in (("A", (rank, in_features)), ("B", (out_features, rank))):
        found = sides[side].shape if side in sides else None
        if found != wanted:
            raise AdapterRefused(name, f"module {module!r}: lora_{side} is {found}, not {wanted}")
    stabilized = bool(config.get("use_rslora"))
    with np.errstate(over="ignore", invalid="ignore"):
        b = fold_scale(sides["B"], rank=rank, alpha=alpha, rank_stabilized=stabilized)
    if not np.isfinite(b).all():
        raise AdapterRefused(name, f"module {module!r}: lora_B overflows when scaled by alpha")
    return LoraPair(a=sides["A"], b=b)


def fold_scale(b: FloatArray, *, rank: int, alpha: float, rank_stabilized: bool) -> FloatArray:
    """Multiply LoRA B by its scale so that the runtime needs none.

    b: (out_features, rank). The scale is alpha/rank, or alpha/sqrt(rank) for rsLoRA.

    Source: Hu et al. 2021 (arXiv:2106.09685), 4.1; Kalajdzievski 2023 (arXiv:2312.03732).
    """
    return b * np.float32(alpha / (math.sqrt(rank) if rank_stabilized else rank))


def _pattern_value(pattern: object, module: str, default: float, name: str) -> float:
    """Look a module up as PEFT does: the first key that matches the end of its path."""
    items = pattern.items() if isinstance(pattern, dict) else ()
    for key, value in items:
        repetitions = len(re.findall(r"[*+{]", key))
        if repetitions > _MAX_REPETITIONS or re.search(r"\)[*+?{]", key):
            raise AdapterRefused(name, f"pattern {key!r} repeats too much to be matched safely")
        try:
            if re.match(rf"(.*\.)?({key})$", module):
                return float(value)
        except re.error as error:
            raise AdapterRefused(name, f"pattern {key!r} is no regular expression") from error
    return default
