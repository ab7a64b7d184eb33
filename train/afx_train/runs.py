"""What the commands do with a terminal: progress bars and tables around the workers."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from afx_train.controls import load_recipe, trained_of
from afx_train.errors import JobFailed, RecipeError
from afx_train.job import plan_named
from afx_train.jobs import JobResult, Launch, run_plan
from afx_train.recipe import base_folder, data_folders

if TYPE_CHECKING:
    from afx_train.controls import Control
    from afx_train.evaluate import AdapterReport, Swaps
    from afx_train.marks import Marking
    from afx_train.score import Share

_CONSOLE = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How jobs are run. workers, threads: 0 for what suits this machine."""

    resume: bool = False
    workers: int = 0
    threads: int = 0
    retries: int = 1
    control: "Control | None" = None


def run_recipe(recipe_path: Path, out: Path, only: list[str], how: Running) -> None:
    """Run a recipe's jobs and show how they go.

    Raises:
        ConfigError: the recipe, its data or its base model are not there or wrong.
        JobFailed: some adapters were not trained.
    """
    recipe = load_recipe(recipe_path, how.control)
    base_folder(recipe, recipe_path)
    data_folders(recipe, recipe_path)
    trained = trained_of(recipe, how.control)
    plans = [plan_named(recipe, name, recipe_path) for name in only] or list(trained)
    workers, threads = _share(how.workers, how.threads, len(plans))
    launch = Launch(
        recipe=recipe_path,
        out=out,
        threads=threads,
        resume=how.resume,
        retries=how.retries,
        control=how.control,
        gpus=_gpus(),
    )
    _CONSOLE.print(f"{len(plans)} adapters, {workers} at a time, {threads} threads each")
    with _Board() as board:
        results = run_plan(
            plans, launch, workers=workers, on_progress=board.progress, on_result=board.result
        )
    for result in results:
        scores = " ".join(f"{key}={value}" for key, value in sorted(result.scores.items()))
        typer.echo(f"{result.name}\t{result.status}\t{scores or result.message}")
    failed = tuple(r.name for r in results if r.status in ("failed", "not started"))
    if failed:
        raise JobFailed(failed)


def evaluate_recipe(  # noqa: PLR0913 - the command's options
    recipe_path: Path,
    out: Path,
    only: list[str],
    wanted: "Marking",
    *,
    as_json: bool,
    page: Path | None,
) -> None:
    """Mark trained adapters, write the marks into their cards and print them.

    page: where to write the HTML report, if anywhere.

    Raises:
        ConfigError: the recipe, its data or an adapter is not there or wrong.
    """
    from afx_train.evaluate import swaps
    from afx_train.marks import Marker

    if wanted.calibrate and wanted.split != "dev":
        raise RecipeError("--calibrate sets thresholds on dev data; add --split dev")
    marked = Marker(recipe_path, wanted)
    reports: list[AdapterReport] = []
    for report in marked.adapters(out, only):
        reports.append(report)
        if not as_json:
            typer.echo(f"{report.name}  {report.subtask}  {report.accuracy}")
            for label, marks in report.per_label.items():
                typer.echo(f"    {label:32} {marks}")
    joined = swaps(reports, single_set=len(marked.corpus.catalog) == 1)
    if as_json:
        typer.echo(json.dumps(_as_json(reports, joined), indent=2))
    elif joined is not None:
        typer.echo("whole calls, with stages replaced by the truth")
        for name, marks in named_shares(joined).items():
            typer.echo(f"    {name:32} {marks}")
    if page is not None:
        from afx_train.report import adapters_page

        text = adapters_page(reports, joined, out, corpus=marked.corpus, codec=marked.codec)
        write_text(page, text)


def check_folder(folder: Path, *, as_json: bool = False, page: Path | None = None) -> bool:
    """Print the report on a data folder. Returns whether it has no leaks and schema errors.

    page: where to write the pictures, if anywhere.
    """
    from afx_train.corpus import load_corpus
    from afx_train.data.check import as_json_text, as_text, check, picture

    corpus = load_corpus([folder])
    listed = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "tools").glob("*.json"))
    }
    report = check(corpus.trajectories, listed)
    typer.echo(as_json_text(report) if as_json else as_text(report))
    if page is not None:
        write_text(page, picture(report))
    return not report.problems


def score_predictions(
    cases: Path, predictions: Path, *, as_json: bool, errors: int, page: Path | None
) -> None:
    """Mark the predictions of `afx eval` and print the marks.

    Raises:
        DataError: a file is malformed, a case has no gold call or no prediction.
    """
    from afx_train.score import as_json_text, as_text, read_marks, summary

    marked = read_marks(cases, predictions)
    report = summary(marked)
    typer.echo(as_json_text(report) if as_json else as_text(report, errors=errors))
    if page is not None:
        from afx_train.report import predictions_page

        write_text(page, predictions_page(marked))


def write_text(path: Path, text: str) -> None:
    """Write a file by a temporary name and say so."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    _CONSOLE.print(f"{path} written")


def named_shares(joined: "Swaps") -> dict[str, "Share"]:
    """The marks of whole calls, in words."""
    return {
        "own stages": joined.own,
        "true tool set": joined.gold_set,
        "true tool": joined.gold_tool,
        "true arguments": joined.gold_arguments,
        "tool set alone": joined.own_set,
    }


def _as_json(reports: "Sequence[AdapterReport]", joined: "Swaps | None") -> dict[str, Any]:
    adapters = {
        f"{r.name}/{r.subtask}": {
            "split": r.split,
            "accuracy": asdict(r.accuracy),
            "per_label": {name: asdict(marks) for name, marks in r.per_label.items()},
        }
        for r in reports
    }
    return {"adapters": adapters, "calls": asdict(joined) if joined else None}


@contextmanager
def build_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar for `data build`."""
    with _bar(TextColumn("{task.description}"), MofNCompleteColumn()) as progress:
        task = progress.add_task("verified on the servers", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _share(workers: int, threads: int, jobs: int) -> tuple[int, int]:
    """Default: on a CPU one job a core with one thread each; otherwise one job a GPU."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    workers = workers or (len(_gpus()) if torch.cuda.is_available() else cores)
    workers = max(1, min(workers, jobs))
    return workers, threads or max(1, cores // workers)


def _gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return ()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    count = torch.cuda.device_count()
    return tuple(named[:count]) if named[0] else tuple(str(number) for number in range(count))


def _bar(*columns: ProgressColumn) -> Progress:
    interactive = sys.stderr.isatty()
    return Progress(BarColumn(), *columns, console=_CONSOLE, disable=not interactive)


class _Board:
    """One bar a running job; without a terminal, one line an epoch."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:.1f} ex/s"),
            TimeRemainingColumn(),
        )
        self._bars = _bar(*columns)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Board":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def progress(self, name: str, event: dict[str, Any]) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=None, loss=0.0, rate=0.0)
        self._bars.update(
            self._tasks[name],
            completed=event["step"],
            total=event["steps"],
            loss=event["loss"],
            rate=event["examples_per_s"],
        )
        if event["dev"] is not None:
            self._bars.console.print(
                f"{name}: epoch {event['epoch']}/{event['epochs']}, loss {event['loss']:.3f}, "
                f"dev {event['dev']:.1%}, {event['examples_per_s']:.1f} examples/s"
            )

    def result(self, result: JobResult) -> None:
        if (task := self._tasks.pop(result.name, None)) is not None:
            self._bars.remove_task(task)
        detail = f": {result.message}" if result.message else ""
        self._bars.console.print(f"{result.name}: {result.status}{detail}")
