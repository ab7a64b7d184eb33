import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import cast

import numpy as np
import onnx
import pytest
from onnx import helper
from tiny_models import save_adapter, save_model

from afx_export.base_graph import check_options
from afx_export.build import Request, build
from afx_export.certificate import Answer, Question, compare, require_equal, tokenizer_of
from afx_export.errors import BuilderFailed, CertificateFailed, DiskFull, OutputRefused
from afx_export.files import new_folder, require_space
from afx_export.placement import Place
from afx_export.reference import Reference
from afx_export.stage_prompts import Check
from afx_export.verify import verify
from afx_profiles import load_profile
from agentflux.contracts.bundle import (
    MANIFEST,
    NULL_ADAPTER,
    check_files,
    read_manifest,
)
from agentflux.contracts.prompts import ChatFormat
from agentflux.errors import ConfigError, ContractMismatch, FileMismatch

from .conftest import Exported


@pytest.fixture
def request_(exported: Exported) -> Request:
    return Request(model=str(exported.model), profile="cpu-int4", out=exported.bundle)


def test_the_certificate_covers_the_base_and_every_adapter(exported: Exported) -> None:
    certificate = exported.manifest.certificate
    assert certificate is not None
    for rows in (certificate.fp32, certificate.bundle):
        assert [row.adapter for row in rows] == ["base", "picker", "router", "values"]
        assert all((row.prompts, row.tokens) == (3, 36) for row in rows)
    assert all(row.equal_tokens == row.tokens for row in certificate.fp32)
    assert max(row.max_logit_error for row in certificate.fp32) < 1e-3
    assert certificate.tokenizer_mismatches == 0


def test_the_manifest_describes_a_bundle_that_the_device_accepts(exported: Exported) -> None:
    manifest = read_manifest(exported.bundle)
    check_files(manifest, exported.bundle)
    paths = {entry.path for entry in manifest.files}
    assert f"adapters/{NULL_ADAPTER}.onnx_adapter" in paths
    assert NULL_ADAPTER not in {entry.name for entry in manifest.adapters}
    picker = manifest.adapter_for("select", "fs")
    assert picker is not None
    assert (picker.boundary, picker.rank, picker.target_modules) == (
        "instruction",
        4,
        ("q_proj", "v_proj"),
    )
    thresholds = {entry.name: entry.calibration.min_probability for entry in manifest.adapters}
    assert thresholds == {"picker": 0.4, "router": 0.0, "values": 0.0}
    assert manifest.base_model.weights_sha256 == exported.weights
    assert manifest.base_model.kv_bytes_per_token == 2 * 2 * 2 * 16 * 4
    assert manifest.chat == ChatFormat()


def test_the_runtime_config_bounds_the_context_and_leaves_threads_open(exported: Exported) -> None:
    config = json.loads((exported.bundle / "genai_config.json").read_text(encoding="utf-8"))
    session = config["model"]["decoder"]["session_options"]
    # The profile says 4096, the model ends at 2048.
    assert config["search"]["max_length"] == exported.manifest.runtime.context_tokens == 2048
    assert "intra_op_num_threads" not in session
    assert session["session.intra_op.allow_spinning"] == "1"


def test_one_flipped_byte_in_an_adapter_is_found(exported: Exported, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(exported.bundle, bundle)
    path = bundle / "adapters/router.onnx_adapter"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileMismatch, match=r"adapters/router\.onnx_adapter"):
        check_files(read_manifest(bundle), bundle)
    with pytest.raises(FileMismatch):
        verify(bundle)


def test_a_link_out_of_the_bundle_is_refused(exported: Exported, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(exported.bundle, bundle)
    path = bundle / "tokenizer.json"
    path.rename(tmp_path / "outside.json")
    path.symlink_to(tmp_path / "outside.json")
    with pytest.raises(FileMismatch, match=r"tokenizer\.json"):
        verify(bundle)


def test_verify_repeats_the_parity_from_the_bundle_alone(exported: Exported) -> None:
    result = verify(exported.bundle, model=str(exported.model))
    assert result.certificate is not None
    assert [row.equal_tokens for row in result.certificate.fp32] == [36] * 4


def test_verify_checks_files_only_when_the_model_is_not_here(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verify(exported.bundle).certificate is None


def test_verify_refuses_another_base_model(exported: Exported, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", seed=9)
    with pytest.raises(ContractMismatch, match="other weights"):
        verify(exported.bundle, model=str(other))


def test_a_second_bundle_reuses_the_graphs_and_replaces_the_first(
    exported: Exported, request_: Request, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    graphs = sorted((exported.cache / "graphs").iterdir())
    stamps = [path.stat().st_mtime_ns for path in graphs]
    build(replace(request_, out=out))
    first = read_manifest(out)
    assert first.adapters == ()
    assert not (out / "adapters").exists()
    adapters = (exported.adapters / "picker",)
    build(replace(request_, out=out, adapters=adapters))
    assert [entry.name for entry in read_manifest(out).adapters] == ["picker"]
    assert [p.stat().st_mtime_ns for p in sorted((exported.cache / "graphs").iterdir())] == stamps
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_adapter_without_card_is_built_with_its_place(
    exported: Exported, request_: Request, tmp_path: Path
) -> None:
    folder = save_adapter(tmp_path / "plain", targets=("o_proj",))
    manifest = build(
        replace(
            request_,
            out=tmp_path / "bundle",
            adapters=(folder,),
            places={"plain": Place(subtask="select", tool_set="git")},
        )
    )
    assert manifest.adapters[0].tool_set == "git"
    assert manifest.adapters[0].boundary == "request"


def test_an_activated_lora_of_peft_is_certified_at_its_own_boundary(
    exported: Exported, request_: Request, tmp_path: Path
) -> None:
    tokens = tokenizer_of(exported.model)("<|im_start|>assistant\nTool:")
    folder = save_adapter(tmp_path / "activated", seed=3, alora_invocation_tokens=tokens)
    manifest = build(
        replace(
            request_,
            profile="cpu-fp32",
            out=tmp_path / "bundle",
            adapters=(folder,),
            places={"activated": Place(subtask="select")},
        )
    )
    assert manifest.adapters[0].boundary == "instruction"
    assert manifest.certificate is not None
    assert [row.equal_tokens for row in manifest.certificate.fp32] == [36, 36]


def test_a_folder_that_is_no_bundle_is_never_replaced(request_: Request, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(OutputRefused, match="no bundle"):
        build(replace(request_, out=tmp_path / "photos"))
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"x"


def test_a_failed_certificate_leaves_the_old_bundle_and_nothing_else(
    exported: Exported, request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(exported.bundle, out)
    before = (out / MANIFEST).read_bytes()
    # The reference answers for another model: parity must fail.
    other = save_model(tmp_path / "other" / "tiny", seed=5)
    monkeypatch.setattr("afx_export.reference.Reference", _reference_of(other))
    with pytest.raises(CertificateFailed, match="base "):
        build(replace(request_, out=out))
    assert (out / MANIFEST).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "other"]


def _reference_of(folder: Path) -> object:
    real = Reference

    def other(_folder: Path, adapters: Mapping[str, Path]) -> Reference:
        return real(folder, adapters)

    return other


def _question(tokens: list[int], logits: list[list[float]]) -> Question:
    check = Check(adapter="x", base=("b",), adapted=("a",))
    rows = np.array(logits, np.float32)
    return Question(
        check=check, base=(1,), adapted=(2,), answer=Answer(tokens=tuple(tokens), logits=rows)
    )


def test_a_wrong_token_fails_and_a_tie_is_only_counted() -> None:
    ours = [[1.0, 0.0], [0.0, 1.0]]
    question = _question([0, 1], ours)
    wrong = compare([question], [np.array(ours)], [np.array([[0.0, 1.0], [0.0, 1.0]])])
    with pytest.raises(CertificateFailed, match="x 1/2 tokens equal"):
        require_equal(wrong)
    tie = compare([question], [np.array(ours)], [np.array([[0.9999, 1.0], [0.0, 1.0]])])
    require_equal(tie)
    assert (tie.ties, tie.rows[0].equal_tokens) == (1, 1)


def test_nan_in_a_graph_is_the_worst_error() -> None:
    question = _question([0], [[1.0, 0.0]])
    found = np.array([[np.nan, 0.0]], np.float32)
    parity = compare([question], [found], [np.array([[0.0, 1.0]], np.float32)])
    assert parity.rows[0].max_logit_error > 1e30
    assert parity.wrong == ("x",)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("[builder.extra_options]\nblock_size = 64", "block_size=64.*ignored the option"),
        ("[builder.extra_options]\naccuracy_level = 1", "level=1.*ignored the option"),
        ('precision = "int8"', "bits=8.*ignored the option"),
    ],
)
def test_an_option_that_the_builder_ignored_is_an_error(
    tmp_path: Path, option: str, said: str
) -> None:
    inputs = ["x", "w", "s"]
    node = helper.make_node("MatMulNBits", inputs, ["y"], name="m", bits=4, block_size=32)
    graph = helper.make_graph([node], "built", [], [])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    path = tmp_path / "own.toml"
    path.write_text(
        'extends = "cuda-int4"\nname = "own"\ndescription = "d"\nverified = "v"\n' + option + "\n",
        encoding="utf-8",
    )
    check_options(tmp_path, load_profile("cuda-int4"))
    with pytest.raises(BuilderFailed, match=said):
        check_options(tmp_path, load_profile(str(path)))


def test_an_unknown_profile_is_a_config_error(request_: Request) -> None:
    with pytest.raises(ConfigError, match="no profile 'tpu'"):
        build(replace(request_, profile="tpu"))


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def write(text: str, *, fail: bool) -> None:
        with new_folder(target) as folder:
            (folder / "a").write_text(text, encoding="utf-8")
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("1", fail=True)
    assert list(tmp_path.iterdir()) == []
    write("2", fail=False)
    with pytest.raises(KeyboardInterrupt):
        write("3", fail=True)
    assert (target / "a").read_text(encoding="utf-8") == "2"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_stays_and_leads_to_the_new_folder(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    current = tmp_path / "current"
    current.symlink_to("v1")
    with new_folder(current) as folder:
        (folder / "a").write_text("new", encoding="utf-8")
    assert current.is_symlink()
    assert (tmp_path / "v1" / "a").read_text(encoding="utf-8") == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"v1", "current"}


def test_a_drive_that_does_not_exist_is_named() -> None:
    class Unplugged(PureWindowsPath):
        def exists(self) -> bool:
            looked_at.append(str(self))
            assert len(looked_at) < 9, "looks for ever"
            return False

    looked_at: list[str] = []
    folder = cast("Path", Unplugged("Z:/bundles/desk"))
    with pytest.raises(ConfigError, match="drive does not exist") as caught:
        require_space("bundle", folder, 1)
    assert caught.value.where == r"Z:\bundles\desk"


def test_a_full_disk_has_its_own_error(tmp_path: Path) -> None:
    import errno

    with pytest.raises(DiskFull, match="is full"), new_folder(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DiskFull, match="GB are free"):
        require_space("x", tmp_path / "not" / "there", 1 << 60)
    assert list(tmp_path.iterdir()) == []
