"""From a base model, adapters and a profile to a certified bundle."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from afx_export.activation import activation_boundary
from afx_export.adapter_modes import locate
from afx_export.adapters import find_adapters, find_experts, read_adapter
from afx_export.base_graph import GraphTypes, base_graph, read_types
from afx_export.bundle import (
    check_output,
    list_files,
    write_genai_config,
    write_graph,
)
from afx_export.certificate import tokenizer_of
from afx_export.certify import Subject, certify
from afx_export.chat import read_chat
from afx_export.console import say
from afx_export.files import new_folder, require_space
from afx_export.hf import linear_shapes, read_architecture
from afx_export.placement import (
    Place,
    Placed,
    merged_catalog,
    place_adapters,
)
from afx_export.sources import Model, resolve
from afx_profiles import AdapterMode, Profile, ProfileError, load_profile
from agentflux.contracts.bundle import (
    MANIFEST,
    BaseModelInfo,
    Certificate,
    Manifest,
    Name,
    RuntimeSettings,
)
from agentflux.contracts.cache import weights_sha256
from agentflux.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What `afx-export build` is asked for. `name` defaults to the output folder's."""

    model: str
    profile: str
    out: Path
    adapters: tuple[Path, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])
    name: str = ""


def build(request: Request) -> Manifest:
    """Write a bundle at `request.out` and return its manifest. Nothing is written on failure.

    Raises:
        ConfigError: an option, card or profile is wrong.
        ExportError: see `afx_export.errors`; CertificateFailed when the result is not faithful.
    """
    out = request.out.expanduser().absolute()
    name = _bundle_name(request.name or out.name)
    profile = read_profile(request.profile)
    check_output(out)
    folders = find_adapters(request.adapters)
    experts = find_experts(request.adapters)
    model = resolve(request.model)
    say(f"reading {model.id} and {len(folders)} adapters")
    weights = weights_sha256(model.folder)
    placed = place_adapters(folders, request.places, weights=weights)
    subject = _subject(model, weights, placed, profile.adapter_mode)
    base = base_graph(model, weights, profile)
    require_space("bundle", out, 2 * sum(p.stat().st_size for p in base.iterdir()))
    with new_folder(out) as folder:
        write_graph(base, folder, subject.shapes, subject.adapters, mode=profile.adapter_mode)
        settings = _settings(profile, model, read_types(base))
        write_genai_config(folder, profile, settings.context_tokens)
        for path in experts.values():
            shutil.copyfile(path, folder / path.name)
        certificate = certify(subject, folder, settings)
        names = {part: path.name for part, path in experts.items()}
        manifest = _manifest(name, subject, placed, settings, certificate, folder)
        manifest = manifest.model_copy(update=names)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def read_profile(name: str) -> Profile:
    """Load a profile.

    Raises:
        ConfigError: it is unknown or invalid.
    """
    try:
        return load_profile(name)
    except ProfileError as error:
        raise ConfigError(str(error), where="--profile") from error


def _bundle_name(name: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        msg = f"{name!r} cannot name a bundle: use letters, digits, '.', '_' and '-'"
        raise ConfigError(msg, where="--name") from error


def _subject(model: Model, weights: str, placed: tuple[Placed, ...], mode: AdapterMode) -> Subject:
    chat, end_token_ids = read_chat(model.folder)
    shapes = linear_shapes(model.folder)
    adapters = tuple(read_adapter(one.folder, one.name, shapes) for one in placed)
    encode = tokenizer_of(model.folder)
    return Subject(
        model=model,
        weights=weights,
        shapes=shapes,
        chat=chat,
        end_token_ids=end_token_ids,
        adapters=adapters,
        entries=locate(
            [
                one.entry(adapter, activation_boundary(one, adapter, chat, encode))
                for one, adapter in zip(placed, adapters, strict=True)
            ],
            mode,
        ),
    )


def _settings(profile: Profile, model: Model, types: GraphTypes) -> RuntimeSettings:
    longest = read_architecture(model.folder).context_tokens
    return RuntimeSettings(
        profile=profile.name,
        provider=profile.provider,
        precision=profile.precision,
        adapter_mode=profile.adapter_mode,
        graph_type=types.activations,
        context_tokens=min(profile.context_tokens, longest),
        kv_budget_bytes=profile.kv_budget_bytes,
        max_generators=profile.max_generators,
        extra=profile.extra,
        plugin=profile.plugin,
        verified=profile.verified,
    )


def _manifest(
    name: str,
    subject: Subject,
    placed: tuple[Placed, ...],
    settings: RuntimeSettings,
    certificate: Certificate,
    folder: Path,
) -> Manifest:
    return Manifest(
        name=name,
        made_by=f"afx-export {version('agentflux-edge')}",
        chat=subject.chat,
        base_model=_base_info(subject, read_types(folder)),
        runtime=settings,
        adapters=subject.entries,
        catalog=merged_catalog(placed),
        certificate=certificate,
        files=list_files(folder),
    )


def _base_info(subject: Subject, types: GraphTypes) -> BaseModelInfo:
    model = subject.model
    shape = read_architecture(model.folder)
    element = types.cache_bytes
    return BaseModelInfo(
        id=model.id,
        revision=model.revision,
        licence=model.licence,
        architecture=shape.name,
        weights_sha256=subject.weights,
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        vocab_size=shape.vocab_size,
        kv_bytes_per_token=2 * shape.layers * shape.kv_heads * shape.head_size * element,
        end_token_ids=subject.end_token_ids,
    )
