"""How data becomes a folder: `tools/<tool_set>.json`, a JSONL file a split, and its report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afx_train.data.check import DataReport, check
from afx_train.trajectory import Trajectory, write_trajectories

TAUGHT = "taught.jsonl"


def write_folder(
    out: Path,
    trajectories: Sequence[Trajectory],
    tools: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    dropped: Mapping[str, int],
) -> DataReport:
    """Write what was not executed. tools: of each set, as MCP lists them. dropped: by reason."""
    report = check(trajectories, tools).with_build(
        styles={}, rejected=dict(dropped), failures=(), repeated=0
    )
    write_data(out, trajectories, tools, report)
    return report


def write_data(
    out: Path,
    trajectories: Sequence[Trajectory],
    tools: Mapping[str, Sequence[Mapping[str, Any]]],
    report: DataReport,
    *,
    indent: int = 1,
) -> None:
    """Write a data folder, each file by a temporary name.

    What an earlier writing left goes: tool sets that are no more, and what a teacher made of it.
    indent: of the tools' files, whose bytes are part of what trained adapters know the data by.
    """
    (out / "tools").mkdir(parents=True, exist_ok=True)
    (out / TAUGHT).unlink(missing_ok=True)
    for path in (out / "tools").glob("*.json"):
        if path.stem not in tools:
            path.unlink()
    for name, listed in tools.items():
        _write_json(out / "tools" / f"{name}.json", listed, indent=indent)
    for split in ("train", "dev", "test"):
        write_trajectories(out / f"{split}.jsonl", [t for t in trajectories if t.split == split])
    _write_json(out / "report.json", report.as_json(), indent=2)


def _write_json(path: Path, content: object, *, indent: int) -> None:
    partial = path.with_name(path.name + ".partial")
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
