"""What the commands do with a terminal: progress bars and tables around the workers."""

import json
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
from afx_train.corpus import load_corpus
from afx_train.errors import JobFailed, RecipeError
from afx_train.job import plan_named
from afx_train.jobs import JobResult, Launch
from afx_train.places import On, workplace
from afx_train.recipe import base_folder, data_folders, read_recipe
from afx_train.tracking import tracking

if TYPE_CHECKING:
    from afx_train.controls import Control
    from afx_train.evaluate import AdapterReport, Swaps
    from afx_train.marks import Marking
    from afx_train.refusals import Criterion
    from afx_train.score import Share

_CONSOLE = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How jobs are run. workers, threads: 0 for what suits the place. log_to: see `tracking`."""

    on: On = "here"
    log_to: str = ""
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
    chosen = dict.fromkeys(only)
    plans = [plan_named(recipe, name, recipe_path) for name in chosen] or list(trained)
    with (
        workplace(how.on, out.resolve(), how.workers, how.threads, len(plans)) as place,
        tracking(how.log_to, run=_run_name(recipe_path), warn=_CONSOLE.print) as tracker,
        _Board() as board,
    ):
        _CONSOLE.print(f"{len(plans)} adapters, {place}")
        launch = Launch(
            recipe=recipe_path.resolve(),
            out=out.resolve(),
            threads=place.threads,
            resume=how.resume,
            retries=how.retries,
            control=how.control,
            gpus=place.gpus,
        )

        def on_progress(name: str, event: dict[str, Any]) -> None:
            board.progress(name, event)
            tracker.progress(name, event)

        def on_result(result: JobResult) -> None:
            board.result(result)
            tracker.result(result)

        results = place.run(plans, launch, on_progress=on_progress, on_result=on_result)
    if place.reports:
        _report(results)


def _run_name(recipe: Path) -> str:
    """The folder and the file's name: what an experiment is called elsewhere."""
    path = recipe.resolve()
    return f"{path.parent.name}/{path.stem}"


def _report(results: "Sequence[JobResult]") -> None:
    """Print a line an adapter. Raises JobFailed."""
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
        raise RecipeError("thresholds are set on dev data; add --split dev to --calibrate")
    marked = Marker(recipe_path, wanted)
    reports: list[AdapterReport] = []
    for report in marked.adapters(out, only):
        reports.append(report)
        if not as_json:
            typer.echo(f"{report.name}  {report.subtask}  {report.accuracy}")
            for label, marks in report.per_label.items():
                typer.echo(f"    {label:32} {marks}")
            for name, value in _refusals(report).items():
                typer.echo(f"    {name:32} {value:.1%}")
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
    report = check(corpus.trajectories, corpus.listed())
    typer.echo(as_json_text(report) if as_json else as_text(report))
    if page is not None:
        write_text(page, picture(report))
    return not report.problems


def score_predictions(  # noqa: PLR0913 - the command's options
    cases: Path,
    predictions: Path,
    *,
    as_json: bool,
    errors: int,
    page: Path | None,
    trained_on: Path | None = None,
) -> None:
    """Mark the predictions of `afx eval` and print the marks.

    trained_on: the data folder whose training split tells which tools and servers were unseen.

    Raises:
        DataError: a file is malformed, a case has no gold call or no prediction.
    """
    from afx_train.corpus import load_corpus
    from afx_train.score import as_json_text, as_text, read_marks, summary

    marked = read_marks(cases, predictions)
    known = load_corpus([trained_on]).trajectories if trained_on else ()
    seen = {(s.tool_set, s.tool) for t in known if t.split == "train" for s in t.steps}
    report = summary(marked, seen)
    typer.echo(as_json_text(report) if as_json else as_text(report, errors=errors))
    if page is not None:
        from afx_train.report import predictions_page

        write_text(page, predictions_page(report, marked))


def set_refusals(adapters: Path, cases: Path, predictions: Path, criterion: "Criterion") -> None:
    """Set the cards' thresholds by what a bundle answered, and print what they do.

    Raises:
        ConfigError: a file is malformed, or no adapter of the folder decided anything.
    """
    from afx_train.refusals import device_decisions, refuse_in_cards
    from afx_train.score import read_marks

    decided = device_decisions(read_marks(cases, predictions))
    for name, (best, before) in refuse_in_cards(adapters, decided, criterion).items():
        typer.echo(
            f"{name}\tmin_probability {best.threshold:.4f}\tn={best.count}"
            f"\tright {before.right} -> {best.right}"
            f"\trefusals: precision {before.precision:.1%} -> {best.precision:.1%}, "
            f"recall {before.recall:.1%} -> {best.recall:.1%}"
        )


def write_text(path: Path, text: str) -> None:
    """Write a file by a temporary name and say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
            **_refusals(r),
        }
        for r in reports
    }
    return {"adapters": adapters, "calls": asdict(joined) if joined else None}


def _refusals(report: "AdapterReport") -> dict[str, float]:
    """How well an adapter says no, without a threshold; nothing where it writes arguments."""
    from afx_train.evaluate import decisions
    from afx_train.refusals import refusals

    made = decisions(report.verdicts)
    found = refusals(made, 0.0)
    return (
        {"abstention_precision": found.precision, "abstention_recall": found.recall} if made else {}
    )


@contextmanager
def build_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar for `data build`."""
    with _bar(TextColumn("{task.description}"), MofNCompleteColumn()) as progress:
        task = progress.add_task("verified on the servers", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


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
        place = f" on node {result.place}" if result.place else ""
        self._bars.console.print(f"{result.name}: {result.status}{place}{detail}")


def learn_intents(recipe_path: Path, out: Path) -> str:
    """Train and write the intent classifiers of a recipe's data; return a line about them.

    Where the recipe's adapters are named for tool sets, the data where these are offered counts.
    """
    from afx_train.intents import train_intents

    recipe = read_recipe(recipe_path)
    corpus = load_corpus(data_folders(recipe, recipe_path))
    own = {plan.tool_set for plan in recipe.adapters if plan.tool_set}
    base = base_folder(recipe, recipe_path)
    learned = train_intents(corpus.offering(own) if own else corpus, base, seed=recipe.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    learned.intents.save(out)
    return (
        f"{out}: {len(learned.intents.labels)} labels from {learned.learned} requests; "
        f"{learned.right} of {learned.asked} dev requests right, "
        f"{learned.right_later} of {learned.asked_later} after a call"
    )


def learn_retriever(recipe_path: Path, out: Path) -> str:
    """Train and write the bi-encoder of a recipe's data; return a line about it."""
    from afx_train.retriever import train_retriever

    recipe = read_recipe(recipe_path)
    corpus = load_corpus(data_folders(recipe, recipe_path)).whole()
    learned = train_retriever(
        corpus,
        base_folder(recipe, recipe_path),
        seed=recipe.seed,
        one_catalog=recipe.examples.sets_offered,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    learned.encoder.save(out)
    return (
        f"{out}: {len(learned.encoder.vocabulary)} words from {learned.learned} requests; within "
        f"their set, the tools of {learned.right} of {learned.asked} dev requests come first; of "
        f"{learned.given.examples} optional parameters {learned.given.sure} are surely told, "
        f"{learned.given.right} of these rightly"
    )
