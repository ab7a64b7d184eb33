"""What differs between two bundles: what a device's update has to bring."""

from dataclasses import asdict, dataclass
from pathlib import Path

from agentflux.contracts.bundle import MANIFEST, AdapterEntry, Manifest, read_manifest

_APART = ("adapters", "files", "certificate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """From a first bundle to a second. `fields`: the manifest's other fields that differ.

    travels: the second's new and changed files, the manifest among them, with their bytes.
    """

    adapters_added: tuple[str, ...]
    adapters_removed: tuple[str, ...]
    adapters_changed: tuple[str, ...]
    files_removed: tuple[str, ...]
    travels: dict[str, int]
    fields: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the bundles are equal."""
        return not any(asdict(self).values())

    def to_text(self) -> str:
        """Describe the difference, a line each; the empty text where there is none."""
        marks = (
            ("+ adapter", self.adapters_added),
            ("- adapter", self.adapters_removed),
            ("~ adapter", self.adapters_changed),
            ("- file   ", self.files_removed),
            ("~ field  ", self.fields),
        )
        lines = [f"{mark} {name}" for mark, names in marks for name in names]
        lines += [f"> file    {path} ({size:,} bytes)" for path, size in self.travels.items()]
        if self.travels:
            lines.append(f"{sum(self.travels.values()):,} bytes travel")
        return "".join(f"{line}\n" for line in lines)


def diff(first: Path, second: Path) -> Difference:
    """Compare two bundles by their manifests; no other file is read.

    Raises:
        BundleError: one has no valid manifest.
    """
    old, new = read_manifest(first), read_manifest(second)
    had, has = _adapters(old), _adapters(new)
    travels = _new_files(old, new)
    if (first / MANIFEST).read_bytes() != (second / MANIFEST).read_bytes():
        travels[MANIFEST] = (second / MANIFEST).stat().st_size
    return Difference(
        adapters_added=tuple(sorted(has.keys() - had.keys())),
        adapters_removed=tuple(sorted(had.keys() - has.keys())),
        adapters_changed=tuple(n for n in sorted(has.keys() & had.keys()) if has[n] != had[n]),
        files_removed=tuple(
            sorted({file.path for file in old.files} - {file.path for file in new.files})
        ),
        travels=dict(sorted(travels.items())),
        fields=tuple(
            name
            for name in Manifest.model_fields
            if name not in _APART and getattr(old, name) != getattr(new, name)
        ),
    )


def _adapters(manifest: Manifest) -> dict[str, AdapterEntry]:
    """Return the adapters by name, without their place in the files: a row may have moved."""
    return {
        entry.name: entry.model_copy(update={"file": None, "index": None})
        for entry in manifest.adapters
    }


def _new_files(old: Manifest, new: Manifest) -> dict[str, int]:
    had = {file.path: file.sha256 for file in old.files}
    return {file.path: file.bytes for file in new.files if had.get(file.path) != file.sha256}
