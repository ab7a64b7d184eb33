"""From a base model, adapters and a profile to a certified bundle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from afx_export.activation import activation_boundary
from afx_export.adapters import find_adapters, read_adapter
from afx_export.base_graph import base_graph
from afx_export.bundle import (
    adapter_file,
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
    merged_calibration,
    merged_catalog,
    place_adapters,
)
from afx_export.sources import Model, resolve
from afx_profiles import Profile, ProfileError, load_profile
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
    profile = read_profile(request.profile, has_adapters=bool(request.adapters))
    check_output(out)
    folders = find_adapters(request.adapters)
    model = resolve(request.model)
    say(f"reading {model.id} and {len(folders)} adapters")
    weights = weights_sha256(model.folder)
    placed = place_adapters(folders, request.places, weights=weights)
    subject = _subject(model, weights, placed)
    base = base_graph(model, weights, profile)
    require_space("bundle", out, 2 * sum(p.stat().st_size for p in base.iterdir()))
    with new_folder(out) as folder:
        write_graph(base, folder, subject.shapes, subject.adapters)
        settings = _settings(profile, model)
        write_genai_config(folder, profile, settings.context_tokens)
        certificate = certify(
            subject, folder, provider=profile.provider, precision=profile.precision
        )
        manifest = _manifest(name, subject, placed, settings, certificate, folder)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def read_profile(name: str, *, has_adapters: bool) -> Profile:
    """Load a profile that this version can build.

    Raises:
        ConfigError: it is unknown or invalid, or its adapter mode cannot be built yet.
    """
    try:
        profile = load_profile(name)
    except ProfileError as error:
        raise ConfigError(str(error), where="--profile") from error
    if has_adapters and profile.adapter_mode != "runtime":
        msg = (
            f"adapter mode {profile.adapter_mode!r} of profile {profile.name!r} cannot be built yet"
        )
        raise ConfigError(msg, where="--profile")
    return profile


def _bundle_name(name: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        msg = f"{name!r} cannot name a bundle: use letters, digits, '.', '_' and '-'"
        raise ConfigError(msg, where="--name") from error


def _subject(model: Model, weights: str, placed: tuple[Placed, ...]) -> Subject:
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
        entries=tuple(
            one.entry(
                adapter,
                adapter_file(one.name),
                activation_boundary(one, adapter, chat, encode),
            )
            for one, adapter in zip(placed, adapters, strict=True)
        ),
    )


def _settings(profile: Profile, model: Model) -> RuntimeSettings:
    longest = read_architecture(model.folder).context_tokens
    return RuntimeSettings(
        profile=profile.name,
        provider=profile.provider,
        precision=profile.precision,
        adapter_mode=profile.adapter_mode,
        context_tokens=min(profile.context_tokens, longest),
        kv_budget_bytes=profile.kv_budget_bytes,
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
        base_model=_base_info(subject, settings),
        runtime=settings,
        adapters=subject.entries,
        catalog=merged_catalog(placed),
        calibration=merged_calibration(placed),
        certificate=certificate,
        files=list_files(folder),
    )


def _base_info(subject: Subject, settings: RuntimeSettings) -> BaseModelInfo:
    model = subject.model
    shape = read_architecture(model.folder)
    # The CPU graphs keep the cache in fp32 whatever the weights are; the others in fp16.
    element = 4 if settings.provider == "cpu" else 2
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
