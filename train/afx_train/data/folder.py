"""How data becomes a folder: `tools/<tool_set>.json`, a JSONL file a split, and its report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afx_train.data.check import DataReport, check
from afx_train.trajectory import Trajectory, write_trajectories


def write_folder(
    out: Path,
    trajectories: Sequence[Trajectory],
    tools: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    dropped: Mapping[str, int],
) -> DataReport:
    """Write what was not executed. tools: of each set, as MCP lists them. dropped: by reason.

    Tool sets of an earlier writing that are no more go.
    """
    (out / "tools").mkdir(parents=True, exist_ok=True)
    for path in (out / "tools").glob("*.json"):
        if path.stem not in tools:
            path.unlink()
    for name, listed in tools.items():
        _write_json(out / "tools" / f"{name}.json", listed, indent=1)
    for split in ("train", "dev", "test"):
        write_trajectories(out / f"{split}.jsonl", [t for t in trajectories if t.split == split])
    report = check(trajectories, tools).with_build(
        styles={}, rejected=dict(dropped), failures=(), repeated=0
    )
    _write_json(out / "report.json", report.as_json(), indent=2)
    return report


def _write_json(path: Path, content: object, *, indent: int) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    path.write_text(text + "\n", encoding="utf-8")
