"""Check a finished bundle again: its files, and what it computes when the model is at hand."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from afx_export.adapter_files import read_adapter_file
from afx_export.adapters import CONFIG, WEIGHTS, Adapter, FloatArray, LoraPair
from afx_export.certify import Subject, certify
from afx_export.chat import read_chat
from afx_export.console import say
from afx_export.hf import linear_shapes
from afx_export.lora_graph import Site, find_sites
from afx_export.sources import Model, resolve, resolve_cached
from agentflux.contracts.bundle import Certificate, Manifest, check_files, read_manifest
from agentflux.contracts.cache import weights_sha256
from agentflux.errors import ContractMismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was checked. `certificate` is None when the base model is not on this disk."""

    manifest: Manifest
    certificate: Certificate | None


def verify(bundle: Path, *, model: str | None = None) -> Verified:
    """Compare all files with the manifest, then the graphs with transformers + PEFT again.

    The adapters' matrices are taken from the bundle itself. Without `model` the base model named
    in the manifest is used if it has been fetched.

    Raises:
        BundleError: a file differs, or the manifest is invalid.
        CertificateFailed: the bundle does not compute what transformers + PEFT compute.
    """
    manifest = read_manifest(bundle)
    check_files(manifest, bundle)
    say(f"{len(manifest.files)} files are as exported")
    found = resolve(model) if model else resolve_cached(manifest.base_model.id)
    if found is None:
        return Verified(manifest=manifest, certificate=None)
    weights = weights_sha256(found.folder)
    if weights != manifest.base_model.weights_sha256:
        raise ContractMismatch(
            f"made for other weights than {found.id} has",
            bundle=str(bundle),
            hint="give the model that it was exported from with --model",
        )
    with tempfile.TemporaryDirectory(prefix="afx-verify-") as temporary:
        subject = _subject(manifest, bundle, found, Path(temporary))
        runtime = manifest.runtime
        certificate = certify(
            subject, bundle, provider=runtime.provider, precision=runtime.precision
        )
    return Verified(manifest=manifest, certificate=certificate)


def _subject(manifest: Manifest, bundle: Path, model: Model, scratch: Path) -> Subject:
    chat, end_token_ids = read_chat(model.folder)
    shapes = linear_shapes(model.folder)
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    inputs = {value.name for value in graph.input}
    sites = [site for site in find_sites(graph, shapes) if site.a_name in inputs]
    adapters = tuple(
        _recover(entry.name, bundle / entry.file, sites, scratch / entry.name)
        for entry in manifest.adapters
        if entry.file
    )
    return Subject(
        model=model,
        weights=manifest.base_model.weights_sha256,
        shapes=shapes,
        chat=chat,
        end_token_ids=end_token_ids,
        adapters=adapters,
        entries=manifest.adapters,
    )


def _recover(name: str, file: Path, sites: Sequence[Site], folder: Path) -> Adapter:
    """Turn an adapter file back into a PEFT folder that computes the same."""
    arrays = read_adapter_file(file)
    pairs: dict[str, LoraPair] = {}
    for site in sites:
        a, b = arrays[site.a_name].T, arrays[site.b_name].T
        row = 0
        for module, width in site.modules:
            part = b[row : row + width]
            # A packed site's A serves all parts; a part's own columns are those where B is not 0.
            used = np.flatnonzero(np.any(part != 0, axis=0))
            if used.size:
                pairs[module] = LoraPair(
                    a=np.ascontiguousarray(a[used], np.float32),
                    b=np.ascontiguousarray(part[:, used], np.float32),
                )
            row += width
    folder.mkdir(parents=True)
    _write_peft(folder, pairs)
    return Adapter(name=name, folder=folder, pairs=pairs, weights_sha256=weights_sha256(folder))


def _write_peft(folder: Path, pairs: Mapping[str, LoraPair]) -> None:
    """Write a PEFT LoRA of scale 1: every module's alpha is its rank."""
    from safetensors.numpy import save_file

    ranks = {module: pair.a.shape[0] for module, pair in pairs.items()}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "bias": "none",
        "r": 1,
        "lora_alpha": 1,
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
        "target_modules": sorted(pairs),
        "inference_mode": True,
    }
    tensors: dict[str, FloatArray] = {}
    for module, pair in pairs.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = pair.a
        tensors[f"base_model.model.{module}.lora_B.weight"] = pair.b
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS)
