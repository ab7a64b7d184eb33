"""What LoRA branches cost: graphs and adapters in turns, each measurement in a process of its own.

python tests/bench/graphs.py [--profile cpu-int4] [--rounds 5] [--out docs/benchmarks]

Compared on SmolLM2-135M-Instruct, prefill of 512 tokens and decode of 64:

- `base`: the bundle without adapters, the profile's plain graph;
- `attention, none` / `attention, r16`: branches on q, k, v, o; the null adapter or one active;
- `all, none` / `all, r16`: branches on every linear layer;
- `attention, Olive` / `all, Olive`: the graph that the builder and Olive's adapter extraction make:
  the builder with `adapter_path` unpacks q, k, v and gives each projection its own A and B, which
  become graph inputs. Its base weights are quantized as the bundle's are, so that only the form of
  the branches differs;
- `builder`: the builder's adapter route in int4 alone. The LoRA is constant and quantized as well,
  so it cannot be switched; its base has other kernels (whole zeros, a 4-bit head).

The floor beside a row is the time that reading the adapter's bytes adds, if bytes were all.
"""
# ruff: noqa: T201

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from runs import save_result, table

MODEL = "smollm2-135m-instruct"
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
PREFILL, DECODE, REPEATS = 512, 64, 3
RESULTS = Path(__file__).parents[2] / "docs" / "benchmarks"


def measure(folder: Path, adapter: str) -> dict[str, float]:
    """Return tokens a second of one graph; adapter: a name under `adapters/`, or empty."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime_genai as og

    from agentflux.engines.ort import physical_cores

    config = og.Config(str(folder))
    options = {"intra_op_num_threads": physical_cores()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    model = og.Model(config)
    adapters = og.Adapters(model)
    if adapter:
        adapters.load(str(folder / "adapters" / f"{adapter}.onnx_adapter"), adapter)
    rates: dict[str, list[float]] = {"prefill": [], "decode": []}
    for _ in range(REPEATS):
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=PREFILL + DECODE + 8, do_sample=False)
        generator = og.Generator(model, params)
        if adapter:
            generator.set_active_adapter(adapters, adapter)
        started = time.perf_counter()
        generator.append_tokens([100 + i % 900 for i in range(PREFILL)])
        rates["prefill"].append(PREFILL / (time.perf_counter() - started))
        started = time.perf_counter()
        for token in range(DECODE):
            generator.append_tokens([200 + token])
        rates["decode"].append(DECODE / (time.perf_counter() - started))
    return {key: median(values) for key, values in rates.items()}


def build_all(root: Path, profile: str) -> dict[str, tuple[Path, str]]:
    """Make every graph under `root` and return (folder, active adapter) by the row's name."""
    made = partial(_made, root)
    rows = {"base": (made("base", lambda out: _export(out, profile, None)), "")}
    for name, targets in (("attention", ATTENTION), ("all", ALL)):
        lora = made(f"lora-{name}", partial(random_lora, targets=targets))
        fused = made(name, partial(_export, profile=profile, adapter=lora))
        rows[f"{name}, none"], rows[f"{name}, r16"] = (fused, "base"), (fused, lora.name)
        olive = made(f"olive-{name}", partial(_olive, adapter=lora, profile_name=profile))
        rows[f"{name}, Olive"] = (olive, "one")
    rows["builder"] = (made("builder", partial(_builder, adapter=root / "lora-all")), "")
    return rows


def _made(root: Path, name: str, make: Callable[[Path], object]) -> Path:
    from afx_export.files import new_folder

    if not (root / name).exists():
        with new_folder(root / name) as out:
            make(out)
    return root / name


def _export(out: Path, profile: str, adapter: Path | None) -> None:
    from afx_export.build import Request, build
    from afx_export.placement import Place

    adapters = (adapter,) if adapter else ()
    places = {adapter.name: Place(subtask="route")} if adapter else {}
    request = Request(
        model=MODEL, profile=profile, out=out, adapters=adapters, places=places, name="graph"
    )
    build(request)


def random_lora(
    folder: Path, targets: tuple[str, ...], *, model: str = MODEL, seed: int = 0
) -> Path:
    """Save a PEFT LoRA of rank 16 with small random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from afx_export.sources import resolve

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(resolve(model).folder, dtype=torch.float32)
    config = LoraConfig(r=16, lora_alpha=16, target_modules=list(targets), task_type="CAUSAL_LM")
    adapted: Any = get_peft_model(base, config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.005)
    adapted.save_pretrained(folder)
    return folder


def _olive(out: Path, adapter: Path, profile_name: str) -> None:
    """Make the graph of the builder's adapter route with its LoRA constants as graph inputs.

    Olive's ExtractAdapters does the same to the same names. Olive itself is not run: its adapter
    files carry other names than its graph (microsoft/Olive#2277).
    """
    import onnx
    from onnx import helper

    from afx_export.base_graph import builder_arguments, builder_options
    from afx_export.quantization.graph import quantize_graph
    from afx_export.quantization.tensors import read_tensors
    from afx_export.sources import resolve
    from afx_profiles import load_profile

    profile, model = load_profile(profile_name), resolve(MODEL)
    exact = profile.model_copy(update={"precision": "fp32", "quantization": None})
    options = {**builder_options(model, exact), "adapter_path": str(adapter)}
    source = out / "fp32"
    command = [sys.executable, "-m", "afx_export.model_builder"]
    command += builder_arguments(model.folder, source, exact, options)
    source.mkdir()
    subprocess.run(command, check=True, capture_output=True)
    graph = (made := onnx.load(source / "model.onnx", load_external_data=False)).graph
    tensors = read_tensors(graph, source)
    names = [n.input[1] for n in graph.node if n.op_type == "MatMul" and "/lora_" in n.name]
    matrices = {name: np.array(tensors[name]) for name in names}
    for name in names:
        kind = helper.np_dtype_to_tensor_dtype(matrices[name].dtype)
        graph.input.append(helper.make_tensor_value_info(name, kind, matrices[name].shape))
    kept = [tensor for tensor in graph.initializer if tensor.name not in matrices]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.save(made, source / "model.onnx")
    quantize_graph(source, out, profile.quantization, bits=4)
    shutil.rmtree(source)
    (out / "adapters").mkdir()
    _write_adapter(out / "adapters" / "one.onnx_adapter", matrices)


def _write_adapter(path: Path, matrices: dict[str, Any]) -> None:
    import onnxruntime

    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    file.set_parameters({name: value(array) for name, array in matrices.items()})
    file.export_adapter(str(path))


def _builder(out: Path, adapter: Path) -> None:
    from afx_export.sources import resolve

    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu"]
    command += ["-i", str(resolve(MODEL).folder), "-o", str(out), "-c", str(out / "scratch")]
    command += ["--extra_options", f"adapter_path={adapter}", "block_size=32", "accuracy_level=4"]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Build, measure in turns, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="cpu-int4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--graphs", type=Path, help="keep the graphs here and use those there")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(Path(given.one[0]), given.one[1])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = given.graphs or Path(temporary)
        rows = build_all(root, given.profile)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
        for _ in range(given.rounds):
            for name, (folder, adapter) in rows.items():
                command = [sys.executable, __file__, "--one", str(folder), adapter]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
        base_bytes = (root / "base" / "model.onnx.data").stat().st_size
        sizes = {n: _adapter_bytes(folder, a) for n, (folder, a) in rows.items()}
    if not given.rounds:
        return
    results = []
    for name, costs in found.items():
        row = {key: round(median(cost[key] for cost in costs), 1) for key in costs[0]}
        results.append({"graph": name, **row, "floor": round(sizes[name] / base_bytes, 4)})
    for result in results:
        for key in ("prefill", "decode"):
            result[f"{key}_slower"] = round(results[0][key] / result[key] - 1, 4)
    save_result(given.out / "graphs.json", {"profile": given.profile, "rows": results})
    print(table(results))


def _adapter_bytes(folder: Path, adapter: str) -> int:
    path = folder / "adapters" / f"{adapter}.onnx_adapter"
    return path.stat().st_size if adapter else 0


if __name__ == "__main__":
    main()
