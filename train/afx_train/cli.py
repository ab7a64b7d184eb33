"""`afx-train`: data, training, evaluation."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from agentflux.errors import AgentFluxError, ConfigError, MissingExtra

USAGE, NO_EXTRA, BAD_INPUT, FAILED_CHECK = 2, 3, 4, 5

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""Train decoupled LoRA adapters for tool calling: one that routes to a tool set, one
selector a tool set, argument adapters.

1. afx-train data build      phrasings → verified trajectories
2. afx-train run RECIPE      trajectories → adapters
3. afx-train cases, score    held-out cases for `afx eval`, and the marks of its predictions
""",
)
data_app = typer.Typer(no_args_is_help=True, help="Build and check training data.")
app.add_typer(data_app, name="data")

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a TOML file.", show_default=False)]


@app.command()
def run(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option(help="Folder of the adapters.")] = Path("adapters"),
    only: Annotated[
        list[str] | None, typer.Option(help="Train this adapter only; may be repeated.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last finished epoch of each job.")
    ] = False,
    workers: Annotated[
        int, typer.Option(help="Jobs at a time; 0: one a core, one on a GPU.", min=0)
    ] = 0,
    threads: Annotated[int, typer.Option(help="Threads a job; 0: cores / workers.", min=0)] = 0,
) -> None:
    """Train the adapters of a recipe, each in a process of its own.

    An adapter that is there already, from the same recipe and data, is skipped. A job that fails
    is reported and the others go on.
    """
    from afx_train.runs import run_recipe

    run_recipe(recipe, out, only or [], resume=resume, workers=workers, threads=threads)


@data_app.command("build")
def data_build(
    grammars: Annotated[Path, typer.Option(help="Folder of phrasing files.")],
    worlds: Annotated[Path, typer.Option(help="Python module or package of the scratch worlds.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("data"),
    tools: Annotated[
        Path | None, typer.Option(help="tools/list files that the running servers must match.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    per_phrasing: Annotated[float, typer.Option(help="Requests made of each phrasing.")] = 1.25,
    only: Annotated[
        list[str] | None, typer.Option(help="Only this tool set; may be repeated.")
    ] = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="A tool set or set.tool kept for the test split.")
    ] = None,
) -> None:
    """Fill phrasings, run every call on the real servers, write the data and its report."""
    from afx_train.data.build import build_dataset
    from afx_train.data.check import as_text
    from afx_train.runs import build_progress

    with build_progress() as progress:
        report = build_dataset(
            grammars,
            worlds,
            tools,
            out,
            seed=seed,
            per_phrasing=per_phrasing,
            only=only or (),
            held_out=held_out or (),
            progress=progress,
        )
    print(as_text(report))


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help="A data folder.", show_default=False)],
) -> None:
    """Report counts, balance, leakage between splits, schema errors and unfounded values."""
    from afx_train.runs import check_folder

    if not check_folder(folder):
        raise typer.Exit(FAILED_CHECK)


@app.command()
def cases(
    data: Annotated[Path, typer.Option(help="A data folder.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    final: Annotated[
        bool, typer.Option("--final/--no-final", help="Cases after the last call too (finish).")
    ] = True,
) -> None:
    """Write evaluation cases for `afx eval`, each with its gold call."""
    from afx_train.cases import write_cases

    count = write_cases(data, split, out, final=final)
    print(f"{count} cases in {out}", file=sys.stderr)


@app.command()
def score(
    cases: Annotated[Path, typer.Option(help="Cases with gold calls.")],
    predictions: Annotated[Path, typer.Option(help="What `afx eval` wrote for them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    errors: Annotated[int, typer.Option(help="Print so many wrong predictions.", min=0)] = 20,
) -> None:
    """Mark the predictions of `afx eval`: tool set, tool and call accuracy with 95 % intervals."""
    from afx_train.score import as_json_text, as_text, score_files

    report = score_files(cases, predictions)
    print(as_json_text(report) if as_json else as_text(report, errors=errors))


@app.command()
def evaluate(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option(help="Folder of the adapters.")] = Path("adapters"),
    split: Annotated[str, typer.Option(help="dev or test.")] = "test",
    only: Annotated[
        list[str] | None, typer.Option(help="Evaluate this adapter only; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Examples an adapter; 0: all.", min=0)] = 0,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Set each card's abstention threshold (dev).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Mark each adapter alone in torch: names by their probability, arguments exactly."""
    from afx_train.marks import Marking
    from afx_train.runs import evaluate_recipe

    wanted = Marking(split=split, limit=limit, calibrate=calibrate)
    evaluate_recipe(recipe, out, only or [], wanted, as_json=as_json)


def main() -> None:
    """Entry point: every error of ours becomes one line and an exit code."""
    try:
        app()
    except MissingExtra as error:
        _fail(str(error), NO_EXTRA)
    except ConfigError as error:
        _fail(str(error), BAD_INPUT)
    except AgentFluxError as error:
        _fail(str(error), FAILED_CHECK)
    except ImportError as error:
        missing = MissingExtra(error.name or str(error), extra="train")
        _fail(str(missing), NO_EXTRA)


def _fail(message: str, code: int) -> None:
    print(f"afx-train: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
