"""The base graph by ONNX Runtime GenAI's model builder, made once and kept in the cache.

A profile with a `quantization` table gets the builder's fp32 graph, quantized here; the fp32 graph
is the one that the certificate needs anyway.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto, helper

from afx_export.console import say
from afx_export.errors import ArchitectureUnknown, BuilderFailed, DiskFull
from afx_export.files import new_folder, require_space
from afx_export.hf import linear_shapes, read_json, ties_embeddings
from afx_export.optimum_graph import optimum_graph
from afx_export.quantization.graph import QUANTIZER, quantize_graph
from afx_export.quiet import offline_environment
from afx_export.sources import Model
from afx_profiles import Profile
from agentflux.contracts.bundle import sha256_file
from agentflux.contracts.cache import cache_folder
from agentflux.errors import MissingExtra

_VERSIONED = ("onnxruntime-genai", "onnxruntime", "onnx-ir", "transformers")
_SCRATCH = "builder-scratch"
_UNKNOWN = re.compile(r"NotImplementedError: The .* model is not currently supported")
_PACKED_MLP = (".mlp.gate_up_proj", ".shared_mlp.input_linear")
_BITS = {"int4": 4, "int8": 8}
_BYTES_PER_FP32 = {"fp32": 1.3, "fp16": 0.7, "bf16": 0.7, "int8": 0.6, "int4": 0.5}


def base_graph(model: Model, weights: str, profile: Profile) -> Path:
    """Return the folder of the base graph, building it when the cache lacks it.

    weights: the model's `weights_sha256`.

    An architecture that the builder lacks is exported by optimum.

    Raises:
        BuilderFailed: the builder failed, or did not follow an option of the profile.
        OptimumMissing: the architecture needs optimum, which is not set up.
        DiskFull: no space for the graph.
    """
    folder = graph_folder(model, weights, profile)
    if (folder / "model.onnx").is_file():
        return folder
    size = sum(path.stat().st_size for path in model.folder.glob("*.safetensors"))
    # The builder writes the weights once more beside the graph while it works.
    require_space("base graph", folder, int(2 * _BYTES_PER_FP32[profile.precision] * size))
    source = _full_precision_graph(model, weights, profile)
    say(f"building the {profile.precision} base graph of {model.id} (kept for next time)")
    with new_folder(folder) as out:
        if source and profile.quantization:
            quantize_graph(source, out, profile.quantization, bits=_BITS[profile.precision])
        else:
            _build(model, out, profile)
    return folder


def _build(model: Model, out: Path, profile: Profile) -> None:
    try:
        _run_builder(model.folder, out, profile, builder_options(model, profile))
    except ArchitectureUnknown:
        optimum_graph(model.folder, out, profile)
    check_options(out, profile)


def _full_precision_graph(model: Model, weights: str, profile: Profile) -> Path | None:
    """Return the graph that export quantizes itself; None where the builder does it."""
    if profile.quantization is None or profile.precision not in _BITS:
        return None
    exact = profile.model_copy(update={"precision": "fp32", "quantization": None})
    return base_graph(model, weights, exact)


def graph_folder(model: Model, weights: str, profile: Profile) -> Path:
    """Return where the cache keeps a base graph, whether or not it is there."""
    return cache_folder() / "graphs" / f"{profile.precision}-{_key(model, weights, profile)}"


def _key(model: Model, weights: str, profile: Profile) -> str:
    """Hash everything that decides the graph folder's content."""
    small = sorted(p for p in model.folder.iterdir() if p.suffix in (".json", ".jinja"))
    facts: dict[str, object] = {
        "weights": weights,
        "files": {p.name: sha256_file(p) for p in small},
        "precision": profile.precision,
        "provider": profile.builder.execution_provider,
        "options": builder_options(model, profile),
        "versions": {name: _version(name) for name in _VERSIONED},
    }
    if profile.quantization is not None:
        facts["quantization"] = profile.quantization.model_dump(mode="json")
        facts["quantizer"] = QUANTIZER
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def builder_options(model: Model, profile: Profile) -> dict[str, str]:
    """Return the builder's extra options: the profile's, and what the model itself asks for.

    - gate and up stay one product where the model has them so (Phi-3, Phi-4, Granite 4): an
      adapter of such a model adapts both as one module;
    - layers with a sliding window keep all KV: from a buffer of the window's length the runtime
      could not rewind to an earlier stage;
    - one table for embedding and head only where the model ties them.
    """
    options: dict[str, str] = {}
    if any(name.endswith(_PACKED_MLP) for name in linear_shapes(model.folder)):
        options["fuse_mlp_gate_up"] = "true"
    config = read_json(model.folder / "config.json")
    if {**config, **config.get("text_config", {})}.get("sliding_window"):
        options["windowed_kv_cache"] = "false"
    options |= profile.builder.arguments()
    if not ties_embeddings(model.folder):
        options.pop("shared_embeddings", None)
    return options


def builder_arguments(
    source: Path, out: Path, profile: Profile, options: dict[str, str]
) -> list[str]:
    """Spell a build as arguments of `afx_export.model_builder`."""
    arguments = ["-i", str(source), "-o", str(out), "-c", str(out / _SCRATCH)]
    arguments += ["-p", profile.precision, "-e", profile.builder.execution_provider]
    if options:
        arguments += ["--extra_options", *(f"{key}={value}" for key, value in options.items())]
    return arguments


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _run_builder(source: Path, out: Path, profile: Profile, options: dict[str, str]) -> None:
    """Run the builder in a process of its own: it prints a lot, from native code too."""
    if not _version("onnxruntime-genai"):
        raise MissingExtra("onnxruntime_genai", extra="cpu,export")
    command = [sys.executable, "-P", "-m", "afx_export.model_builder"]
    command += builder_arguments(source, out, profile, options)
    done = subprocess.run(
        command, env=offline_environment(), capture_output=True, encoding="utf-8", errors="replace"
    )
    shutil.rmtree(out / _SCRATCH, ignore_errors=True)
    if done.returncode == 0 and (out / "model.onnx").is_file():
        return
    if "No space left on device" in done.stderr:
        raise DiskFull("base graph", folder=str(out.parent))
    lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
    if lines and _UNKNOWN.search(lines[-1]):
        raise ArchitectureUnknown(lines[-1])
    reason = lines[-1][:300] if lines else f"exit status {done.returncode}"
    msg = f"the model builder failed for profile {profile.name!r}: {reason}"
    raise BuilderFailed(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTypes:
    """Float types of a graph: of its activations, and the bytes of one KV cache element."""

    activations: Literal["float32", "float16"]
    cache_bytes: int


def read_types(folder: Path) -> GraphTypes:
    """Read the float types of a base graph: the provider decides them, not the weights.

    Raises:
        BuilderFailed: it computes in a type that LoRA branches are not made for.
    """
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    found = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)
    }
    cache = next((kind for name, kind in found.items() if name.startswith("past_key")), 0)
    if found.get("logits") not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        kind = TensorProto.DataType.Name(found.get("logits", 0))
        raise BuilderFailed(f"the graph computes in {kind}; LoRA branches are fp32 or fp16")
    return GraphTypes(
        activations="float16" if found["logits"] == TensorProto.FLOAT16 else "float32",
        cache_bytes=helper.tensor_dtype_to_np_dtype(cache).itemsize if cache else 4,
    )


def check_options(folder: Path, profile: Profile) -> None:
    """Compare a graph with its profile: the builder ignores options that it does not know.

    Raises:
        BuilderFailed: the graph has another width, block size or accuracy level.
    """
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    wanted = {"bits": _BITS.get(profile.precision)}
    for option in ("block_size", "accuracy_level"):
        value = profile.builder.extra_options.get(option)
        wanted[option] = int(value) if value is not None else None
    if profile.builder.extra_options.get("use_qdq"):
        # Bits and accuracy level are facts of MatMulNBits; here the weights' own type tells them.
        wanted = {"block_size": wanted["block_size"]}
        quantized = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    else:
        quantized = [node for node in graph.node if node.op_type == "MatMulNBits"]
    if profile.precision in _BITS and not quantized:
        msg = f"profile {profile.name!r} asks for {profile.precision}, the graph is not quantized"
        raise BuilderFailed(msg)
    for node in quantized:
        found = {a.name: a.i for a in node.attribute}
        for key, value in wanted.items():
            if value is not None and found.get(key, 0) != value:
                msg = f"profile {profile.name!r} asks for {key}={value}, but {node.name} has "
                raise BuilderFailed(msg + f"{found.get(key, 0)}: the builder ignored the option")
