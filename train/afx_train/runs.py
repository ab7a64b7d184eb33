"""What the commands do with a terminal: progress bars and tables around the workers."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
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

from afx_train.errors import JobFailed, RecipeError
from afx_train.job import plan_named
from afx_train.jobs import JobResult, Launch, run_plan
from afx_train.recipe import base_folder, data_folders, read_recipe

if TYPE_CHECKING:
    from afx_train.evaluate import AdapterReport
    from afx_train.marks import Marking

_CONSOLE = Console(stderr=True, highlight=False)


def run_recipe(
    recipe_path: Path, out: Path, only: list[str], *, resume: bool, workers: int, threads: int
) -> None:
    """Run a recipe's jobs and show how they go.

    Raises:
        ConfigError: the recipe, its data or its base model are not there or wrong.
        JobFailed: some adapters were not trained.
    """
    recipe = read_recipe(recipe_path)
    base_folder(recipe, recipe_path)
    data_folders(recipe, recipe_path)
    plans = [plan_named(recipe, name, recipe_path) for name in only] or list(recipe.adapters)
    workers, threads = _share(workers, threads, len(plans))
    launch = Launch(recipe=recipe_path, out=out, threads=threads, resume=resume)
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


def evaluate_recipe(
    recipe_path: Path, out: Path, only: list[str], wanted: "Marking", *, as_json: bool
) -> None:
    """Mark trained adapters, write the marks into their cards and print them.

    Raises:
        ConfigError: the recipe, its data or an adapter is not there or wrong.
    """
    from afx_train.marks import mark_adapters

    if wanted.calibrate and wanted.split != "dev":
        raise RecipeError("--calibrate sets thresholds on dev data; add --split dev")
    reports = []
    for report in mark_adapters(recipe_path, out, only, wanted):
        reports.append(report)
        if not as_json:
            typer.echo(f"{report.name}  {report.accuracy}")
            for label, marks in report.per_label.items():
                typer.echo(f"    {label:32} {marks}")
    if as_json:
        typer.echo(json.dumps({r.name: _as_json(r) for r in reports}, indent=2))


def check_folder(folder: Path) -> bool:
    """Print the report on a data folder. Returns whether it has no leaks and schema errors."""
    from afx_train.corpus import load_corpus
    from afx_train.data.check import as_text, check

    corpus = load_corpus([folder])
    listed = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "tools").glob("*.json"))
    }
    report = check(corpus.trajectories, listed)
    typer.echo(as_text(report))
    return not report.problems


def _as_json(report: "AdapterReport") -> dict[str, Any]:
    return {
        "split": report.split,
        "accuracy": asdict(report.accuracy),
        "per_label": {name: asdict(marks) for name, marks in report.per_label.items()},
    }


@contextmanager
def build_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar for `data build`."""
    with _bar(TextColumn("{task.description}"), MofNCompleteColumn()) as progress:
        task = progress.add_task("verified on the servers", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _share(workers: int, threads: int, jobs: int) -> tuple[int, int]:
    """Default: on a CPU one job a core with one thread each; one job at a time on a GPU."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    workers = workers or (1 if torch.cuda.is_available() else cores)
    workers = max(1, min(workers, jobs))
    return workers, threads or max(1, cores // workers)


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
