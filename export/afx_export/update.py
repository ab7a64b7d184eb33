"""Change the adapters of a finished bundle: what did not change is not written again.

A bundle with an adapter added is byte for byte the bundle that `build` makes of all of them, so it
does not matter how a device's bundle came to be, and only the files that differ have to travel.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afx_export.activation import activation_boundary
from afx_export.adapter_modes import (
    is_adapter_part,
    locate,
    read_adapters,
    read_base,
    sites_in,
    write_adapters,
)
from afx_export.adapters import Adapter, find_adapters, find_experts, read_adapter
from afx_export.bundle import list_files
from afx_export.certificate import BASE, tokenizer_of, versions
from afx_export.certify import Subject, certify
from afx_export.chat import read_chat
from afx_export.console import say
from afx_export.files import link_or_copy, new_folder
from afx_export.hf import linear_shapes
from afx_export.lora_graph import Packed, Site, find_sites, pack, sites_of
from afx_export.placement import (
    Place,
    Placed,
    ToolKey,
    place_adapters,
    ranked_catalog,
    without_copying,
    writer_rank,
)
from afx_export.sources import Model, cached_base, resolve
from afx_export.verify import recovered_subject
from agentflux.contracts.bundle import (
    MANIFEST,
    AdapterEntry,
    CatalogTool,
    Certificate,
    Manifest,
    ParityRow,
    check_files,
    read_manifest,
    sha256_file,
)
from agentflux.contracts.cache import weights_sha256
from agentflux.errors import AdapterNotFound, ConfigError, ContractMismatch

Certify = Callable[[Path, Manifest], Certificate | None]


def add_adapters(
    bundle: Path,
    folders: Sequence[Path],
    *,
    places: Mapping[str, Place] | None = None,
    model: str | None = None,
) -> Manifest:
    """Add PEFT adapters to a bundle, or replace those of the same name. All or nothing.

    The new adapters are certified; the rows of the others are kept, unless the libraries that
    computed them have changed since. model: the base model, by default the manifest's if fetched.

    Raises:
        ConfigError: an adapter has no place, or another one serves it already.
        ExportError: see `build`.
        BundleError: the bundle is not whole, or made for other weights than the model's.
    """
    manifest = read_manifest(bundle)
    check_files(manifest, bundle)
    experts = find_experts(folders)
    base = _model(manifest, bundle, model)
    shapes = linear_shapes(base.folder)
    weights = manifest.base_model.weights_sha256
    placed = place_adapters(find_adapters(tuple(folders)), places or {}, weights=weights)
    adapters = tuple(read_adapter(one.folder, one.name, shapes) for one in placed)
    names = {one.name for one in placed}
    kept = tuple(entry for entry in manifest.adapters if entry.name not in names)
    _require_free(placed, kept)
    mode = manifest.runtime.adapter_mode
    packed = dict(read_adapters(bundle, kept, mode))
    sites = find_sites(read_base(bundle).graph, shapes)
    packed |= {one.name: pack(one, sites_of(sites, [one])) for one in adapters}
    chat, _ = read_chat(base.folder)
    encode = tokenizer_of(base.folder)
    entries = [*kept] + [
        one.entry(adapter, activation_boundary(one, adapter, chat, encode))
        for one, adapter in zip(placed, adapters, strict=True)
    ]
    changed = manifest.model_copy(
        update={
            "adapters": tuple(sorted(entries, key=lambda entry: entry.name)),
            "catalog": _in_order(_joined_catalog(manifest, kept, placed)),
            **{name: path.name for name, path in experts.items()},
        }
    )
    say(f"adding {', '.join(sorted(names))} to {manifest.name}")
    fresh = _Fresh(model=base, manifest=manifest, shapes=shapes, adapters=adapters)
    return _rewrite(
        bundle, changed, sites, packed, fresh.certificate, experts=tuple(experts.values())
    )


def remove_adapters(bundle: Path, names: Sequence[str]) -> Manifest:
    """Take adapters out of a bundle. Needs no model: nothing that stays is computed otherwise.

    Raises:
        AdapterNotFound: the bundle has none of that name.
        BundleError: the bundle is not whole.
    """
    manifest = read_manifest(bundle)
    check_files(manifest, bundle)
    for name in names:
        if name not in {entry.name for entry in manifest.adapters}:
            available = [entry.name for entry in manifest.adapters]
            raise AdapterNotFound(name, available=available, bundle=manifest.name)
    mode = manifest.runtime.adapter_mode
    kept = tuple(entry for entry in manifest.adapters if entry.name not in names)
    packed = read_adapters(bundle, kept, mode)
    sites = sites_in(bundle, manifest.adapters, mode)
    changed = manifest.model_copy(
        update={"adapters": kept, "catalog": _in_order(_kept_catalog(manifest, kept))},
    )
    return _rewrite(bundle, changed, sites, packed, _kept_certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fresh:
    """What is needed to certify the adapters that are new, in the finished bundle."""

    model: Model
    manifest: Manifest
    shapes: Mapping[str, tuple[int, int]]
    adapters: tuple[Adapter, ...]

    def certificate(self, folder: Path, manifest: Manifest) -> Certificate:
        """Certify the new adapters, or all where the old rows are of other library versions."""
        old = self.manifest.certificate
        if old is None or old.versions != versions():
            with tempfile.TemporaryDirectory(prefix="afx-certify-") as scratch:
                everything = recovered_subject(manifest, folder, self.model, Path(scratch))
                return certify(everything, folder, manifest.runtime)
        chat, end_token_ids = read_chat(self.model.folder)
        names = {adapter.name for adapter in self.adapters}
        subject = Subject(
            model=self.model,
            weights=manifest.base_model.weights_sha256,
            shapes=self.shapes,
            chat=chat,
            end_token_ids=end_token_ids,
            adapters=self.adapters,
            entries=tuple(entry for entry in manifest.adapters if entry.name in names),
        )
        made = certify(subject, folder, manifest.runtime)
        return made.model_copy(
            update={
                "fp32": _rows(old.fp32, made.fp32, manifest),
                "bundle": _rows(old.bundle, made.bundle, manifest),
            }
        )


def _kept_certificate(folder: Path, manifest: Manifest) -> Certificate | None:
    """Drop the rows of adapters that are gone."""
    old = manifest.certificate
    if old is None:
        return None
    rows = {"fp32": _rows(old.fp32, (), manifest), "bundle": _rows(old.bundle, (), manifest)}
    return old.model_copy(update=rows)


def _rows(
    old: tuple[ParityRow, ...], new: tuple[ParityRow, ...], manifest: Manifest
) -> tuple[ParityRow, ...]:
    """Take the new row of an adapter, or else its old one, in the certificate's order."""
    found = {row.adapter: row for row in (*old, *new)}
    names = [BASE, *(entry.name for entry in manifest.adapters)]
    return tuple(found[name] for name in names if name in found)


def _rewrite(
    bundle: Path,
    manifest: Manifest,
    sites: Sequence[Site],
    packed: Mapping[str, Packed],
    certificate: Certify,
    *,
    experts: Sequence[Path] = (),
) -> Manifest:
    """Write the changed bundle in place of the old one; equal files stay the same files.

    A link to the bundle goes on pointing where it did.
    """
    bundle = bundle.resolve()
    entries = locate(manifest.adapters, manifest.runtime.adapter_mode)
    manifest = manifest.model_copy(update={"adapters": entries})
    touched = {name for one in packed.values() for name in one}
    with new_folder(bundle) as folder:
        write_adapters(
            read_base(bundle),
            folder,
            [site for site in sites if site.name in touched],
            {entry.name: packed[entry.name] for entry in entries},
            manifest.runtime.adapter_mode,
        )
        for path in experts:
            shutil.copyfile(path, folder / path.name)
        for file in manifest.files:
            _take_over(bundle / file.path, folder / file.path, is_part=is_adapter_part(file.path))
        manifest = manifest.model_copy(update={"certificate": certificate(folder, manifest)})
        manifest = manifest.model_copy(update={"files": list_files(folder)})
        checked = Manifest.model_validate(manifest.model_dump())
        (folder / MANIFEST).write_text(checked.to_json(), encoding="utf-8")
    return checked


def _take_over(old: Path, new: Path, *, is_part: bool) -> None:
    """Link a file that is not the adapters' concern, or one that came out equal."""
    if new.exists():
        if new.stat().st_size != old.stat().st_size or sha256_file(new) != sha256_file(old):
            return
        new.unlink()
    elif is_part:
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(old, new)


def _model(manifest: Manifest, bundle: Path, name: str | None) -> Model:
    wanted = manifest.base_model
    found = resolve(name) if name else cached_base(wanted)
    if found is None:
        msg = f"the base model {wanted.id!r} is not here; fetch it, or give its folder"
        raise ConfigError(msg, where="--model")
    if weights_sha256(found.folder) != wanted.weights_sha256:
        raise ContractMismatch(
            f"made for other weights than {found.id} has",
            bundle=str(bundle),
            hint="give the model that it was exported from with --model",
        )
    return found


def _require_free(placed: Sequence[Placed], kept: Sequence[AdapterEntry]) -> None:
    """Refuse a place that an adapter of another name has.

    Raises:
        ConfigError: with both names.
    """
    taken = {(e.subtask, e.tool_set, e.tool): e.name for e in kept}
    for one in placed:
        place = one.place
        if other := taken.get((place.subtask, place.tool_set, place.tool)):
            msg = f"{other!r} serves the place of {one.name!r} already; remove it first"
            raise ConfigError(msg, where="--adapters")


def _kept_catalog(manifest: Manifest, kept: Sequence[AdapterEntry]) -> dict[ToolKey, CatalogTool]:
    """The tools that these adapters serve. The copying of a writer that goes is gone."""
    found: dict[ToolKey, CatalogTool] = {}
    for tool in manifest.catalog:
        if any(entry.tool_set in (None, tool.tool_set) for entry in kept):
            stays = _best_rank(kept, tool) == _best_rank(manifest.adapters, tool)
            found[tool.tool_set, tool.name] = tool if stays else without_copying(tool)
    return found


def _best_rank(entries: Sequence[AdapterEntry], tool: CatalogTool) -> int:
    return max((writer_rank(entry, tool) for entry in entries), default=0)


def _joined_catalog(
    manifest: Manifest, kept: Sequence[AdapterEntry], placed: Sequence[Placed]
) -> dict[ToolKey, CatalogTool]:
    """Add what the new adapters were trained for to what the kept ones serve.

    Raises:
        ConfigError: the kept adapters were trained for another version of a tool.
    """
    found = _kept_catalog(manifest, kept)
    for key, (tool, rank) in ranked_catalog(placed).items():
        if key in found and found[key].sha256 != tool.sha256:
            msg = (
                f"the bundle's adapters were trained for another description of "
                f"{tool.tool_set}/{tool.name}; train them on one catalog and build again"
            )
            raise ConfigError(msg, where="--adapters")
        if key not in found or rank > _best_rank(kept, tool):
            found[key] = tool
    return found


def _in_order(catalog: Mapping[ToolKey, CatalogTool]) -> tuple[CatalogTool, ...]:
    return tuple(catalog[key] for key in sorted(catalog))
