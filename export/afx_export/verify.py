"""Check a finished bundle again: its files, and what it computes when the model is at hand."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afx_export.adapter_modes import read_adapters, read_base
from afx_export.adapters import CONFIG, WEIGHTS, Adapter, FloatArray, LoraPair
from afx_export.certify import Subject, certify
from afx_export.chat import read_chat
from afx_export.console import say
from afx_export.errors import CorruptModel
from afx_export.hf import linear_shapes
from afx_export.lora_graph import Packed, Site, find_sites
from afx_export.sources import Model, cached_base, resolve
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
    found = resolve(model) if model else cached_base(manifest.base_model)
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
        subject = recovered_subject(manifest, bundle, found, Path(temporary))
        certificate = certify(subject, bundle, manifest.runtime)
    return Verified(manifest=manifest, certificate=certificate)


def recovered_subject(manifest: Manifest, bundle: Path, model: Model, scratch: Path) -> Subject:
    """Take all adapters of a bundle out of it again, as PEFT folders in `scratch`."""
    chat, end_token_ids = read_chat(model.folder)
    shapes = linear_shapes(model.folder)
    sites = {site.name: site for site in find_sites(read_base(bundle).graph, shapes)}
    packed = read_adapters(bundle, manifest.adapters, manifest.runtime.adapter_mode)
    adapters = tuple(
        _recover(name, matrices, sites, scratch / name) for name, matrices in packed.items()
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


def _recover(name: str, packed: Packed, sites: Mapping[str, Site], folder: Path) -> Adapter:
    """Turn packed matrices back into a PEFT folder that computes the same.

    Raises:
        CorruptModel: they belong to no projection of the graph.
    """
    pairs: dict[str, LoraPair] = {}
    for site_name, (low, high) in packed.items():
        if site_name not in sites:
            raise CorruptModel(name, f"site {site_name!r} is not in the graph")
        a, b = low.T, high.T
        row = 0
        for module, width in sites[site_name].modules:
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
