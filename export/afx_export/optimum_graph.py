"""Base graphs of architectures that the model builder lacks, exported by optimum.

optimum's graph is made of plain operators: attention without a fused kernel, no shared KV buffer.
It is slower than the builder's, and right. It runs on the CPU provider.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import onnx

from afx_export.console import say
from afx_export.errors import BuilderFailed, OptimumMissing
from afx_export.hf import read_architecture, read_json
from afx_export.quiet import offline_environment
from afx_profiles import Profile
from agentflux.contracts.switching import GRAPH, WEIGHTS

PYTHON_VARIABLE = "AGENTFLUX_OPTIMUM_PYTHON"
_WORKER = Path(__file__).with_name("optimum_worker.py")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_BITS = {"int4": 4, "int8": 8}


def optimum_graph(source: Path, out: Path, profile: Profile) -> None:
    """Write the graph, genai_config.json and the tokenizer of a model folder into `out`.

    Raises:
        OptimumMissing: no environment with optimum is named, or it cannot export.
        BuilderFailed: optimum does not know the architecture either, or the profile asks for
            more than a CPU graph.
    """
    if profile.provider != "cpu" or profile.precision not in ("fp32", *_BITS):
        msg = f"optimum's graphs are made for CPU profiles, not for {profile.name!r}"
        raise BuilderFailed(msg)
    architecture = read_architecture(source).name
    python = _python(architecture)
    say(f"the model builder has no {architecture}: exporting it with optimum")
    with tempfile.TemporaryDirectory(dir=out) as folder:
        _run(python, source, Path(folder), architecture)
        model = onnx.load(Path(folder) / "model.onnx")
    model = _quantized(model, profile)
    onnx.save_model(
        model,
        str(out / GRAPH),
        save_as_external_data=True,
        location=WEIGHTS,
        size_threshold=1024,
    )
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    config = genai_config(source, model.graph)
    (out / "genai_config.json").write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")


def _python(architecture: str) -> str:
    named = os.environ.get(PYTHON_VARIABLE, "")
    found = shutil.which(named) if named else None
    if found is None:
        why = f"{PYTHON_VARIABLE}={named} is no program" if named else ""
        raise OptimumMissing(architecture, variable=PYTHON_VARIABLE, why=why)
    return found


def _run(python: str, source: Path, out: Path, architecture: str) -> None:
    done = subprocess.run(
        [python, "-I", str(_WORKER), str(source), str(out)],
        env=offline_environment(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    reason = lines[-1][:300] if lines else f"exit status {done.returncode}"
    if done.returncode == 3:
        raise OptimumMissing(architecture, variable=PYTHON_VARIABLE, why=f"{python}: {reason}")
    if done.returncode or not (out / "model.onnx").is_file():
        raise BuilderFailed(f"optimum could not export {architecture}: {reason}")


def _quantized(model: onnx.ModelProto, profile: Profile) -> onnx.ModelProto:
    """Quantize the products' weights as the profile says; fp32 stays as it is."""
    bits = _BITS.get(profile.precision)
    if bits is None:
        return model
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    options = profile.builder.extra_options
    quantizer: Any = MatMulNBitsQuantizer(
        model,
        bits=bits,
        block_size=int(options.get("block_size", 32)),
        is_symmetric=True,
        accuracy_level=int(options["accuracy_level"]) if "accuracy_level" in options else None,
    )
    quantizer.process()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized


def genai_config(source: Path, graph: onnx.GraphProto) -> dict[str, Any]:
    """Describe an exported decoder to ONNX Runtime GenAI, by the names of the graph's inputs."""
    shape, config = read_architecture(source), read_json(source / "config.json")
    names = {value.name for value in graph.input}
    single = [name for name in ("input_ids", "attention_mask", "position_ids") if name in names]
    decoder: dict[str, Any] = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": "model.onnx",
        "head_size": shape.head_size,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": int(config["num_attention_heads"]),
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "inputs": {
            **{name: name for name in single},
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    ids = {key: config.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    first = ids["eos_token_id"][0] if isinstance(ids["eos_token_id"], list) else ids["eos_token_id"]
    return {
        "model": {
            # Any decoder of this form: the name decides nothing but that it is one.
            "type": "llama",
            "context_length": shape.context_tokens,
            "vocab_size": shape.vocab_size,
            "decoder": decoder,
            **{key: value for key, value in ids.items() if value is not None},
            "pad_token_id": ids["pad_token_id"] if ids["pad_token_id"] is not None else first,
        },
        # The graph appends to the KV cache instead of writing into a shared buffer.
        "search": {
            "max_length": shape.context_tokens,
            "do_sample": False,
            "past_present_share_buffer": False,
        },
    }
