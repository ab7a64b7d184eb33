"""The evidence at a small budget: does decoupling help, on exported int4 bundles?

    python tests/bench/evidence.py [--row ROW ...] [--recipe FILE] [--out FOLDER] [--save FILE]

A joint adapter, one with as many parameters as the decoupled set, and the decoupled adapters learn
the same examples of the sample's `git` tools (recipes/evidence.toml), are exported as cpu-int4 and
asked on held-out phrasings and on requests that no tool serves, nothing beside the model being
heard (`ways.py`). The decoupled adapters act from the request on; instruction and prompt are the
same two acting from the stage's instruction on, and on the whole prompt; steps the same two as
decoupled in batches so small that each makes as many steps as the joint one; joint-steps,
matched-steps and prompt-steps learn in batches as small. Beside them the base model: all tools in
one prompt (one-call), in the stages without a grammar (free-stages), and with one (base); and the
sample's own adapters for these tools, which went over far more (sample). What was trained is asked
once more with the right tool given, so that only the arguments are the model's (given_tool), and
for two tools that none of these rows was trained for, in the list of all (unseen_tool, unseen_call;
the sample's was). Goes on where it was stopped. Where a docs/benchmarks/evidence*.json has earlier
marks of a row in the same cell (the same cases, the same recipe), each must lie inside their 95 %
interval (exit code 5 otherwise); not with --save, which replaces them and keeps the rows of the
same cell that were not asked for.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.evidence_picture import evidence_svg
from bench.runs import save_result, table

from afx_train.outputs import WEIGHTS
from afx_train.trajectory import read_trajectories, write_trajectories
from agentflux.contracts.bundle import MANIFEST
from agentflux.contracts.cards import CARD

ROOT = Path(__file__).parents[2]
DESK = ROOT / "samples" / "desk_assistant"
RECIPE = Path(__file__).parent / "recipes" / "evidence.toml"
WHOLE, DATA, UNSEEN = (ROOT / "runs" / "evidence" / name for name in ("whole", "data", "unseen"))
KNOWN = ROOT / "docs" / "benchmarks"
MODEL, PROFILE, TOOL_SET = "smollm2-135m-instruct", "cpu-int4", "git"
UNTRAINED = ("one-call", "free-stages", "base")
CONTROLS = ("joint", "matched")
SMALL = ("joint-steps", "matched-steps", "steps", "prompt-steps")
WAYS_TO_TRAIN = ("instruction", "prompt", *SMALL)
SAMPLE = ("select.git", "args.git")
ROWS = (*UNTRAINED, *CONTROLS, "instruction", "decoupled", "prompt", *SMALL, "sample")
MARKS = (
    "tool",
    "call",
    "arguments",
    "abstention_precision",
    "abstention_recall",
)
FURTHER = ("given_tool", "unseen_tool", "unseen_call")
TOKENS = ("prefill_tokens", "reused_tokens", "decoded_tokens")
SERVED_CASES, UNSERVED_CASES, UNSEEN_CASES = 100, 20, 60
HELD_OUT = frozenset({"git_show", "git_create_branch"})
FAILED_CHECK = 5


def main() -> None:
    """Train, export, ask and mark each row; print a table and compare with what is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "evidence")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="what the rows are trained by")
    parser.add_argument(
        "--row", action="append", choices=ROWS, help="only this row; may be given again"
    )
    parser.add_argument("--threads", type=int, help="of the runtime; default: all cores")
    parser.add_argument("--save", type=Path, help="also write the result here, and an SVG beside")
    options = parser.parse_args()
    started, out = time.monotonic(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    prepare_data()
    cases, unseen = draw_cases(out)
    names = options.row or ROWS
    train(options.recipe, out, names)
    rows = [_marked(name, out, cases, unseen, options.threads) for name in names]
    cell = {
        "tool_set": TOOL_SET,
        "split": "test, by phrasing",
        "held_out": sorted(HELD_OUT),
        "cases": [SERVED_CASES, UNSERVED_CASES, UNSEEN_CASES],
        "cases_sha256": _digest(cases, unseen),
        "recipe_sha256": _digest(options.recipe),
        "model": MODEL,
    }
    known = known_rows(cell)
    if options.save is not None:
        made = [*rows, *(row for name, row in known.items() if name not in names)]
        rows = sorted(made, key=lambda row: ROWS.index(row["row"]))
    result = {
        "cell": cell,
        "profile": PROFILE,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "rows": rows,
    }
    for path in (out / "result.json", options.save):
        if path is not None:
            save_result(path, result)
    if options.save is not None and len(rows) > 1:
        title = f"{TOOL_SET} tools, {MODEL}, {PROFILE}, unseen phrasings"
        svg = evidence_svg(rows, title=title)
        options.save.with_suffix(".svg").write_text(svg, encoding="utf-8")
    print(table([shown(row) for row in rows]))
    outside = [] if options.save else _outside(rows, known)
    for line in outside:
        print(line, file=sys.stderr)
    sys.exit(FAILED_CHECK if outside else 0)


def prepare_data() -> None:
    """The tool set's trajectories and the requests that no tool serves, built as the sample's.

    What the recipe learns from lacks two tools of the set; their requests are for the test.
    """
    run("afx_export.cli", "fetch", MODEL)
    if not (WHOLE / "report.json").exists():
        subprocess.run([sys.executable, str(DESK / "servers.py"), "--install-only"], check=True)
        where = ["--grammars", str(DESK / "phrasings"), "--worlds", str(DESK / "worlds.py")]
        only = ["--only", TOOL_SET, "--only", "none"]
        how = ["--out", str(WHOLE), "--seed", "0", "--per-phrasing", "1"]
        run("afx_train.cli", "data", "build", *where, *only, *how)
    hold_out(WHOLE, {TOOL_SET: HELD_OUT}, known=DATA, unseen=UNSEEN)


def hold_out(
    whole: Path, held_out: Mapping[str, Collection[str]], *, known: Path, unseen: Path
) -> None:
    """Make two data folders of one: without some tools, and single calls of these, among all."""
    for path in sorted((whole / "tools").glob("*.json")):
        tools = json.loads(path.read_text(encoding="utf-8"))
        left = [tool for tool in tools if tool["name"] not in held_out.get(path.stem, ())]
        for folder, listed in ((known, left), (unseen, tools)):
            (folder / "tools").mkdir(parents=True, exist_ok=True)
            text = json.dumps(listed, ensure_ascii=False, indent=1) + "\n"
            (folder / "tools" / path.name).write_text(text, encoding="utf-8")
    for split in ("train", "dev", "test"):
        items = read_trajectories(whole / f"{split}.jsonl")
        new = [t for t in items if any(s.tool in held_out.get(s.tool_set, ()) for s in t.steps)]
        hidden = {item.id for item in new}
        write_trajectories(known / f"{split}.jsonl", [i for i in items if i.id not in hidden])
        write_trajectories(unseen / f"{split}.jsonl", [t for t in new if len(t.steps) == 1])


def draw_cases(out: Path) -> tuple[Path, Path]:
    """The same cases every time: known tools and none at all; and tools held out."""
    known, unseen = out / "cases.jsonl", out / "unseen.jsonl"
    served, unserved = _known_lines(out)
    write(known, served[:SERVED_CASES] + unserved[:UNSERVED_CASES])
    write(unseen, test_lines(UNSEEN, out)[:UNSEEN_CASES])
    return known, unseen


def served_cases(out: Path, count: int) -> Path:
    """So many cases of the known tools, the same every time."""
    path = out / "served.jsonl"
    write(path, _known_lines(out)[0][:count])
    return path


def _known_lines(out: Path) -> tuple[list[str], list[str]]:
    """The cases that a known tool serves, and those that none does."""
    served, unserved = list[str](), list[str]()
    for line in test_lines(DATA, out):
        (served if json.loads(line)["gold"]["tool"] else unserved).append(line)
    return served, unserved


def test_lines(data: Path, out: Path) -> list[str]:
    """The cases of a test split, in an order that has nothing to do with them."""
    every = out / f"{data.name}.test.jsonl"
    split = ["--split", "test", "--no-final"]
    run("afx_train.cli", "cases", "--data", str(data), *split, "--out", str(every))
    lines = every.read_text(encoding="utf-8").splitlines(keepends=True)
    return sorted(lines, key=lambda line: hashlib.sha256(line.encode()).digest())


def write(path: Path, lines: Sequence[str]) -> None:
    """Write lines under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)


def train(recipe: Path, out: Path, names: Sequence[str]) -> None:
    """The decoupled adapters side by side, then the controls, two at a time."""
    if "decoupled" in names:
        _run_recipe(recipe, "decoupled", out)
    with ThreadPoolExecutor(max_workers=2) as pool:
        controls = [name for name in names if name in (*CONTROLS, *WAYS_TO_TRAIN)]
        for done in [pool.submit(_run_recipe, recipe, name, out) for name in controls]:
            done.result()


def _run_recipe(recipe: Path, name: str, out: Path) -> None:
    control = [] if name == "decoupled" else ["--control", name]
    folder = ["--out", str(out / name / "adapters")]
    run("afx_train.cli", "run", str(recipe), *folder, "--resume", "--threads", "1", *control)


class Exported:
    """Adapters (or none) in a bundle, and what it answered; made and asked once.

    experts: files that are exported beside the adapters, and that the way "heard" listens to.
    """

    def __init__(
        self,
        folder: Path,
        adapters: Sequence[Path],
        threads: int | None,
        *,
        experts: Sequence[Path] = (),
    ) -> None:
        self._folder, self._threads = folder, threads
        self.adapters, self._experts = adapters, experts
        self._parts = [*(adapter / CARD for adapter in adapters), *experts]
        self._bundle = folder / f"bundle-{_digest(*self._parts)[:8]}"

    def bundle(self) -> Path:
        """The bundle, built where it is not there."""
        if not (self._bundle / MANIFEST).exists():
            folders = [self._together()] if self._experts else self.adapters
            given = [word for folder in folders for word in ("--adapters", str(folder))]
            what = ["--model", MODEL, "--profile", PROFILE, "--out", str(self._bundle)]
            run("afx_export.cli", "build", *what, *given)
        return self._bundle

    def _together(self) -> Path:
        """A folder of the adapters with the experts beside them, where the export looks."""
        folder = self._bundle.with_name(f"parts-{self._bundle.name}")
        for adapter in self.adapters:
            shutil.copytree(adapter, folder / adapter.name, dirs_exist_ok=True)
        for expert in self._experts:
            shutil.copy(expert, folder)
        return folder

    def answers(self, way: str, tools: Path, cases: Path) -> Path:
        """Ask as `afx eval` does ("heard") or in a way of `ways.py`; return the predictions."""
        bundle = self.bundle()
        asked = _digest(*self._parts, cases, *sorted(tools.glob("*.json")))[:8]
        out = self._folder / f"{way}-{cases.stem}-{self._threads or 'all'}-{asked}.jsonl"
        if not out.exists():
            where = ["--tools", str(tools), "--cases", str(cases), "--out", str(out)]
            where += ["--threads", str(self._threads)] if self._threads else []
            if way == "heard":
                run("agentflux.cli", "eval", str(bundle), *where)
            else:
                ways = [sys.executable, str(Path(__file__).parent / "ways.py"), way]
                subprocess.run([*ways, str(bundle), *where], check=True)
        return out

    def marked(self, way: str, tools: Path, cases: Path, marks: Sequence[str]) -> dict[str, Any]:
        """Effort, costs and these marks; and given_tool, None without adapters."""
        answers, given = self.answers(way, tools, cases), None
        report = report_of(cases, answers)
        if self.adapters:
            given = report_of(cases, self.answers("given-tool", tools, cases))["arguments"]
        told = {"cases": report["cases"], "failed": report["failed"]}
        told |= {mark: report[mark] for mark in marks}
        return {**effort(self.adapters), **costs_of(answers), **told, "given_tool": given}


def _marked(name: str, out: Path, cases: Path, unseen: Path, threads: int | None) -> dict[str, Any]:
    exported, way = exported_of(name, out, threads), way_of(name)
    new = dict[str, Any]()
    if exported.adapters and name != "sample":
        new = report_of(unseen, exported.answers(way, UNSEEN / "tools", unseen))
    return {
        "row": name,
        **exported.marked(way, DATA / "tools", cases, MARKS),
        "unseen_tool": new.get("tool"),
        "unseen_call": new.get("call"),
    }


def way_of(name: str) -> str:
    """How a row is asked: see `ways.py`."""
    return name if name in UNTRAINED[:-1] else "model-alone"


def exported_of(name: str, out: Path, threads: int | None) -> Exported:
    """A row's adapters in a bundle; the rows of the bare model share one."""
    folder = out / ("base" if name in UNTRAINED else name)
    return Exported(folder, adapters_of(name, out), threads)


def adapters_of(name: str, out: Path) -> list[Path]:
    """The folders of a row's adapters; none for the bare model."""
    if name == "sample":
        return [DESK / "adapters" / adapter for adapter in SAMPLE]
    return [] if name in UNTRAINED else trained_in(out / name / "adapters")


def train_missing(recipe: Path, folder: Path, names: Iterable[str], *how: str) -> None:
    """Train those adapters of a recipe that a folder lacks."""
    only = [word for name in names if not trained_in(folder, name) for word in ("--only", name)]
    if only:
        run("afx_train.cli", "run", str(recipe), "--out", str(folder), "--resume", *how, *only)


def trained_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The adapters of a folder that are trained to the end."""
    return [path for path in sorted(folder.glob(pattern)) if (path / CARD).is_file()]


def effort(adapters: Sequence[Path]) -> dict[str, int]:
    """How many adapters, their bytes, and what training went over, all together."""
    cards = [json.loads((a / CARD).read_text(encoding="utf-8"))["training"] for a in adapters]
    return {
        "adapters": len(adapters),
        "adapter_bytes": sum((adapter / WEIGHTS).stat().st_size for adapter in adapters),
        "examples": sum(int(card["examples_seen"]) for card in cards),
        "steps": sum(int(card["steps"]) for card in cards),
    }


def report_of(cases: Path, answers: Path) -> dict[str, Any]:
    """Return what `afx-train score` says of predictions."""
    told = ["--cases", str(cases), "--predictions", str(answers), "--json"]
    report: dict[str, Any] = json.loads(run("afx_train.cli", "score", *told))
    return report


def costs_of(answers: Path, *, stage: str | None = None) -> dict[str, float]:
    """Medians of what a file's decisions took, all stages together or one of them."""
    lines = answers.read_text(encoding="utf-8").splitlines()
    return medians_of([json.loads(line) for line in lines], stage=stage)


def medians_of(lines: Iterable[dict[str, Any]], *, stage: str | None = None) -> dict[str, float]:
    """Medians of milliseconds and tokens of predictions.

    Of those that came to a decision: a name that is no candidate leaves no record of its stage.
    """
    told = [line.get("stages", ()) for line in lines]
    wanted = [[s for s in stages if stage in (None, s["stage"])] for stages in told]
    runs = [stages for stages in wanted if stages]
    totals = {
        key: median(sum(stage[key] for stage in stages) for stages in runs) if runs else 0.0
        for key in ("ms", *TOKENS)
    }
    return {f"{key}_median": round(value, 1) for key, value in totals.items()}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its shares as text."""
    return {key: _share(value) if isinstance(value, dict) else value for key, value in row.items()}


def _share(mark: dict[str, Any]) -> str:
    value = mark["right"] / max(1, mark["count"])
    return f"{value:.1%} ({mark['low']:.1%}-{mark['high']:.1%}, n={mark['count']})"


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def known_rows(cell: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows that were saved for this cell, by name."""
    saved = [json.loads(path.read_text(encoding="utf-8")) for path in KNOWN.glob("evidence*.json")]
    same = [result["rows"] for result in saved if result.get("cell") == cell]
    return {row["row"]: row for rows in same for row in rows}


def _outside(rows: list[dict[str, Any]], earlier: dict[str, dict[str, Any]]) -> list[str]:
    """Name the marks that lie outside the interval that was found before."""
    found: list[str] = []
    for row in rows:
        for mark in (*MARKS, *FURTHER):
            before = earlier.get(row["row"], {}).get(mark)
            if not before:
                continue
            value = row[mark]["right"] / max(1, row[mark]["count"])
            if not before["low"] <= value <= before["high"]:
                interval = f"{before['low']:.1%}-{before['high']:.1%}"
                found.append(f"{row['row']}: {mark} is {value:.1%}, outside {interval}")
    return found


def run(module: str, *arguments: str) -> str:
    """Run one of our commands in this Python. Returns its stdout."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:  # it has said what is wrong
        sys.exit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    main()
