"""One self-contained HTML page about a bundle: no script, no font, no image from elsewhere."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from afx_export.adapter_modes import is_adapter_part
from afx_export.certificate import BASE
from afx_export.console import warn
from afx_export.files import write_text
from afx_export.sites import SiteErrors, measure_sites
from afx_export.sources import cached_base, resolve
from afx_export.svg import heatmap, megabytes, stacked_bar
from agentflux.contracts.bundle import (
    AdapterEntry,
    Certificate,
    Manifest,
    ParityRow,
    check_files,
    read_manifest,
)
from agentflux.contracts.cache import weights_sha256
from agentflux.contracts.switching import GRAPH, WEIGHTS

_STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
_SITE = re.compile(r"layers\.(\d+)\.\w+\.(\w+?)(?:_proj)?$")
_ORDER = ("qkv", "q", "k", "v", "o", "gate_up", "gate", "up", "down")


def write_report(
    bundle: Path, out: Path, *, model: str | None = None, with_sites: bool = True
) -> Path:
    """Check the bundle's files, write the page and return its path.

    The error by site needs the base model, by default the manifest's if it was fetched.

    Raises:
        BundleError: a file differs from the manifest.
    """
    manifest = read_manifest(bundle)
    check_files(manifest, bundle)
    sites = _sites(manifest, bundle, model) if with_sites else None
    write_text(out, render(manifest, sites))
    return out


def _sites(manifest: Manifest, bundle: Path, name: str | None) -> SiteErrors | None:
    model = resolve(name) if name else cached_base(manifest.base_model)
    if model is None or weights_sha256(model.folder) != manifest.base_model.weights_sha256:
        warn(f"the error by site is left out: fetch {manifest.base_model.id!r} or give --model")
        return None
    return measure_sites(manifest, bundle, model)


def render(manifest: Manifest, sites: SiteErrors | None = None) -> str:
    """Return the page."""
    sections = (
        _section("Size", _sizes(manifest)),
        _section("Adapters", _adapters(manifest)),
        _section("Parity with transformers + PEFT", _parity(manifest.certificate)),
        _section("Logit error by LoRA site", _site_plots(manifest, sites)),
        _section("Device profile", _profile(manifest)),
        _section("Tools that the adapters were trained for", _catalog(manifest)),
        _section("Files", _files(manifest)),
    )
    name = escape(manifest.name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name} · AgentFlux bundle</title><style>{_STYLE}</style></head><body><main>"
        f"<header><h1>{name}</h1>{_headline(manifest)}</header>{''.join(sections)}"
        f"<footer>{escape(manifest.made_by)} · prompt contract "
        f"{escape(manifest.prompt_contract)}</footer></main></body></html>\n"
    )


def _headline(manifest: Manifest) -> str:
    base, runtime, certificate = manifest.base_model, manifest.runtime, manifest.certificate
    facts = [
        f"{base.id} ({base.licence})",
        f"profile {runtime.profile}",
        runtime.precision,
        f"{len(manifest.adapters)} {runtime.adapter_mode} adapters",
        megabytes(sum(file.bytes for file in manifest.files)),
    ]
    verdict = '<b class="bad">no certificate</b>'
    if certificate is not None:
        equal, total = _totals(certificate.fp32)
        mark = "good" if equal == total else "bad"
        verdict = f'<b class="{mark}">fp32: {equal}/{total} greedy tokens equal</b>'
        if certificate.bundle:
            equal, total = _totals(certificate.bundle)
            verdict += f"<b>{escape(runtime.precision)}: {equal}/{total}</b>"
    return f'<p class="facts">{"".join(f"<span>{escape(f)}</span>" for f in facts)}{verdict}</p>'


def _totals(rows: Sequence[ParityRow]) -> tuple[int, int]:
    return sum(row.equal_tokens for row in rows), sum(row.tokens for row in rows)


def _sizes(manifest: Manifest) -> str:
    parts = {"weights": 0, "graph": 0, "adapters": 0, "tokenizer": 0, "configuration": 0}
    for file in manifest.files:
        parts[_kind(file.path)] += file.bytes
    bar = stacked_bar({k: v for k, v in parts.items() if v}, title="Bytes by kind of file")
    return bar + _note(
        f"KV cache: {megabytes(manifest.base_model.kv_bytes_per_token)} a token, "
        f"{manifest.runtime.context_tokens:,} tokens of context, at most "
        f"{megabytes(manifest.runtime.kv_budget_bytes)} in all generators together."
    )


def _kind(path: str) -> str:
    if path == WEIGHTS:
        return "weights"
    if path == GRAPH:
        return "graph"
    if is_adapter_part(path):
        return "adapters"
    return "tokenizer" if "token" in path or path.endswith(".jinja") else "configuration"


def _adapters(manifest: Manifest) -> str:
    if not manifest.adapters:
        return _note("None: the bundle is the base model.")
    sizes = {file.path: file.bytes for file in manifest.files}
    rows = [_adapter(entry, sizes.get(entry.file or "")) for entry in manifest.adapters]
    head = ("name", "subtask", "tool set", "tool", "boundary", "rank", "modules", "size", "scores")
    return _table(head, rows)


def _adapter(entry: AdapterEntry, size: int | None) -> tuple[str, ...]:
    scores = (f"{k[6:]} {v}" for k, v in entry.card.items() if k.startswith("score."))
    return (
        entry.name,
        entry.subtask,
        entry.tool_set or "any",
        entry.tool or "any",
        entry.boundary,
        str(entry.rank),
        ", ".join(module.removesuffix("_proj") for module in entry.target_modules),
        megabytes(size) if size else f"row {entry.index}",
        ", ".join(scores),
    )


def _parity(certificate: Certificate | None) -> str:
    if certificate is None:
        return _note("This bundle has no certificate.")
    own = {row.adapter: row for row in certificate.bundle}
    rows = [_parity_row(row, own.get(row.adapter)) for row in certificate.fp32]
    head = ("adapter", "fp32 equal", "largest error", "bundle equal", "largest error", "mean error")
    versions = ", ".join(f"{name} {number}" for name, number in certificate.versions.items())
    notes = _note(
        "Greedy tokens of the stage prompts. The same graph in fp32 must decode what transformers "
        "+ PEFT decode; the bundle's own precision is reported. Errors are of logits. "
        f"Tokenizer: {certificate.tokenizer_mismatches} of {certificate.tokenizer_prompts} texts "
        "differ." + ("" if certificate.bundle else " The bundle's own graph was not run here.")
    )
    return _table(head, rows) + notes + _note(f"Computed with {versions}.")


def _parity_row(fp32: ParityRow, own: ParityRow | None) -> tuple[str, ...]:
    name = "base model" if fp32.adapter == BASE else fp32.adapter
    first = (name, f"{fp32.equal_tokens}/{fp32.tokens}", f"{fp32.max_logit_error:.2g}")
    if own is None:
        return (*first, "–", "–", "–")
    equal = f"{own.equal_tokens}/{own.tokens}"
    return (*first, equal, f"{own.max_logit_error:.2g}", f"{own.mean_logit_error:.2g}")


def _site_plots(manifest: Manifest, measured: SiteErrors | None) -> str:
    if measured is None:
        return _note("Not measured: it needs the base model, an adapter and a CPU graph.")
    effects: dict[tuple[str, int], float] = {}
    errors: dict[tuple[str, int], float] = {}
    for one in measured.sites:
        if match := _SITE.search(one.site):
            key = (match[2], int(match[1]))
            effects[key], errors[key] = one.effect, one.error
    rows = [name for name in _ORDER if any(name == row for row, _ in effects)]
    layers = manifest.base_model.layers
    adapter = escape(measured.adapter)
    return (
        f"<h3>Effect of each site of <code>{adapter}</code></h3>"
        + heatmap(rows, layers, effects, title="Effect by site")
        + f"<h3>Error of that effect in the {escape(measured.precision)} graph</h3>"
        + heatmap(rows, layers, errors, title="Logit error by site")
        + _note(
            "One branch alone is switched on, at one stage prompt. Effect: the largest change of a "
            "logit in transformers + PEFT. Error: how far the graph's change is from it. Columns "
            "are layers, both scales are logarithmic; a cell's number shows under the pointer."
        )
    )


def _profile(manifest: Manifest) -> str:
    runtime = manifest.runtime.model_dump(mode="json")
    rows = [(key.replace("_", " "), str(value)) for key, value in runtime.items() if value]
    return _table(("setting", "value"), rows)


def _catalog(manifest: Manifest) -> str:
    if not manifest.catalog:
        return _note("No card of an adapter names any.")
    rows = [(tool.tool_set, tool.name, tool.sha256[:16] + "…") for tool in manifest.catalog]
    return _folded(f"{len(rows)} tools", _table(("tool set", "tool", "SHA-256"), rows))


def _files(manifest: Manifest) -> str:
    rows = [(file.path, f"{file.bytes:,}", file.sha256) for file in manifest.files]
    return _folded(f"{len(rows)} files", _table(("file", "bytes", "SHA-256"), rows))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )
