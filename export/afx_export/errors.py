"""Errors of export.

```
AgentFluxError
└── ExportError
    ├── SourceError            the base model cannot be had
    │   ├── UnknownModel       no such folder, file, catalogue entry or hub id
    │   ├── NetworkError       the download failed; `offline` hint in the message
    │   ├── ChecksumMismatch   the bytes are not the pinned ones
    │   ├── DiskFull           not enough space, found before or during writing
    │   └── CorruptModel       the file or folder is not a readable model
    ├── AdapterRefused         an adapter cannot be exported faithfully; `reason` says why
    ├── ChatTemplateRefused    the chat template is not a sequence of turns
    ├── BuilderFailed          the model builder failed or ignored an option
    │   └── ArchitectureUnknown   it does not know the model's architecture
    ├── TargetNotFound         an adapter's module has no projection in the graph
    ├── OutputRefused          the output folder holds something that is not a bundle
    └── CertificateFailed      the bundle does not compute what transformers + PEFT compute
MissingExtra
└── OptimumMissing         an architecture needs optimum, in an environment of its own
```
"""

from collections.abc import Iterable

from agentflux.errors import AgentFluxError, MissingExtra


class ExportError(AgentFluxError):
    """Base of all errors of export."""


class SourceError(ExportError):
    """The base model cannot be had."""

    def __init__(self, model: str, message: str) -> None:
        self.model = model
        super().__init__(f"model {model!r}: {message}")


class UnknownModel(SourceError):
    """No such folder, file, catalogue entry or hub id."""

    def __init__(self, model: str, *, known: Iterable[str]) -> None:
        self.known = tuple(known)
        ways = "a Hugging Face folder, a .gguf file, or a hub id 'owner/name[@revision]'"
        names = f"known names: {', '.join(self.known)}; or " if self.known else ""
        super().__init__(model, f"not found; {names}give {ways}")


class NetworkError(SourceError):
    """The download failed."""


class ChecksumMismatch(SourceError):
    """The bytes are not the pinned ones."""

    def __init__(self, model: str, *, file: str, expected: str, found: str) -> None:
        self.file, self.expected, self.found = file, expected, found
        super().__init__(
            model, f"{file} has SHA-256 {found[:16]}…, expected {expected[:16]}…; it was discarded"
        )


class DiskFull(SourceError):
    """Not enough space, found before or during writing."""

    def __init__(self, what: str, *, folder: str, needed: int = 0, free: int = 0) -> None:
        self.needed, self.free = needed, free
        amounts = f" needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free" if needed else ""
        super().__init__(
            what,
            f"the disk of {folder} is full:{amounts or ' writing failed'}; "
            "free some space or point AGENTFLUX_CACHE elsewhere",
        )


class CorruptModel(SourceError):
    """The file or folder is not a readable model."""


class AdapterRefused(ExportError):
    """An adapter cannot be exported faithfully."""

    def __init__(self, adapter: str, reason: str) -> None:
        self.adapter, self.reason = adapter, reason
        # The reason may quote what a damaged file holds, of any length.
        shown = reason if len(reason) <= 600 else reason[:600] + "…"
        super().__init__(f"adapter {adapter!r} refused: {shown}")


class ChatTemplateRefused(ExportError):
    """The chat template is not a sequence of turns."""


class BuilderFailed(ExportError):
    """The model builder failed or ignored an option."""


class ArchitectureUnknown(BuilderFailed):
    """The model builder does not know the model's architecture."""


class OptimumMissing(MissingExtra):
    """An architecture needs optimum, which is installed alone in an environment of its own."""

    def __init__(self, architecture: str, *, variable: str, why: str = "") -> None:
        super().__init__("optimum", extra="optimum")
        self.architecture, self.why = architecture, why
        self.args = (
            f"the model builder has no {architecture}, and optimum, which may have it, "
            + (f"cannot be used: {why}. " if why else "is not set up. ")
            + "It needs an environment of its own: python -m venv optimum && optimum/bin/pip "
            f"install 'agentflux-edge[optimum]'; then set {variable}=optimum/bin/python",
        )


class TargetNotFound(ExportError):
    """An adapter's module has no projection in the graph."""

    def __init__(self, modules: Iterable[str], *, available: Iterable[str]) -> None:
        self.modules, self.available = tuple(modules), tuple(available)
        super().__init__(
            f"the base graph has no projection for {_some(self.modules)}; "
            f"it can carry LoRA on {_some(self.available)}"
        )


class OutputRefused(ExportError):
    """The output folder holds something that is not a bundle."""


class CertificateFailed(ExportError):
    """The bundle does not compute what transformers + PEFT compute. Nothing was written."""


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name) for name in names[:6]) or "nothing"
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")
