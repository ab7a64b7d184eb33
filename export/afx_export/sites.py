"""How faithful each LoRA site is: one site's branch alone, in the graph and in PEFT."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afx_export.adapter_modes import (
    is_adapter_part,
    locate,
    read_adapters,
    read_base,
    write_adapters,
)
from afx_export.adapters import FloatArray
from afx_export.certificate import tokenizer_of
from afx_export.console import say
from afx_export.files import link_or_copy
from afx_export.hf import linear_shapes
from afx_export.lora_graph import Packed, Site, find_sites
from afx_export.sources import Model
from afx_export.stage_prompts import checks_of
from afx_export.verify import recovered_subject
from agentflux.contracts.bundle import AdapterEntry, Manifest

Prompt = tuple[list[int], list[int]]
"""Token ids before and after the activation boundary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteError:
    """One site of one adapter. Both are the largest over the vocabulary, in logits.

    effect: how far the site's branch alone moves the reference's logits. error: how far the graph's
    move differs from the reference's.
    """

    site: str
    effect: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteErrors:
    """All sites of one adapter, in the graph's order."""

    adapter: str
    precision: str
    sites: tuple[SiteError, ...]


def measure_sites(manifest: Manifest, bundle: Path, model: Model) -> SiteErrors | None:
    """Switch on one site after the other, of the adapter that has most of them.

    None without adapters, and for another provider than the CPU: its graph does not run here.
    """
    packed = read_adapters(bundle, manifest.adapters, manifest.runtime.adapter_mode)
    if not packed or manifest.runtime.provider != "cpu":
        return None
    name = max(packed, key=lambda one: (len(packed[one]), one))
    entry = next(entry for entry in manifest.adapters if entry.name == name)
    found = find_sites(read_base(bundle).graph, linear_shapes(model.folder))
    sites = [site for site in found if site.name in packed[name]]
    prompt = _prompt(manifest, entry, model)
    say(f"measuring the {len(sites)} sites of {name}, one by one")
    with tempfile.TemporaryDirectory(prefix=".sites-", dir=bundle.absolute().parent) as scratch:
        graph = _graph_moves(manifest, bundle, Path(scratch), sites, packed[name], prompt)
        one = manifest.model_copy(update={"adapters": (entry,)})
        reference = _reference_moves(one, bundle, Path(scratch), model, sites, prompt)
    return SiteErrors(
        adapter=name,
        precision=manifest.runtime.precision,
        sites=tuple(
            SiteError(
                site=site.name,
                effect=float(np.abs(wanted).max()),
                error=float(np.abs(moved[: len(wanted)] - wanted[: len(moved)]).max()),
            )
            for site, moved, wanted in zip(sites, graph, reference, strict=True)
        ),
    )


def _prompt(manifest: Manifest, entry: AdapterEntry, model: Model) -> Prompt:
    check, encode = checks_of(manifest.chat, entry)[0], tokenizer_of(model.folder)
    before = [token for piece in check.base for token in encode(piece)]
    return before, [token for piece in check.adapted for token in encode(piece)]


def _graph_moves(
    manifest: Manifest,
    bundle: Path,
    scratch: Path,
    sites: Sequence[Site],
    packed: Packed,
    prompt: Prompt,
) -> list[FloatArray]:
    """Return what each site alone adds to the graph's logits. Every site is an adapter here."""
    from afx_export.genai import Runtime

    folder = scratch / "graph"
    folder.mkdir()
    alone: dict[str, Packed] = {site.name: {site.name: packed[site.name]} for site in sites}
    write_adapters(read_base(bundle), folder, sites, alone, "runtime")
    for file in manifest.files:
        if not is_adapter_part(file.path):
            link_or_copy(bundle / file.path, folder / file.path)
    some = manifest.adapters[0]
    entries = [some.model_copy(update={"name": name}) for name in alone]
    settings = manifest.runtime.model_copy(update={"adapter_mode": "runtime"})
    runtime = Runtime(folder, settings, locate(entries, "runtime"))
    base = runtime.logits(None, *prompt, [0])[0]
    return [runtime.logits(name, *prompt, [0])[0] - base for name in alone]


def _reference_moves(
    manifest: Manifest,
    bundle: Path,
    scratch: Path,
    model: Model,
    sites: Sequence[Site],
    prompt: Prompt,
) -> list[FloatArray]:
    """Return what each site alone adds to the logits of transformers + PEFT."""
    from afx_export.reference import Reference

    subject = recovered_subject(manifest, bundle, model, scratch / "peft")
    (adapter,) = subject.adapters
    reference = Reference(model.folder, {adapter.name: adapter.folder})
    base = reference.logits(None, *prompt, [0])[0]
    moves: list[FloatArray] = []
    for site in sites:
        with reference.only({module for module, _ in site.modules}):
            moves.append(reference.logits(adapter.name, *prompt, [0])[0] - base)
    return moves
