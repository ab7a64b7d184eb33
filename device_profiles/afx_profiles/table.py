"""Profiles as text: the list that `afx profiles` prints, and one profile in full."""

import json
from collections.abc import Sequence

from afx_profiles.loader import list_profiles, load_profile
from afx_profiles.model import Profile

_COLUMNS = ("name", "description", "precision", "adapter_mode", "extra", "verified")


def describe_profiles(names: Sequence[str] = (), *, as_json: bool = False) -> str:
    """Return a table of these profiles (none: all shipped), or JSON with every field of each.

    One name or path alone is shown in full, as it is after inheritance.

    Raises:
        ProfileError: one is unknown or invalid.
    """
    found = [load_profile(name) for name in names or list_profiles()]
    if as_json:
        return json.dumps([one.model_dump(mode="json") for one in found], indent=2) + "\n"
    return _one(found[0]) if len(names) == 1 else _table(found)


def _table(profiles: Sequence[Profile]) -> str:
    rows = [[str(getattr(one, column)) for column in _COLUMNS] for one in profiles]
    rows = [[*row[:-1], row[-1].partition(":")[0]] for row in rows]
    head = [column.replace("_", " ") for column in _COLUMNS]
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    return "".join(_line(cells, widths) for cells in (head, *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip() + "\n"


def _one(profile: Profile) -> str:
    """Return every field of a profile, one a line, tables as `table.key`."""
    lines: dict[str, str] = {}
    for key, value in profile.model_dump(mode="json").items():
        _flatten(key, value, lines)
    width = max(map(len, lines))
    return "".join(f"{key.ljust(width)}  {value}\n" for key, value in lines.items())


def _flatten(key: str, value: object, lines: dict[str, str]) -> None:
    if isinstance(value, dict):
        for inner, inside in value.items():
            _flatten(f"{key}.{inner}", inside, lines)
    elif isinstance(value, list):
        lines[key] = ", ".join(str(item) for item in value)
    elif value not in (None, ""):
        lines[key] = str(value)
