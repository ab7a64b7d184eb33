"""Evaluation cases for `afx eval` out of trajectories: one a decision, its gold call beside it."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from afx_train.corpus import load_corpus
from afx_train.errors import DataError
from afx_train.trajectory import Trajectory, TrajectoryStep

SPLITS = ("train", "dev", "test")


def write_cases(
    data: Path, split: str, out: Path, *, final: bool, sample: int = 0, seed: int = 1
) -> int:
    """Write a split's cases as JSONL, by a temporary name. Returns how many.

    final: after the last call of a trajectory too, where the loop has to end. sample: so many of
    them, drawn without replacement, each as likely as any other; 0: all.

    Raises:
        DataError: no such split, or it has no trajectories.
    """
    if split not in SPLITS:
        raise DataError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    chosen = [t for t in load_corpus([data]).trajectories if t.split == split]
    if not chosen:
        raise DataError(f"has no {split} trajectories", where=str(data))
    lines = [case for t in chosen for case in cases_of(t, final=final)]
    if 0 < sample < len(lines):
        lines = Random(seed).sample(lines, sample)
    partial = out.with_name(out.name + ".partial")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    partial.write_text(text, encoding="utf-8")
    partial.replace(out)
    return len(lines)


def cases_of(trajectory: Trajectory, *, final: bool) -> Iterator[dict[str, Any]]:
    """One case a step; where no call is right, the gold call's tool set and tool are null."""
    for number, step in enumerate(trajectory.steps):
        yield _case(trajectory, number, step)
    if final or not trajectory.steps:
        yield _case(trajectory, len(trajectory.steps), None)


def _case(trajectory: Trajectory, done: int, step: TrajectoryStep | None) -> dict[str, Any]:
    gold: dict[str, Any] = {"tool_set": None, "tool": None, "arguments": {}, "accept": []}
    if step is not None:
        gold = step.model_dump(include={"tool_set", "tool", "arguments", "accept"}, mode="json")
    history = [
        {
            "tool_set": past.tool_set,
            "tool": past.tool,
            "arguments": past.arguments,
            "observation": past.observation,
        }
        | ({"is_error": True} if past.is_error else {})
        for past in trajectory.steps[:done]
    ]
    return {
        "id": f"{trajectory.id}/{done}",
        "query": trajectory.request,
        "context": trajectory.context,
        "history": history,
        "kind": trajectory.kind,
        "gold": gold,
    }
