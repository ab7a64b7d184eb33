"""Architectures that the model builder lacks: optimum's graph, the same LoRA edit."""

import os
import sys
from pathlib import Path

import pytest
from tiny_models import save_adapter, save_model

from afx_export.build import Request, build
from afx_export.errors import OptimumMissing
from afx_export.hf import linear_shapes
from afx_export.optimum_graph import PYTHON_VARIABLE, optimum_graph
from afx_export.optimum_worker import before_5, check_environment
from afx_export.placement import Place
from afx_profiles import load_profile
from agentflux.contracts.cache import CACHE_VARIABLE

OPTIMUM = os.environ.get(PYTHON_VARIABLE, "")


@pytest.fixture(scope="module")
def stablelm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("stablelm") / "tiny", architecture="stablelm")


def _request(model: Path, folder: Path, profile: str = "cpu-fp32") -> Request:
    targets = ("q_proj", "k_proj", "o_proj", "gate_proj", "down_proj")
    adapter = save_adapter(folder / "pick", targets=targets, shapes=linear_shapes(model))
    return Request(
        model=str(model),
        profile=profile,
        out=folder / "bundle",
        adapters=(adapter,),
        places={"pick": Place(subtask="select")},
    )


@pytest.fixture
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.mark.usefixtures("_own_folder")
def test_without_optimum_its_set_up_is_named(
    stablelm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(OptimumMissing, match=r"agentflux-edge\[optimum\]") as caught:
        build(_request(stablelm, tmp_path))
    assert caught.value.architecture == "StableLmForCausalLM"
    assert f"set {PYTHON_VARIABLE}=" in str(caught.value)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("python", "said"),
    [("no-such-python", "is no program"), (sys.executable, "lacks optimum-onnx")],
)
def test_an_environment_that_cannot_export_is_named_with_its_reason(
    stablelm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, said: str
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, python)
    with pytest.raises(OptimumMissing, match=said) as caught:
        optimum_graph(stablelm, tmp_path, load_profile("cpu-fp32"))
    assert python in caught.value.why


def test_a_mixed_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "optimum_onnx-0.1.0.dist-info"
    info.mkdir()
    text = "Metadata-Version: 2.1\nName: optimum-onnx\nVersion: 0.1.0\n"
    (info / "METADATA").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        check_environment()
    assert caught.value.code == 3
    assert "must be older than 4.58" in capsys.readouterr().err


def test_rope_parameters_are_written_as_transformers_4_reads_them() -> None:
    new = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5, "partial_rotary_factor": 0.5}
    assert before_5({"x": 1, "rope_parameters": new}) == {
        "x": 1,
        "rope_theta": 5e5,
        "partial_rotary_factor": 0.5,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }
    plain = before_5({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}})
    assert plain == {"rope_theta": 1e4}
    assert before_5({"rope_theta": 1e4}) == {"rope_theta": 1e4}


@pytest.mark.usefixtures("_own_folder")
@pytest.mark.skipif(not OPTIMUM, reason="`make test-optimum` sets the environment up")
@pytest.mark.parametrize("profile", ["cpu-fp32", "cpu-int4"])
def test_optimums_graph_is_certified_with_adapters(
    stablelm: Path, tmp_path: Path, profile: str
) -> None:
    manifest = build(_request(stablelm, tmp_path, profile))
    certificate = manifest.certificate
    assert certificate is not None
    assert [(row.adapter, row.equal_tokens) for row in certificate.fp32] == [
        ("base", 36),
        ("pick", 36),
    ]
    assert max(row.max_logit_error for row in certificate.fp32) < 1e-3
    assert [row.tokens for row in certificate.bundle] == [36, 36]
