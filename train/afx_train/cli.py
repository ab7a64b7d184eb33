"""`afx-train`: data, training, evaluation."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from agentflux.errors import AgentFluxError, ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from afx_train.controls import Control
    from afx_train.places import On
    from afx_train.refusals import Criterion

Name = TypeVar("Name", bound=str)

USAGE, NO_EXTRA, BAD_INPUT, FAILED_CHECK = 2, 3, 4, 5

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="""Train decoupled LoRA adapters for tool calling: one that routes to a tool set, one
selector a tool set, argument adapters.

1. afx-train init            a recipe from an MCP configuration
2. afx-train data build      phrasings → verified trajectories (or: data import, data teach)
3. afx-train run RECIPE      trajectories → adapters (or: ablate, with controls)
4. afx-train evaluate        marks of the adapters, and a report
5. afx-train cases, score    held-out cases for `afx eval`, and the marks of its predictions
6. afx-train calibrate       thresholds for saying no, by what a bundle answered on dev cases
7. afx-train intents         a second opinion by words, exported beside the adapters
8. afx-train retriever       the same for tools that no adapter was trained for
""",
)
data_app = typer.Typer(no_args_is_help=True, help="Build and check training data.")
app.add_typer(data_app, name="data")

Workers = Annotated[int, typer.Option(help="Jobs at a time; 0: one a core, or one a GPU.", min=0)]
Threads = Annotated[int, typer.Option(help="Threads a job; 0: cores / workers.", min=0)]
PlaceName = Annotated[
    str,
    typer.Option(
        "--on",
        help="here, or ray: one job an adapter on the cluster of RAY_ADDRESS. Under `accelerate "
        "launch` each process takes jobs for its device.",
    ),
]
LogTo = Annotated[
    str,
    typer.Option(
        metavar="KIND:PLACE",
        help="Losses and dev accuracy to tensorboard:FOLDER or mlflow:TRACKING_URI.",
    ),
]
ControlName = Annotated[
    str | None,
    typer.Option(
        help="joint, matched, prompt, request, instruction, steps, or one of the first three with "
        "-steps behind it: see `ablate`."
    ),
]
CriterionName = Annotated[
    str,
    typer.Option(help="right: most right choices. f1: of refusing; refuses more."),
]
PagePath = Annotated[Path | None, typer.Option("--report", help="Write an HTML report here.")]
RecipePath = Annotated[Path, typer.Argument(help="The recipe, a TOML file.", show_default=False)]


@app.command()
def init(
    mcp: Annotated[Path, typer.Option(help="An `mcpServers` JSON file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("recipe.toml"),
    model: Annotated[
        str, typer.Option(help="A Hugging Face folder or a catalogue name.")
    ] = "smollm2-135m-instruct",
    size: Annotated[str, typer.Option(help="small (0.1 to 1 billion parameters) or 7b.")] = "small",
    granularity: Annotated[
        str, typer.Option(help="Argument adapters: per_tool_set, per_tool, shared, shared+delta.")
    ] = "per_tool_set",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing recipe.")] = False,
) -> None:
    """Ask the running servers for their tools and write a commented recipe.

    Beside the recipe, data/tools gets one file a tool set; `data` commands read them.
    """
    from afx_train.starter import ask, write_starter

    written = write_starter(
        out, ask(mcp), model=model, size=size, granularity=granularity, force=force
    )
    print("\n".join(written))


@app.command()
def run(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option(help="Folder of the adapters.")] = Path("adapters"),
    only: Annotated[
        list[str] | None, typer.Option(help="Train this adapter only; may be repeated.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from each job's last checkpoint.")
    ] = False,
    workers: Workers = 0,
    threads: Threads = 0,
    retries: Annotated[
        int, typer.Option(help="How often a job whose process died is taken up again.", min=0)
    ] = 1,
    control: ControlName = None,
    on: PlaceName = "here",
    log_to: LogTo = "",
) -> None:
    """Train the adapters of a recipe, each in a process of its own.

    An adapter that is there already, from the same recipe and data, is skipped. A job that fails
    is reported and the others go on.
    """
    from afx_train.runs import Running, run_recipe

    how = Running(
        on=_place(on),
        log_to=log_to,
        resume=resume,
        workers=workers,
        threads=threads,
        retries=retries,
        control=_control(control),
    )
    run_recipe(recipe, out, only or [], how)


@app.command()
def ablate(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option(help="Folder; each row gets one in it.")] = Path("ablation"),
    row: Annotated[
        list[str] | None,
        typer.Option(
            help="base, joint, matched, decoupled (the default), prompt, request, instruction; "
            "may be repeated."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="dev or test.")] = "test",
    limit: Annotated[int, typer.Option(help="Trajectories to mark; 0: all.", min=0)] = 0,
    workers: Workers = 0,
    threads: Threads = 0,
    on: PlaceName = "here",
    log_to: LogTo = "",
) -> None:
    """Train a recipe's controls with the same data and steps, and mark whole calls of each.

    base: no adapter. joint: one adapter for all subtasks. matched: the same with as many
    parameters as the decoupled adapters together. prompt: ordinary LoRA over the whole prompt.
    request, instruction: activated LoRA from that boundary on. steps: the decoupled adapters in
    smaller batches, so that each makes as many steps as joint; joint-steps, matched-steps,
    prompt-steps: those in batches as small. Goes on where it was stopped.
    """
    from afx_train.ablation import DEFAULT_ROWS
    from afx_train.ablation import ablate as train_and_mark
    from afx_train.marks import Marking
    from afx_train.runs import Running

    how = Running(on=_place(on), log_to=log_to, workers=workers, threads=threads)
    wanted = Marking(split=split, limit=limit)
    train_and_mark(recipe, out, row or DEFAULT_ROWS, how, wanted)


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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    page: Annotated[
        Path | None, typer.Option("--picture", help="Write length histograms here (HTML).")
    ] = None,
) -> None:
    """Report counts, balance, leakage between splits, schema errors and unfounded values."""
    from afx_train.runs import check_folder

    if not check_folder(folder, as_json=as_json, page=page):
        raise typer.Exit(FAILED_CHECK)


@data_app.command("phrasings")
def data_phrasings(
    folder: Annotated[Path, typer.Argument(help="Folder of phrasing files.", show_default=False)],
    least: Annotated[int, typer.Option(help="Phrasings that each tool needs.", min=1)] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check hand-written phrasings: enough a tool, none nearly alike, none copied across tools."""
    from afx_train.data.grammar import load_phrasings
    from afx_train.data.variety import as_json_text, as_text, check_variety

    report = check_variety(load_phrasings(folder), least=least)
    print(as_json_text(report) if as_json else as_text(report))
    if report.problems:
        raise typer.Exit(FAILED_CHECK)


@data_app.command("import")
def data_import(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="servers (written by hand), xlam, bfcl, seal-tools, toolace, hwu64, clinc150 "
            "or snips.",
            show_default=False,
        ),
    ],
    source: Annotated[Path, typer.Argument(help="File or folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("data"),
    answers: Annotated[Path | None, typer.Option(help="BFCL's accepted answers.")] = None,
    limit: Annotated[
        int, typer.Option(help="At most so many rows, drawn at random; 0: all.", min=0)
    ] = 0,
) -> None:
    """Convert a public data set. Nothing of it was executed; what breaks a schema is dropped."""
    from afx_train.data.check import as_text
    from afx_train.data.imports import import_folder

    print(as_text(import_folder(form, source, out, answers=answers, limit=limit)))


@data_app.command("parts")
def data_parts(
    source: Annotated[Path, typer.Argument(help="A data folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    most: Annotated[int, typer.Option(help="Tools of a part at most.", min=1)] = 4,
    beside: Annotated[
        float,
        typer.Option(help="Share of its sisters' requests that a part meets.", min=0, max=1),
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
) -> None:
    """Cut tool sets into small ones, which lack the right tool for much that is asked."""
    from afx_train.data.check import as_text
    from afx_train.data.parts import Cut, cut_folder

    print(as_text(cut_folder(source, out, Cut(most=most, beside=beside, seed=seed))))


@data_app.command("teach")
def data_teach(
    data: Annotated[Path, typer.Argument(help="A data folder; it gets taught.jsonl.")],
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible URL, with /v1.")],
    model: Annotated[str, typer.Option(help="The model's name there.")],
    key: Annotated[str, typer.Option(help="API key.", envvar="OPENAI_API_KEY")] = "",
    count: Annotated[int, typer.Option(help="Rewordings a request and level.", min=1)] = 2,
    limit: Annotated[int, typer.Option(help="Requests to reword; 0: all.", min=0)] = 100,
    new: Annotated[int, typer.Option(help="New requests to ask for.", min=0)] = 0,
    grammars: Annotated[Path | None, typer.Option(help="For --new: phrasing files.")] = None,
    worlds: Annotated[Path | None, typer.Option(help="For --new: the scratch worlds.")] = None,
    seed: Annotated[int, typer.Option(help="Chooses the requests.")] = 0,
    per_minute: Annotated[float, typer.Option(help="Questions at most; 0: no limit.")] = 60.0,
    price_in: Annotated[float, typer.Option(help="US dollars a million tokens asked.")] = 0.0,
    price_out: Annotated[float, typer.Option(help="US dollars a million answered.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate the cost.")] = False,
) -> None:
    """Let a teacher reword training requests at three levels of difficulty, and write new ones.

    Rewordings must keep every value; new requests' calls must fit the schema and succeed on the
    real servers. Answers are kept in the cache folder: a second run asks for nothing twice.
    """
    from afx_train.data.check import as_text
    from afx_train.data.endpoint import Endpoint, Teacher
    from afx_train.data.lessons import Lesson, estimated_cost, lesson_items, teach
    from agentflux.contracts.cache import cache_folder

    place = Endpoint(
        url=endpoint,
        model=model,
        key=key,
        per_minute=per_minute,
        price_in=price_in,
        price_out=price_out,
    )
    teacher = Teacher(place, cache_folder() / "teacher")
    items = lesson_items(data, limit=limit, seed=seed)
    dollars = estimated_cost(teacher, items, count=count)
    print(f"{len(items)} requests to reword, about ${dollars:.2f}", file=sys.stderr)
    if dry_run:
        return
    lesson = Lesson(count=count, new=new, grammars=grammars, worlds=worlds, seed=seed)
    report, _ = teach(data, teacher, items, lesson)
    spent = teacher.spent
    print(
        f"{spent.requests} questions asked, {spent.cached} answers from the cache, "
        f"{spent.retries} retries, ${teacher.cost:.2f}",
        file=sys.stderr,
    )
    print(as_text(report))


@data_app.command("schema")
def data_schema() -> None:
    """Print the JSON Schema of a line of train.jsonl, dev.jsonl and test.jsonl."""
    from afx_train.trajectory import schema_text

    print(schema_text(), end="")


@app.command()
def cases(
    data: Annotated[Path, typer.Option(help="A data folder.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    final: Annotated[
        bool, typer.Option("--final/--no-final", help="Cases after the last call too (finish).")
    ] = True,
    sample: Annotated[int, typer.Option(help="So many, drawn at random; 0: all.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 1,
) -> None:
    """Write evaluation cases for `afx eval`, each with its gold call."""
    from afx_train.cases import write_cases

    count = write_cases(data, split, out, final=final, sample=sample, seed=seed)
    print(f"{count} cases in {out}", file=sys.stderr)


@app.command()
def score(
    cases: Annotated[Path, typer.Option(help="Cases with gold calls.")],
    predictions: Annotated[Path, typer.Option(help="What `afx eval` wrote for them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    errors: Annotated[int, typer.Option(help="Print so many wrong predictions.", min=0)] = 20,
    trained_on: Annotated[
        Path | None, typer.Option(help="Data folder: marks apart for tools and servers not in it.")
    ] = None,
    page: PagePath = None,
) -> None:
    """Mark the predictions of `afx eval`: tool set, tool and call accuracy with 95 % intervals."""
    from afx_train.runs import score_predictions

    score_predictions(
        cases, predictions, as_json=as_json, errors=errors, page=page, trained_on=trained_on
    )


@app.command()
def intents(
    recipe: RecipePath,
    out: Annotated[
        Path, typer.Option(help="File to write; `afx-export` looks for this name.")
    ] = Path("adapters/intents.npz"),
) -> None:
    """Train classifiers of requests and of what is left after a call; minutes for 50,000.

    They are those of the recipe's data folders; where its adapters are named for tool sets, of the
    folders that offer these.

    `afx-export build --adapters FOLDER` takes FOLDER/intents.npz along. On a device it has a say
    beside the router and the selectors, where it knows tools that are connected.
    """
    from afx_train.runs import learn_intents

    print(learn_intents(recipe, out), file=sys.stderr)


@app.command()
def retriever(
    recipe: RecipePath,
    out: Annotated[
        Path, typer.Option(help="File to write; `afx-export` looks for this name.")
    ] = Path("adapters/retriever.npz"),
) -> None:
    """Train a bi-encoder of requests and tools on the recipe's data, of many servers; minutes.

    It learns which optional parameters requests give, too. `afx-export build --adapters FOLDER`
    takes FOLDER/retriever.npz along. On a device it has a say where no adapter was trained for the
    tools.
    """
    from afx_train.runs import learn_retriever

    print(learn_retriever(recipe, out), file=sys.stderr)


@app.command()
def calibrate(
    cases: Annotated[Path, typer.Option(help="Cases of the dev split, with gold calls.")],
    predictions: Annotated[Path, typer.Option(help="What `afx eval` wrote for them.")],
    adapters: Annotated[Path, typer.Option(help="Folder of the adapters whose cards change.")],
    refuse: Annotated[
        str,
        typer.Option(
            help="Instead: under which probability each adapter's choice is refused, so that most "
            "choices are `right`, or for the best `f1` of refusing."
        ),
    ] = "",
) -> None:
    """Find how probable `none` must be before the router or a selector abstains.

    Build the bundle again afterwards: the thresholds travel in its manifest.
    """
    from afx_train.calibrate import calibrate as find
    from afx_train.runs import set_refusals

    if refuse:
        set_refusals(adapters, cases, predictions, _criterion(refuse))
        return

    for subtask, found in find(cases, predictions, adapters).items():
        print(
            f"{subtask}: none from {found.min_none:.2f} on; {found.right} of {found.doubts} "
            f"doubts decided right (always none: {found.right_before})"
        )


@app.command()
def evaluate(
    recipe: RecipePath,
    out: Annotated[Path, typer.Option(help="Folder of the adapters.")] = Path("adapters"),
    split: Annotated[str, typer.Option(help="dev or test.")] = "test",
    only: Annotated[
        list[str] | None, typer.Option(help="Evaluate this adapter only; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Trajectories to mark; 0: all.", min=0)] = 0,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Set each card's abstention threshold (dev).")
    ] = False,
    criterion: CriterionName = "right",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    page: PagePath = None,
    control: ControlName = None,
) -> None:
    """Mark adapters in torch: names by their probability, arguments exactly, whole calls.

    Whole calls also with stages replaced by the truth, which tells where the errors come from.
    """
    from afx_train.marks import Marking
    from afx_train.runs import evaluate_recipe

    wanted = Marking(
        split=split,
        limit=limit,
        calibrate=_criterion(criterion) if calibrate else None,
        control=_control(control),
    )
    evaluate_recipe(recipe, out, only or [], wanted, as_json=as_json, page=page)


def _criterion(name: str) -> "Criterion":
    from afx_train.refusals import CRITERIA

    return _one_of(CRITERIA, name, f"criterion {name!r}")


def _place(name: str) -> "On":
    from afx_train.places import PLACES

    return _one_of(PLACES, name, f"place {name!r} to run on")


def _control(name: str | None) -> "Control | None":
    from afx_train.controls import CONTROLS

    return None if name is None else _one_of(CONTROLS, name, f"control {name!r}")


def _one_of(known: "Sequence[Name]", name: str, what: str) -> Name:
    from afx_train.errors import RecipeError

    for one in known:
        if name == one:
            return one
    raise RecipeError(f"no {what}; there are {', '.join(known)}")


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
    except OSError as error:  # a path of the command line that cannot be read or written
        _fail(str(error), BAD_INPUT)
    except ImportError as error:
        missing = MissingExtra(error.name or str(error), extra="train")
        _fail(str(missing), NO_EXTRA)


def _fail(message: str, code: int) -> None:
    print(f"afx-train: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
