# ruff: noqa: TID253 - reads graphs itself
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_models import save_adapter, save_card

from afx_export.build import Request, build
from afx_export.bundle import write_graph
from afx_export.diff import diff
from afx_export.errors import AdapterRefused
from afx_export.hf import linear_shapes
from afx_export.update import add_adapters, remove_adapters
from agentflux.contracts.bundle import MANIFEST, check_files, read_manifest
from agentflux.contracts.experts import bundle_experts
from agentflux.contracts.intents import BITS, INTENTS, Intents, Linear
from agentflux.errors import AdapterNotFound, ConfigError, FileMismatch

from .conftest import Exported


def _bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _inodes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in files}


@pytest.fixture
def copy(exported: Exported, tmp_path: Path) -> Path:
    return shutil.copytree(exported.bundle, tmp_path / "bundle")


def test_the_same_inputs_give_the_same_bytes(exported: Exported, tmp_path: Path) -> None:
    again = tmp_path / "bundle"
    request = Request(
        model=str(exported.model), profile="cpu-int4", out=again, adapters=(exported.adapters,)
    )
    build(request)
    assert _bytes(again) == _bytes(exported.bundle)


def test_the_builder_s_stamp_of_a_repository_does_not_reach_the_bundle(
    exported: Exported, tmp_path: Path
) -> None:
    base = min(exported.cache.glob("graphs/fp32-*"))
    written: list[bytes] = []
    for stamp in ("0.18.0+abc1234", "0.18.0+def5678"):
        stamped = shutil.copytree(base, tmp_path / stamp)
        model = onnx.load(stamped / "model.onnx", load_external_data=False)
        model.producer_version = stamp
        onnx.save(model, stamped / "model.onnx")
        out = tmp_path / f"out-{stamp}"
        out.mkdir()
        write_graph(stamped, out, linear_shapes(exported.model), ())
        written.append((out / "model.onnx").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("mode", ["runtime", "stacked", "merged"])
def test_an_adapter_taken_out_and_added_again_gives_the_same_bytes(
    exported: Exported, bundles: dict[str, Path], tmp_path: Path, mode: str
) -> None:
    bundle = shutil.copytree(bundles[mode], tmp_path / bundles[mode].name)
    before = _inodes(bundle)
    remove_adapters(bundle, ["values"])
    smaller = read_manifest(bundle)
    check_files(smaller, bundle)
    assert [entry.name for entry in smaller.adapters] == ["picker", "router"]
    assert smaller.certificate is not None
    assert [row.adapter for row in smaller.certificate.fp32] == ["base", "picker", "router"]
    add_adapters(bundle, [exported.adapters / "values"], model=str(exported.model))
    assert _bytes(bundle) == _bytes(bundles[mode])
    # Weights and tokenizer are the very files of before: only what changed was written.
    after = _inodes(bundle)
    assert after["model.onnx.data"] == before["model.onnx.data"]
    assert after["tokenizer.json"] == before["tokenizer.json"]
    if mode != "stacked":
        part = "adapters/router.onnx_adapter" if mode == "runtime" else "adapter.router.onnx"
        assert after[part] == before[part]


def test_a_changed_bundle_is_the_one_that_a_link_points_to(copy: Path, tmp_path: Path) -> None:
    current = tmp_path / "links" / "current"
    current.parent.mkdir()
    current.symlink_to(copy, target_is_directory=True)
    remove_adapters(current, ["values"])
    assert current.readlink() == copy
    assert [entry.name for entry in read_manifest(copy).adapters] == ["picker", "router"]
    check_files(read_manifest(current), current)
    assert list(current.parent.iterdir()) == [current]


def test_only_the_adapter_and_the_manifest_travel(
    exported: Exported, copy: Path, tmp_path: Path
) -> None:
    folder = save_adapter(tmp_path / "extra", targets=("o_proj",), seed=8)
    save_card(folder, exported.weights, subtask="select", tool_set="git")
    add_adapters(copy, [folder], model=str(exported.model))
    found = diff(exported.bundle, copy)
    assert found.adapters_added == ("extra",)
    assert (found.adapters_removed, found.adapters_changed, found.fields) == ((), (), ())
    assert set(found.travels) == {"adapters/extra.onnx_adapter", MANIFEST}
    assert "+ adapter extra" in found.to_text()
    assert diff(copy, copy).is_empty
    certificate = read_manifest(copy).certificate
    assert certificate is not None
    rows = {row.adapter: (row.equal_tokens, row.tokens) for row in certificate.fp32}
    assert rows == dict.fromkeys(("base", "extra", "picker", "router", "values"), (36, 36))


def intents(folder: Path, *, bias: float = 0.0) -> Path:
    first = Linear(
        labels=("files/read", "none"),
        weights=np.zeros((1 << BITS, 2), np.int8),
        scale=np.ones(2, np.float32),
        bias=np.array([bias, 0], np.float32),
    )
    made = Intents(first=first)
    made.save(folder / INTENTS)
    return folder


def test_an_intent_classifier_travels_with_the_adapters_beside_it(
    exported: Exported, copy: Path, tmp_path: Path
) -> None:
    adapters = intents(shutil.copytree(exported.adapters, tmp_path / "adapters"))
    built = tmp_path / "built"
    request = Request(
        model=str(exported.model), profile="cpu-int4", out=built, adapters=(adapters,)
    )
    manifest = build(request)
    check_files(manifest, built)
    found = bundle_experts(built, manifest).intents
    assert found is not None
    assert found.labels == ("files/read", "none")
    add_adapters(copy, [adapters], model=str(exported.model))
    assert _bytes(copy) == {**_bytes(built), MANIFEST: (copy / MANIFEST).read_bytes()}
    changed = diff(exported.bundle, copy)
    assert set(changed.travels) == {INTENTS, MANIFEST}
    assert changed.fields == ("intents",)
    remove_adapters(copy, ["values"])
    assert read_manifest(copy).intents == INTENTS
    check_files(read_manifest(copy), copy)
    (copy / INTENTS).write_bytes(b"other")
    with pytest.raises(FileMismatch, match=INTENTS):
        check_files(read_manifest(copy), copy)


def test_two_intent_classifiers_or_a_broken_one_are_refused(
    exported: Exported, tmp_path: Path
) -> None:
    folders = [
        intents(shutil.copytree(exported.adapters, tmp_path / str(n)), bias=n) for n in (1, 2)
    ]
    request = Request(
        model=str(exported.model), profile="cpu-int4", out=tmp_path / "out", adapters=(*folders,)
    )
    with pytest.raises(ConfigError, match=r"two of the folders hold an intents\.npz"):
        build(request)
    (folders[0] / INTENTS).write_bytes(b"broken")
    with pytest.raises(FileMismatch, match="cannot be read"):
        build(replace(request, adapters=(folders[0],)))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_added_leaves_the_bundle_as_it_was(
    exported: Exported, copy: Path, tmp_path: Path
) -> None:
    before = _bytes(copy)
    rival = save_card(save_adapter(tmp_path / "rival"), exported.weights)
    with pytest.raises(ConfigError, match="'router' serves the place of 'rival' already"):
        add_adapters(copy, [rival], model=str(exported.model))
    dora = save_card(
        save_adapter(tmp_path / "dora", use_dora=True),
        exported.weights,
        subtask="select",
        tool_set="git",
    )
    with pytest.raises(AdapterRefused, match="DoRA"):
        add_adapters(copy, [dora], model=str(exported.model))
    with pytest.raises(AdapterNotFound, match="'nobody'.*'picker'"):
        remove_adapters(copy, ["picker", "nobody"])
    with pytest.raises(ConfigError, match="fetch it, or give its folder"):
        add_adapters(copy, [rival])
    assert _bytes(copy) == before


def test_an_adapter_of_the_same_name_is_replaced(
    exported: Exported, copy: Path, tmp_path: Path
) -> None:
    newer = save_card(save_adapter(tmp_path / "router", seed=9), exported.weights)
    add_adapters(copy, [newer], model=str(exported.model))
    found = diff(exported.bundle, copy)
    assert (found.adapters_added, found.adapters_changed) == ((), ("router",))
    assert "adapters/router.onnx_adapter" in found.travels


def test_what_is_copied_is_what_the_writers_that_are_there_have_learned(
    exported: Exported, copy: Path, tmp_path: Path
) -> None:
    sha256, place = "1" * 64, {"subtask": "arguments", "tool_set": "git"}
    tool = {"tool_set": "git", "name": "log", "sha256": sha256}
    learned = {
        "copied": ("path",),
        "worded": {"range": ("HEAD",)},
        "named": ("range",),
        "folders": ("path",),
        "inner": ("path",),
    }

    def catalog() -> dict[str, object]:
        (found,) = [t for t in read_manifest(copy).catalog if t.tool_set == "git"]
        return {name: getattr(found, name) for name in learned}

    chooser = save_adapter(tmp_path / "chooser", seed=4)
    save_card(chooser, exported.weights, subtask="select", tool_set="git", catalog=[tool])
    writer = save_adapter(tmp_path / "writer", seed=5)
    copying = tool | learned
    nothing = {name: type(value)() for name, value in learned.items()}
    save_card(writer, exported.weights, **place, catalog=[copying])
    add_adapters(copy, [chooser, writer], model=str(exported.model))
    assert catalog() == learned
    save_card(writer, exported.weights, **place, catalog=[tool])
    add_adapters(copy, [writer], model=str(exported.model))
    assert catalog() == nothing
    save_card(writer, exported.weights, **place, catalog=[copying])
    add_adapters(copy, [writer], model=str(exported.model))
    remove_adapters(copy, ["writer"])
    assert catalog() == nothing


def test_without_its_last_adapter_a_bundle_is_the_base_model(
    exported: Exported, copy: Path
) -> None:
    manifest = remove_adapters(copy, ["picker", "router", "values"])
    assert manifest.adapters == ()
    assert not [entry.path for entry in manifest.files if "adapter" in entry.path]
