"""The device refuses a bundle that is not whole, before native code sees a byte."""

import json
from pathlib import Path

import pytest
from sdk.support import adapter, manifest

from agentflux.contracts.bundle import (
    MANIFEST,
    FileEntry,
    Manifest,
    check_files,
    read_manifest,
    sha256_file,
)
from agentflux.errors import ContractMismatch, FileMismatch, ManifestInvalid


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of one adapter file."""
    file = tmp_path / "adapters" / "a.onnx_adapter"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    entry = FileEntry(path="adapters/a.onnx_adapter", sha256=sha256_file(file), bytes=7)
    whole = manifest([adapter("a", "route")]).model_copy(update={"files": (entry,)})
    (tmp_path / MANIFEST).write_text(whole.to_json(), encoding="utf-8")
    return tmp_path


def edited(bundle: Path, **changes: object) -> Path:
    """Rewrite top-level keys of the manifest."""
    path = bundle / MANIFEST
    data = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(data), encoding="utf-8")
    return bundle


def test_a_whole_bundle_passes(bundle: Path) -> None:
    check_files(read_manifest(bundle), bundle)


def test_the_manifest_is_written_reproducibly(bundle: Path) -> None:
    text = (bundle / MANIFEST).read_text(encoding="utf-8")
    assert read_manifest(bundle).to_json() == text


def test_a_missing_manifest_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="afx-export build"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\x00", '{"files": 3}', "[" * 100_000])
def test_a_corrupt_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(ManifestInvalid):
        read_manifest(bundle)


def test_one_flipped_byte_in_an_adapter_is_refused(bundle: Path) -> None:
    (bundle / "adapters" / "a.onnx_adapter").write_bytes(b"weighTs")
    with pytest.raises(FileMismatch, match=r"a\.onnx_adapter"):
        check_files(read_manifest(bundle), bundle)


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "adapters" / "a.onnx_adapter").unlink()
    with pytest.raises(FileMismatch, match="missing"):
        check_files(read_manifest(bundle), bundle)


def test_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    file = bundle / "adapters" / "a.onnx_adapter"
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_bytes(b"weights")
    file.unlink()
    file.symlink_to(outside)
    with pytest.raises(FileMismatch):
        check_files(read_manifest(bundle), bundle)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", "", "."])
def test_a_path_that_leaves_the_bundle_is_refused(bundle: Path, path: str) -> None:
    files = [{"path": path, "sha256": "0" * 64, "bytes": 1}]
    with pytest.raises(ManifestInvalid):
        read_manifest(edited(bundle, files=files, adapters=[]))


@pytest.mark.parametrize("change", [{"schema_version": 1}, {"prompt_contract": "afx-prompts/99"}])
def test_another_contract_is_refused_with_what_to_do(
    bundle: Path, change: dict[str, object]
) -> None:
    with pytest.raises(ContractMismatch, match="export it again"):
        read_manifest(edited(bundle, **change))


def test_an_unknown_key_is_refused(bundle: Path) -> None:
    with pytest.raises(ManifestInvalid, match="surprise"):
        read_manifest(edited(bundle, surprise=1))


def test_an_adapter_without_its_file_is_refused(bundle: Path) -> None:
    with pytest.raises(ManifestInvalid, match="not listed in files"):
        read_manifest(edited(bundle, files=[]))


def nearest(bundle: Manifest, *where: str) -> str | None:
    found = bundle.adapter_for("select", *where)
    return found.name if found else None


def test_the_nearest_adapter_is_of_the_tool_then_of_the_set_then_general() -> None:
    general, own = adapter("general", "select"), adapter("own", "select", "files")
    exact = adapter("exact", "select", "files").model_copy(update={"tool": "read"})
    everything = manifest([general, own, exact])
    assert nearest(everything, "files", "read") == "exact"
    assert nearest(everything, "files", "list") == "own"
    assert nearest(everything, "clock") == "general"
    assert nearest(manifest([own]), "clock") is None
