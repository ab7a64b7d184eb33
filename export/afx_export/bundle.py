"""Write the parts of a bundle into a folder."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from afx_export.adapter_modes import write_adapters
from afx_export.adapters import Adapter
from afx_export.errors import OutputRefused
from afx_export.hf import read_json
from afx_export.lora_graph import find_sites, pack, sites_of
from afx_profiles import AdapterMode, Profile
from agentflux.contracts.bundle import MANIFEST, FileEntry, read_manifest, sha256_file
from agentflux.contracts.switching import GRAPH
from agentflux.errors import BundleError

_CONFIG = "genai_config.json"
PlaceFile = Callable[[Path, Path], object]


def write_graph(
    base: Path,
    out: Path,
    shapes: Mapping[str, tuple[int, int]],
    adapters: Sequence[Adapter],
    *,
    mode: AdapterMode = "runtime",
    place_file: PlaceFile = shutil.copyfile,
) -> None:
    """Write base's files, the LoRA edit and all adapters in this mode.

    place_file brings files that are taken over unchanged (weights, tokenizer).
    """
    model = onnx.load(base / GRAPH, load_external_data=False)
    # The builder stamps the commit of whatever repository it is started in: no fact of the graph.
    model.producer_version = model.producer_version.partition("+")[0]
    sites = sites_of(find_sites(model.graph, shapes), adapters)
    packed = {adapter.name: pack(adapter, sites) for adapter in adapters}
    write_adapters(model, out, sites, packed, mode)
    for path in sorted(base.iterdir()):
        if path.is_file() and path.name != GRAPH:
            place_file(path, out / path.name)


def write_genai_config(out: Path, profile: Profile, context_tokens: int) -> None:
    """Set what the profile decides. Without threads the device counts its own cores."""
    config = read_json(out / _CONFIG)
    config["search"]["max_length"] = context_tokens
    session = config["model"]["decoder"]["session_options"]
    session.pop("intra_op_num_threads", None)
    if profile.session.intra_op_num_threads:
        session["intra_op_num_threads"] = profile.session.intra_op_num_threads
    session["session.intra_op.allow_spinning"] = "1" if profile.session.spinning else "0"
    if profile.provider != "cpu":
        session["provider_options"] = [{profile.provider: _provider_options(session, profile)}]
    (out / _CONFIG).write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")


def _provider_options(session: dict[str, Any], profile: Profile) -> dict[str, str]:
    """Join what the builder asks of this provider (a graph may need it) and the profile's own."""
    made: dict[str, str] = {}
    for entry in session.get("provider_options", []):
        for name, options in entry.items():
            if name.lower() == profile.provider.lower():
                made |= options
    return {**made, **profile.provider_options}


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
