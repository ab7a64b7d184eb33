"""Does decoupling help on the sample's other tool sets? On exported int4 bundles.

    python tests/bench/evidence_sets.py [--tool-set NAME ...] [--row ROW ...] [--save FILE]

For each tool set a joint adapter, one with as many parameters as the decoupled pair, and the
decoupled pair learn the same examples in three passes (recipes/evidence-sets.toml), are exported as
cpu-int4 and asked on held-out phrasings and on requests that no tool serves, nothing beside the
model being heard; then with the right tool given. The decoupled pair acts from the request on;
instruction and prompt are the same pair acting from the stage's instruction on, and on the whole
prompt. Beside them the base model in the same stages, and the sample's own pair, which went over
far more. Needs the sample's data. Goes on where it was stopped; with --save, rows of the file that
were not asked for stay.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import evidence
from bench.evidence_picture import evidence_svg
from bench.runs import save_result, table

RECIPE = Path(__file__).parent / "recipes" / "evidence-sets.toml"
DATA = evidence.DESK / "data"
TOOL_SETS = ("filesystem", "sqlite", "memory", "time")
PAIR = ("select.{}", "args.{}")
BOUNDARIES = ("instruction", "prompt")
ADAPTERS = {
    "base": (),
    "joint": ("joint.{}",),
    "matched": ("matched.{}",),
    "instruction": PAIR,
    "decoupled": PAIR,
    "prompt": PAIR,
    "sample": PAIR,
}
SERVED_CASES, UNSERVED_CASES = 80, 20


def main() -> None:
    """Train, export, ask and mark each row of each tool set; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=evidence.ROOT / "runs" / "evidence-sets")
    parser.add_argument(
        "--tool-set", action="append", choices=TOOL_SETS, help="only this one; may be given again"
    )
    parser.add_argument(
        "--row", action="append", choices=list(ADAPTERS), help="only this row; may be given again"
    )
    parser.add_argument("--threads", type=int, help="of the runtime; default: all cores")
    parser.add_argument("--save", type=Path, help="also write the result here, and an SVG beside")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    wanted = [(s, r) for s in options.tool_set or TOOL_SETS for r in options.row or ADAPTERS]
    evidence.run("afx_export.cli", "fetch", evidence.MODEL)
    _train(out, wanted)
    cases = draw_cases(out, {tool_set for tool_set, _ in wanted})
    rows = [_marked(t, r, out, cases[t], options.threads) for t, r in wanted]
    print(table([evidence.shown(row) for row in rows]))
    if options.save is not None:
        made = [*rows, *kept(options.save, wanted)]
        order = [(tool_set, row) for tool_set in TOOL_SETS for row in ADAPTERS]
        told = {
            "split": "test, by phrasing",
            "cases": [SERVED_CASES, UNSERVED_CASES],
            "recipe_sha256": hashlib.sha256(RECIPE.read_bytes()).hexdigest(),
            "profile": evidence.PROFILE,
            "model": evidence.MODEL,
            "rows": sorted(made, key=lambda row: order.index((row["tool_set"], row["row"]))),
        }
        save_result(options.save, told)
        named = [{**row, "row": f"{row['tool_set']} {row['row']}"} for row in told["rows"]]
        svg = evidence_svg(named, title=f"{evidence.MODEL}, {evidence.PROFILE}, unseen phrasings")
        options.save.with_suffix(".svg").write_text(svg, encoding="utf-8")


def draw_cases(out: Path, tool_sets: Iterable[str]) -> dict[str, Path]:
    """For each tool set the same cases every time: those it serves, and those that none does."""
    every = out / "test.jsonl"
    split = ["--split", "test", "--no-final"]
    out.mkdir(parents=True, exist_ok=True)
    evidence.run("afx_train.cli", "cases", "--data", str(DATA), *split, "--out", str(every))
    lines = every.read_text(encoding="utf-8").splitlines(keepends=True)
    lines.sort(key=lambda line: hashlib.sha256(line.encode()).digest())
    gold_sets = [json.loads(line)["gold"]["tool_set"] for line in lines]
    told = dict[str, Path]()
    for name in tool_sets:
        served = [line for line, gold in zip(lines, gold_sets, strict=True) if gold == name]
        unserved = [line for line, gold in zip(lines, gold_sets, strict=True) if gold is None]
        told[name] = out / name / "cases.jsonl"
        evidence.write(told[name], served[:SERVED_CASES] + unserved[:UNSERVED_CASES])
        tools = out / name / "tools" / f"{name}.json"
        tools.parent.mkdir(exist_ok=True)
        shutil.copy(DATA / "tools" / tools.name, tools)
    return told


def _train(out: Path, wanted: Iterable[tuple[str, str]]) -> None:
    """Train what is not there; whoever changes the recipe gives another --out."""
    for control in (None, *BOUNDARIES):
        rows = (control,) if control else ("joint", "matched", "decoupled")
        folder = trained_folder(out, rows[0])
        names = [n.format(s) for s, row in wanted if row in rows for n in ADAPTERS[row]]
        evidence.train_missing(RECIPE, folder, names, *(["--control", control] if control else []))


def trained_folder(out: Path, row: str) -> Path:
    """Where a row's adapters lie: a boundary's in a folder of its own, since names are the same."""
    if row == "sample":
        return evidence.DESK / "adapters"
    return out / row / "adapters" if row in BOUNDARIES else out / "adapters"


def _marked(tool_set: str, row: str, out: Path, cases: Path, threads: int | None) -> dict[str, Any]:
    trained = trained_folder(out, row)
    adapters = [trained / name.format(tool_set) for name in ADAPTERS[row]]
    exported = evidence.Exported(out / tool_set / row, adapters, threads)
    marks = exported.marked("model-alone", cases.parent / "tools", cases, evidence.MARKS)
    return {"tool_set": tool_set, "row": row, **marks}


def kept(saved: Path, wanted: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """The rows that a file has and that were not asked for."""
    if not saved.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(saved.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if (row["tool_set"], row["row"]) not in wanted]


if __name__ == "__main__":
    main()
