"""Find, inherit and validate profiles."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from afx_profiles.model import Profile

# Facts about one file, not about its kind of device: a child states its own.
_NOT_INHERITED = ("name", "description", "verified")


class ProfileError(ValueError):
    """A profile is unknown, unreadable or breaks the schema. The message says where."""


def list_profiles() -> tuple[str, ...]:
    """Return the names of the shipped profiles, sorted."""
    folder = files("afx_profiles") / "shipped"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_profile(name_or_path: str) -> Profile:
    """Load a shipped profile by name, or any profile by the path of its TOML file.

    `extends` names a shipped profile or a path relative to the file; tables are merged key by key.

    Raises:
        ProfileError: it is unknown, unreadable, extends itself, or breaks the schema.
    """
    data = _read(name_or_path, base=Path(), seen=())
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        msg = f"profile {name_or_path!r}: {where or 'profile'}: {first['msg']}"
        raise ProfileError(msg) from error


def _read(name: str, *, base: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    text, identity, folder = _text(name, base)
    if identity in seen:
        msg = f"profile {name!r} extends itself: {' -> '.join((*seen, identity))}"
        raise ProfileError(msg)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"profile {name!r} is not valid TOML: {error}"
        raise ProfileError(msg) from error
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        msg = f"profile {name!r}: extends must be text, the name or path of a profile"
        raise ProfileError(msg)
    inherited = _read(parent, base=folder, seen=(*seen, identity))
    return _merged({k: v for k, v in inherited.items() if k not in _NOT_INHERITED}, data)


def _text(name: str, base: Path) -> tuple[str, str, Path]:
    """Return the text, an identity for cycle detection, and the folder for relative paths."""
    if name in list_profiles():
        shipped = files("afx_profiles") / "shipped" / f"{name}.toml"
        return shipped.read_text(encoding="utf-8"), name, Path()
    path = base / name
    if path.suffix != ".toml":
        msg = (
            f"no profile {name!r}; shipped: {', '.join(list_profiles())}; or give a path to a .toml"
        )
        raise ProfileError(msg)
    try:
        return path.read_text(encoding="utf-8"), str(path.resolve()), path.parent
    except (OSError, UnicodeDecodeError) as error:
        msg = f"profile {str(path)!r} cannot be read: {error}"
        raise ProfileError(msg) from error


def _merged(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(parent)
    for key, value in child.items():
        inherited = out.get(key)
        if isinstance(value, dict) and isinstance(inherited, dict):
            value = _merged(inherited, value)
        out[key] = value
    return out
