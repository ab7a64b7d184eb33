"""Variants of a profile's build options, to be compared with `afx bench --tune`.

Each is a profile of its own, written as TOML, so that the best one can be kept and built from.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afx_export.files import write_text
from afx_profiles import Profile, load_profile

# What is changed, by name: lines of TOML.
_QUANTIZATION: Mapping[str, str] = {
    "block64": "[quantization]\nblock_size = 64",
    "block128": "[quantization]\nblock_size = 128",
    "whole-zeros": "[quantization]\ncolumns = false",
    "fp32-activations": "[quantization]\naccuracy_level = 1",
    "int8": 'precision = "int8"',
}
_BUILDER: Mapping[str, str] = {
    "whole-head": "[builder.extra_options]\nprune_lm_head = false",
}
_FOR_INT8 = frozenset({"block64", "block128", "fp32-activations", *_BUILDER})


def write_variants(profile: Profile, extends: str, folder: Path) -> dict[str, Path]:
    """Write the variants that differ from `profile` and return their files by name.

    extends: what the files inherit from, a shipped profile's name or an absolute path.
    """
    changes = {**(_QUANTIZATION if profile.quantization else {}), **_BUILDER}
    if profile.precision == "int8":
        changes = {name: change for name, change in changes.items() if name in _FOR_INT8}
    files: dict[str, Path] = {}
    for name, change in changes.items():
        head = [
            f"extends = {json.dumps(extends)}",
            f'name = "{profile.name}-{name}"',
            f'description = "{profile.name} with one option changed"',
            'verified = "not verified"',
        ]
        path = folder / f"{name}.toml"
        write_text(path, "\n".join([*head, change]) + "\n")
        if _built_from(load_profile(str(path))) == _built_from(profile):
            path.unlink()
        else:
            files[name] = path
    return files


def _built_from(profile: Profile) -> dict[str, Any]:
    return profile.model_dump(exclude={"name", "description", "verified"})
