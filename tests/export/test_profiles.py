# ruff: noqa: TID253 - runs the model builder itself
"""Every shipped profile: its graph is exported here, checked, and its LoRA sites are sound."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import LAYERS

from afx_export.adapters import read_adapter
from afx_export.base_graph import (
    base_graph,
    builder_arguments,
    builder_options,
    graph_folder,
    read_types,
)
from afx_export.bundle import write_genai_config, write_graph
from afx_export.hf import linear_shapes
from afx_export.quiet import offline_environment
from afx_export.sources import resolve
from afx_profiles import list_profiles, load_profile
from agentflux.contracts.cache import CACHE_VARIABLE

from .conftest import Exported
from .graph_checks import check_sites

# The builder as a program, several times in one process: it is torch's import that costs.
_MANY = (
    "import json, runpy, sys\n"
    "for arguments in json.load(sys.stdin):\n"
    "    sys.argv[1:] = arguments\n"
    "    runpy.run_module('afx_export.model_builder', run_name='__main__', alter_sys=True)\n"
)


@pytest.fixture(scope="module")
def graphs(exported: Exported) -> None:
    """The base graphs of all profiles, made into the cache where `build` finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(exported.cache))
        model = resolve(str(exported.model))
        commands: dict[str, list[str]] = {}
        for profile in map(load_profile, list_profiles()):
            folder = graph_folder(model, exported.weights, profile)
            # What export quantizes itself is made of the full-precision graph, in the test.
            if not folder.exists() and profile.quantization is None:
                options = builder_options(model, profile)
                commands[str(folder)] = builder_arguments(model.folder, folder, profile, options)
    subprocess.run(
        [sys.executable, "-c", _MANY],
        input=json.dumps(list(commands.values())),
        env=offline_environment(),
        text=True,
        capture_output=True,
        check=True,
    )


@pytest.mark.parametrize("name", list_profiles())
@pytest.mark.usefixtures("graphs")
def test_the_profile_exports_and_every_projection_gets_a_sound_branch(
    exported: Exported, tmp_path: Path, name: str
) -> None:
    profile, model = load_profile(name), resolve(str(exported.model))
    shapes = linear_shapes(model.folder)
    base = base_graph(model, exported.weights, profile)
    adapters = [read_adapter(exported.adapters / n, n, shapes) for n in ("picker", "router")]
    mode = profile.adapter_mode
    write_graph(base, tmp_path, shapes, adapters, mode=mode)
    write_genai_config(tmp_path, profile, 1024)
    files = ["model.onnx"] if mode != "merged" else [f"adapter.{a.name}.onnx" for a in adapters]
    kind = read_types(base).activations
    # The router adapts every linear layer: packed or not, each projection has its branch.
    found = check_sites(tmp_path, files, shapes, mode=mode, kind=kind)
    assert found in (5 * LAYERS, 7 * LAYERS)
    config = json.loads((tmp_path / "genai_config.json").read_text(encoding="utf-8"))
    options = config["model"]["decoder"]["session_options"].get("provider_options", [])
    if profile.provider == "cpu":
        assert options == []
    else:
        assert list(options[0]) == [profile.provider]
        assert options[0][profile.provider].items() >= profile.provider_options.items()
