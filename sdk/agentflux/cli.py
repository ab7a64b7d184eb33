"""`afx`: run, evaluate and inspect bundles, and the machine that shall run them.

Exit codes: 0 done, 2 wrong usage, 3 a missing extra, 4 bad input, 5 a check that failed.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from agentflux.contracts.tools import ToolCall, ToolSpec
    from agentflux.session import Agent

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run small local models that call tools, from an AgentFlux bundle.",
    epilog="Make a bundle with afx-export, train its adapters with afx-train.",
)

BundleArgument = Annotated[Path, typer.Argument(help="Folder written by `afx-export build`.")]
PolicyOption = Annotated[
    Path | None, typer.Option(help="TOML of calls to allow, deny or ask about.")
]
PinsOption = Annotated[
    Path | None, typer.Option(help="JSON that remembers what each tool looked like.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(help="Threads of the model; default: the bundle's, or one a core.", min=1),
]


TrustOption = Annotated[
    Path | None,
    typer.Option(
        help="Public key (PEM): open only a bundle that was signed with its private half."
    ),
]


@app.command()
def run(
    bundle: BundleArgument,
    request: Annotated[str, typer.Argument(help="What to do, in plain words.")],
    mcp: Annotated[
        Path | None, typer.Option(help="mcpServers JSON, as desktop MCP clients use it.")
    ] = None,
    context: Annotated[
        str, typer.Option(help="Text shown to the model before the request (workspace root, …).")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Approve every call.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: steps, answer, stopped, trace.")
    ] = False,
    policy: PolicyOption = None,
    pins: PinsOption = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="Record the run here; the same file goes on with a run that was killed."),
    ] = None,
    save_trace: Annotated[Path | None, typer.Option(help="Save the same JSON to a file.")] = None,
    threads: ThreadsOption = None,
    trust: TrustOption = None,
) -> None:
    """Serve one request with the tools of your MCP servers.

    Calls that change something are asked for on the terminal, unless --yes.

        afx run desk-bundle --mcp servers.json "which files are in docs?"
    """
    from agentflux.orchestration.approval import Approve
    from agentflux.report import StagePrinter
    from agentflux.session import open_bundle

    printer = StagePrinter(sys.stderr, stream=None if as_json else sys.stdout)
    approve: Approve = "all" if yes else _ask_on_terminal
    with open_bundle(
        bundle,
        mcp=mcp,
        approve=approve,
        policy=policy,
        pins=pins,
        threads=threads,
        trust=trust,
    ) as agent:
        _tell_held(agent)
        result = agent.run(request, context=context, on_event=printer, journal=journal)
    if save_trace is not None:
        save_trace.write_text(result.to_json() + "\n", encoding="utf-8")
    if as_json:
        sys.stdout.write(result.to_json() + "\n")
    else:
        sys.stdout.write("\n")
        printer.summary(result)


@app.command()
def chat(
    bundle: BundleArgument,
    mcp: Annotated[
        Path | None, typer.Option(help="mcpServers JSON, as desktop MCP clients use it.")
    ] = None,
    context: Annotated[str, typer.Option(help="Text shown to the model before each request.")] = "",
    policy: PolicyOption = None,
    pins: PinsOption = None,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Run the native runtime in its own process.")
    ] = False,
    threads: ThreadsOption = None,
    trust: TrustOption = None,
) -> None:
    """Talk to the agent on the terminal; every call that does not only read is asked for.

    afx chat desk-bundle --mcp servers.json
    """
    from agentflux.conversation import Conversation
    from agentflux.session import open_bundle

    isolation: Literal["none", "process"] = "process" if isolated else "none"
    with open_bundle(
        bundle,
        mcp=mcp,
        policy=policy,
        pins=pins,
        threads=threads,
        isolation=isolation,
        trust=trust,
    ) as agent:
        _tell_held(agent)
        agent.warm_up()
        Conversation(agent, input, sys.stderr, sys.stdout).hold(context=context)


@app.command()
def inspect(
    bundle: BundleArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
    check: Annotated[bool, typer.Option(help="Also compare every file with its SHA-256.")] = True,
    trust: TrustOption = None,
) -> None:
    """Show what a bundle holds: base model, profile, adapters, certificate."""
    from agentflux.contracts.bundle import check_files, read_manifest
    from agentflux.contracts.signature import check_signature
    from agentflux.report import manifest_table

    if trust is not None:
        check_signature(bundle, trust)
    manifest = read_manifest(bundle)
    if check:
        check_files(manifest, bundle)
    sys.stdout.write(manifest.to_json() if as_json else manifest_table(manifest))


@app.command()
def profiles(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or .toml files; one alone is shown in full.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every field as JSON.")] = False,
) -> None:
    """List the device profiles, or show yours as it is after inheritance."""
    from afx_profiles import ProfileError, describe_profiles
    from agentflux.errors import ConfigError

    try:
        sys.stdout.write(describe_profiles(names or (), as_json=as_json))
    except ProfileError as error:
        raise ConfigError(str(error)) from error


@app.command("eval")
def evaluate(
    bundle: BundleArgument,
    tools: Annotated[
        Path, typer.Option(help="Folder of <tool_set>.json files: JSON lists of MCP tools.")
    ],
    cases: Annotated[Path, typer.Option(help="JSONL: id, query, and optional context, history.")],
    out: Annotated[Path, typer.Option(help="Where to write the predictions (JSONL).")],
    limit: Annotated[int | None, typer.Option(help="Only the first N cases.", min=1)] = None,
    threads: ThreadsOption = None,
) -> None:
    """Decide the next call for each case, without any server.

    A case that fails gets an "error" in its line; the others go on.
    """
    from agentflux.evaluation import evaluate_cases

    failed, total = evaluate_cases(
        bundle, tools=tools, cases=cases, out=out, limit=limit, threads=threads
    )
    sys.stderr.write(f"{total} cases, {failed} with an error, predictions in {out}\n")


@app.command()
def doctor(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="A bundle to run; default: one of the cache, or a tiny one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what this machine can run, prove it by a short run, and how to mend what is missing.

    Exit code 0 when some profile works and no packages conflict, else 5.
    """
    from agentflux.doctor import diagnose, render

    found = diagnose(bundle)
    sys.stdout.write(found.to_json() + "\n" if as_json else render(found))
    if not found.healthy:
        raise typer.Exit(5)


@app.command()
def bench(
    bundles: Annotated[
        list[Path],
        typer.Argument(help="Folder written by `afx-export build`; several with --tune."),
    ],
    calls: Annotated[int, typer.Option(help="Calls to decide.", min=1)] = 24,
    tools: Annotated[
        Path | None, typer.Option(help="Folder of <tool_set>.json files; default: a small catalog.")
    ] = None,
    cases: Annotated[
        Path | None, typer.Option(help="JSONL as for `afx eval`; default: eight requests.")
    ] = None,
    threads: ThreadsOption = None,
    spinning: Annotated[
        bool | None, typer.Option(help="Idle threads spin; default: as the bundle says.")
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Compare bundles, thread counts and spinning, in turns.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Turns of --tune.", min=1)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    svg: Annotated[
        Path | None, typer.Option(help="Also draw the latencies into this file.")
    ] = None,
) -> None:
    """Measure what a bundle costs on this machine: latency, tokens, memory, energy.

    Decides calls over described tools; no server is started and nothing is called.

        afx bench desk-bundle --svg latency.svg
        afx bench desk-bundle other-bundle --tune
    """
    from agentflux.benchmark.command import Request, run_bench

    run_bench(
        Request(
            bundles=bundles,
            calls=calls,
            tools=tools,
            cases=cases,
            threads=threads,
            spinning=spinning,
            rounds=rounds if tune else 0,
            as_json=as_json,
            svg=svg,
        )
    )


def main() -> NoReturn:
    """Run the command and translate our errors into exit codes."""
    from agentflux.errors import AgentFluxError, FileMismatch, MissingExtra, NotTrusted

    try:
        app(standalone_mode=True)
    except MissingExtra as error:
        _fail(error, 3)
    except (FileMismatch, NotTrusted) as error:
        _fail(error, 5)
    except AgentFluxError as error:
        _fail(error, 4)
    except OSError as error:  # a path of the command line that cannot be read or written
        _fail(error, 4)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    sys.exit(0)


def _fail(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"afx: {error}\n")
    sys.exit(code)


def _tell_held(agent: "Agent") -> None:
    for held in agent.held:
        name = f"{held.tool.tool_set}.{held.tool.name}"
        sys.stderr.write(f"held back, changed since {held.since}: {name} (afx chat: /accept)\n")


def _ask_on_terminal(call: "ToolCall", spec: "ToolSpec") -> bool:
    """Approve what only reads; ask a person for the rest; without a terminal, refuse."""
    if spec.read_only is True and spec.destructive is not True:
        return True
    shown = json.dumps(call.arguments, ensure_ascii=False)
    if not sys.stdin.isatty():
        sys.stderr.write(f"not approved (no terminal, no --yes): {call.tool_set}.{call.tool}\n")
        return False
    return typer.confirm(f"call {call.tool_set}.{call.tool} {shown}?", err=True)


if __name__ == "__main__":
    main()
