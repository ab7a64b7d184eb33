# ruff: noqa: TID253 - reads graphs itself
"""The LoRA edit on every architecture: real builder, ONNX Runtime against transformers + PEFT."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_models import ARCHITECTURES, LAYERS, save_adapter, save_model

from afx_export.adapter_modes import locate
from afx_export.adapters import Adapter, read_adapter
from afx_export.base_graph import builder_arguments, builder_options
from afx_export.bundle import write_graph
from afx_export.certificate import compare, decode, require_equal, score, tokenizer_of
from afx_export.genai import Runtime
from afx_export.hf import linear_shapes
from afx_export.placement import Place, Placed
from afx_export.quiet import offline_environment
from afx_export.reference import Reference
from afx_export.sources import Model
from afx_profiles import load_profile
from agentflux.contracts.bundle import AdapterEntry, RuntimeSettings
from agentflux.contracts.prompts import ChatFormat

MAX_LOGIT_ERROR = 1e-3
# Runs the builder once for each list of arguments: torch is imported once.
_RUN_ALL = (
    "import json, runpy, sys\n"
    "for arguments in json.load(sys.stdin):\n"
    "    sys.argv[1:] = arguments\n"
    "    runpy.run_module('afx_export.model_builder', run_name='__main__', alter_sys=True)\n"
)

_SETTINGS = RuntimeSettings(
    profile="cpu-fp32",
    provider="cpu",
    precision="fp32",
    adapter_mode="runtime",
    context_tokens=1024,
    kv_budget_bytes=1 << 20,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Model folder and fp32 base graph of every architecture."""
    root = tmp_path_factory.mktemp("architectures")
    profile = load_profile("cpu-fp32")
    folders, builds = {}, []
    for name in ARCHITECTURES:
        model, out = save_model(root / "models" / name, architecture=name), root / "graphs" / name
        options = builder_options(Model(folder=model, id=name), profile)
        builds.append(builder_arguments(model, out, profile, options))
        folders[name] = (model, out)
    subprocess.run(
        [sys.executable, "-c", _RUN_ALL],
        input=json.dumps(builds),
        env=offline_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return folders


def _adapters(folder: Path, shapes: dict[str, tuple[int, int]]) -> tuple[Adapter, ...]:
    """All linear layers at rank 4; half of them at ranks 3 and 2, rank-stabilized."""
    modules = sorted({module.rpartition(".")[2] for module in shapes})
    few = tuple(modules[::2])
    save_adapter(folder / "all", targets=tuple(modules), shapes=shapes)
    save_adapter(
        folder / "few",
        targets=few,
        shapes=shapes,
        rank=3,
        ranks={few[0]: 2},
        seed=1,
        use_rslora=True,
    )
    return tuple(read_adapter(folder / name, name, shapes) for name in ("all", "few"))


def _entry(adapter: Adapter) -> AdapterEntry:
    placed = Placed(
        folder=adapter.folder, name=adapter.name, place=Place(subtask="select"), card=None
    )
    return placed.entry(adapter, "request")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_edited_graph_decodes_what_transformers_and_peft_decode(
    name: str, built: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    model, graph = built[name]
    shapes = dict(linear_shapes(model))
    adapters = _adapters(tmp_path / "adapters", shapes)
    entries = locate([_entry(adapter) for adapter in adapters], "runtime")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    write_graph(graph, bundle, shapes, adapters)
    runtime = Runtime(bundle, _SETTINGS, entries)
    questions = decode(runtime, ChatFormat(), entries, tokenizer_of(model))
    reference = Reference(model, {adapter.name: adapter.folder for adapter in adapters})
    parity = compare(questions, [q.answer.logits for q in questions], score(reference, questions))
    require_equal(parity)
    assert [(row.adapter, row.tokens) for row in parity.rows] == [
        ("base", 36),
        ("all", 36),
        ("few", 36),
    ]
    assert max(row.max_logit_error for row in parity.rows) < MAX_LOGIT_ERROR
    # The comparison would notice an adapter that does nothing.
    first = questions[0]
    own = runtime.logits("all", first.base, first.adapted, first.answer.tokens)
    assert np.abs(own - first.answer.logits).max() > 0.1
    _check_branches(bundle, packed_mlp=name in ("phi3", "granite4"))


def _check_branches(bundle: Path, *, packed_mlp: bool) -> None:
    """Projections that the builder packed have one branch: qkv, o, gate and up (or both), down."""
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    inputs = [value.name for value in graph.input if value.name.endswith("lora_A.weight")]
    assert len(inputs) == LAYERS * (4 if packed_mlp else 5)
    assert sum(".qkv_proj." in name for name in inputs) == LAYERS
