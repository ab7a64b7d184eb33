"""Write the parts of a bundle into a folder."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from afx_export.adapter_files import SUFFIX, write_adapter
from afx_export.adapters import Adapter
from afx_export.certify import ADAPTERS, null_adapter_file
from afx_export.errors import OutputRefused
from afx_export.hf import read_json
from afx_export.lora_graph import edit_graph
from afx_profiles import Profile
from agentflux.contracts.bundle import MANIFEST, FileEntry, read_manifest, sha256_file
from agentflux.errors import BundleError

_GRAPH = "model.onnx"
_CONFIG = "genai_config.json"
PlaceFile = Callable[[Path, Path], object]


def write_graph(
    base: Path,
    out: Path,
    shapes: Mapping[str, tuple[int, int]],
    adapters: Sequence[Adapter],
    *,
    place_file: PlaceFile = shutil.copyfile,
) -> None:
    """Write base's files with the LoRA edit and every adapter's file, null adapter included.

    place_file brings files that are taken over unchanged (weights, tokenizer).
    """
    sites = edit_graph(base, out, shapes, adapters)
    for path in sorted(base.iterdir()):
        if path.is_file() and path.name != _GRAPH:
            place_file(path, out / path.name)
    if not sites:
        return
    (out / ADAPTERS).mkdir()
    write_adapter(out / null_adapter_file(), None, sites)
    for adapter in adapters:
        write_adapter(out / adapter_file(adapter.name), adapter, sites)


def adapter_file(name: str) -> str:
    """Return an adapter's path in the bundle."""
    return f"{ADAPTERS}/{name}{SUFFIX}"


def write_genai_config(out: Path, profile: Profile, context_tokens: int) -> None:
    """Set what the profile decides; threads stay unset, the device counts its own cores."""
    config = read_json(out / _CONFIG)
    config["search"]["max_length"] = context_tokens
    session = config["model"]["decoder"]["session_options"]
    session.pop("intra_op_num_threads", None)
    if profile.session.intra_op_num_threads:
        session["intra_op_num_threads"] = profile.session.intra_op_num_threads
    session["session.intra_op.allow_spinning"] = "1" if profile.session.spinning else "0"
    (out / _CONFIG).write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Describe every file but the manifest, in path order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        FileEntry(
            path=path.relative_to(folder).as_posix(),
            sha256=sha256_file(path),
            bytes=path.stat().st_size,
        )
        for path in paths
        if path != folder / MANIFEST
    )


def check_output(out: Path) -> None:
    """Refuse to replace anything but an older bundle or an empty folder.

    Raises:
        OutputRefused: something else is there.
    """
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        msg = f"{out} exists and is no folder; choose another --out"
        raise OutputRefused(msg)
    if not any(out.iterdir()):
        return
    try:
        read_manifest(out)
    except BundleError as error:
        msg = f"{out} exists and is no bundle of this version; remove it or choose another --out"
        raise OutputRefused(msg) from error
