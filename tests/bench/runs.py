"""What every benchmark writes: a small JSON file with the machine and the versions, and a table."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agentflux.benchmark.machine import processor

_PACKAGES = ("onnxruntime", "onnxruntime-genai", "transformers", "peft", "llama-cpp-python")


def save_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result beside what it was measured with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"machine": processor(), "versions": _versions()}
    path.write_text(json.dumps({**facts, **result}, indent=1) + "\n", encoding="utf-8")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render rows of equal keys as a Markdown table."""
    keys = list(rows[0])
    lines = [keys, ["---"] * len(keys), *([str(row[key]) for key in keys] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
