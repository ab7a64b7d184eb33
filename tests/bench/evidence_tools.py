"""Does an adapter name tools that its tool set got after training? On exported int4 bundles.

    python tests/bench/evidence_tools.py [--tool-set NAME ...] [--row ROW ...] [--save FILE]

Of each tool set of `evidence_sets.py` two tools are kept out of the data (one of two where there
are no more): the first by the SHA-256 of their names among those that are called. A joint adapter,
one with as many parameters as the decoupled pair, and the decoupled pair learn the same examples of
the others (recipes/evidence-tools.toml), are exported as cpu-int4 with classifiers that were fitted
on the same data and the sample's bi-encoder, and are asked for the tools that were kept out, in the
list of all: with nothing beside the model, and as `afx eval` does, the words heard (heard). What
the words cost elsewhere is seen on requests for the known tools and on such that no tool serves
(known). Needs the sample's data. Goes on where it was stopped; with --save, rows of the file that
were not asked for stay.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import evidence
from bench.evidence_sets import ADAPTERS, TOOL_SETS, kept
from bench.runs import save_result, table

from afx_train.trajectory import read_trajectories

RECIPE = Path(__file__).parent / "recipes" / "evidence-tools.toml"
WHOLE = evidence.DESK / "data"
OUT = evidence.ROOT / "runs" / "evidence-tools"
DATA, UNSEEN = OUT / "data", OUT / "unseen"
RETRIEVER = evidence.DESK / "adapters" / "retriever.npz"
ROWS = ("joint", "decoupled")
MOST_HELD_OUT = 2
UNSEEN_CASES, SERVED_CASES, UNSERVED_CASES = 40, 30, 10


def main() -> None:
    """Keep tools out, train, export, ask and mark; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tool-set", action="append", choices=TOOL_SETS, help="only this one; may be given again"
    )
    parser.add_argument(
        "--row", action="append", choices=ROWS, help="only this row; may be given again"
    )
    parser.add_argument("--threads", type=int, help="of the runtime; default: all cores")
    parser.add_argument("--save", type=Path, help="also write the result here")
    options = parser.parse_args()
    wanted = [(s, r) for s in options.tool_set or TOOL_SETS for r in options.row or ROWS]
    evidence.run("afx_export.cli", "fetch", evidence.MODEL)
    held_out = prepare_data()
    _train(wanted)
    rows = [_marked(tool_set, row, options.threads) for tool_set, row in wanted]
    print(table([evidence.shown(row) for row in rows]))
    if options.save is not None:
        order = [(tool_set, row) for tool_set in TOOL_SETS for row in ROWS]
        made = [*rows, *kept(options.save, wanted)]
        told = {
            "held_out": held_out,
            "cases": [UNSEEN_CASES, SERVED_CASES, UNSERVED_CASES],
            "recipe_sha256": hashlib.sha256(RECIPE.read_bytes()).hexdigest(),
            "profile": evidence.PROFILE,
            "model": evidence.MODEL,
            "rows": sorted(made, key=lambda row: order.index((row["tool_set"], row["row"]))),
        }
        save_result(options.save, told)


def prepare_data() -> dict[str, list[str]]:
    """Write the data without the tools that are kept out, once; return these tools."""
    called = {name: set[str]() for name in TOOL_SETS}
    for item in read_trajectories(WHOLE / "test.jsonl"):
        for step in item.steps:
            if step.tool_set in called:
                called[step.tool_set].add(step.tool)
    held_out = {name: _kept_out(tools) for name, tools in called.items()}
    if not (UNSEEN / "test.jsonl").exists():
        evidence.hold_out(WHOLE, held_out, known=DATA, unseen=UNSEEN)
    return held_out


def _kept_out(tools: set[str]) -> list[str]:
    ordered = sorted(tools, key=lambda name: hashlib.sha256(name.encode()).digest())
    return ordered[: min(MOST_HELD_OUT, len(tools) // 2)]


def _train(wanted: Sequence[tuple[str, str]]) -> None:
    """Adapters and classifiers; whoever changes the recipe removes `runs/evidence-tools` first."""
    folder = OUT / "adapters"
    names = [name.format(tool_set) for tool_set, row in wanted for name in ADAPTERS[row]]
    evidence.train_missing(RECIPE, folder, names)
    if not (OUT / "intents.npz").exists():
        evidence.run("afx_train.cli", "intents", str(RECIPE), "--out", str(OUT / "intents.npz"))


def _marked(tool_set: str, row: str, threads: int | None) -> dict[str, Any]:
    folder = OUT / tool_set
    adapters = [OUT / "adapters" / name.format(tool_set) for name in ADAPTERS[row]]
    experts = [OUT / "intents.npz", RETRIEVER]
    exported = evidence.Exported(folder / row, adapters, threads, experts=experts)
    unseen, known = _cases(tool_set)
    tools = folder / "tools"
    told = {"tool_set": tool_set, "row": row, **evidence.effort(adapters)}
    for way, cases, marks in (
        ("model-alone", unseen, ("tool", "call")),
        ("heard", unseen, ("tool", "call")),
        ("heard", known, ("tool", "call", "abstention_recall")),
    ):
        report = evidence.report_of(cases, exported.answers(way, tools, cases))
        named = f"{way.replace('-', '_')}_{cases.stem}"
        told |= {f"{named}_{mark}": report[mark] for mark in marks}
    return told


def _cases(tool_set: str) -> tuple[Path, Path]:
    """Requests for the tools that were kept out; for the others of the set, and for none."""
    folder = OUT / tool_set
    golds = [(json.loads(line)["gold"]["tool_set"], line) for line in _lines(DATA)]
    served = [line for gold, line in golds if gold == tool_set]
    unserved = [line for gold, line in golds if gold is None]
    new = [x for x in _lines(UNSEEN) if json.loads(x)["gold"]["tool_set"] == tool_set]
    evidence.write(folder / "unseen.jsonl", new[:UNSEEN_CASES])
    evidence.write(folder / "known.jsonl", served[:SERVED_CASES] + unserved[:UNSERVED_CASES])
    listed = (UNSEEN / "tools" / f"{tool_set}.json").read_text(encoding="utf-8")
    evidence.write(folder / "tools" / f"{tool_set}.json", [listed])
    return folder / "unseen.jsonl", folder / "known.jsonl"


@cache
def _lines(data: Path) -> list[str]:
    """The cases of a data folder, drawn once for all rows."""
    return evidence.test_lines(data, OUT)


if __name__ == "__main__":
    main()
