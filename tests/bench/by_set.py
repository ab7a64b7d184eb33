"""Predictions of several bundles for the same cases, marked for each tool set apart.

    python tests/bench/by_set.py CASES NAME=PREDICTIONS ... [--out FILE]

`none`: the cases that no tool serves. Each figure with its 95 % bootstrap interval.
"""
# ruff: noqa: T201

import argparse
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.runs import save_result, table

from afx_train.score import Marked, Share, read_marks, share

ALL = "all"


def main() -> None:
    """Mark, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("predictions", nargs="+", metavar="NAME=PREDICTIONS")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    pairs = [told.partition("=")[::2] for told in given.predictions]
    found = {name: _by_set(read_marks(given.cases, Path(path))) for name, path in pairs}
    rows: list[dict[str, Any]] = []
    for mark in ("tool", "call"):
        for tool_set in sorted(next(iter(found.values())), key=lambda name: (name == ALL, name)):
            marks = {name: str(sets[tool_set][mark]) for name, sets in found.items()}
            rows.append({"mark": mark, "tool set": tool_set, **marks})
    print(table(rows))
    if given.out:
        told = {
            name: {
                key: {m: asdict(value) for m, value in marks.items()} for key, marks in of.items()
            }
            for name, of in found.items()
        }
        save_result(given.out, {"cases": given.cases.name, "marks": told})


def _by_set(marked: list[Marked]) -> dict[str, dict[str, Share]]:
    dealt: dict[str, list[Marked]] = defaultdict(list)
    for one in marked:
        dealt[one.gold["tool_set"] or "none"].append(one)
        dealt[ALL].append(one)
    return {
        name: {"tool": share(m.tool_right for m in of), "call": share(m.call_right for m in of)}
        for name, of in dealt.items()
    }


if __name__ == "__main__":
    main()
