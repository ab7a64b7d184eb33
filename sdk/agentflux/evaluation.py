"""`afx eval`: decide the next call of each case, over tools that are only described."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.cases import Case, count_cases, prediction_line, read_cases
from agentflux.contracts.experts import bundle_experts
from agentflux.contracts.tools import load_tool_folder
from agentflux.errors import AgentFluxError, ConfigError
from agentflux.orchestration.events import Event
from agentflux.orchestration.results import stage_dict
from agentflux.orchestration.stages import Decision, Stages
from agentflux.ports import StageRecord
from agentflux.progress import progress
from agentflux.session import open_engine


def evaluate_cases(
    bundle: Path,
    *,
    tools: Path,
    cases: Path,
    out: Path,
    limit: int | None = None,
    threads: int | None = None,
) -> tuple[int, int]:
    """Write one prediction a case; return (cases with an error, cases).

    The file appears under its name when all cases are done.

    Raises:
        AgentFluxError: the bundle, the tools or the case file cannot be used at all.
        ConfigError: `out` is a folder.
    """
    if out.is_dir():
        raise ConfigError("is a folder; name the file to write the predictions to", where=str(out))
    manifest = read_manifest(bundle)
    catalog = load_tool_folder(tools)
    total = count_cases(cases, limit=limit)
    experts = bundle_experts(bundle, manifest)
    partial = out.with_name(out.name + ".partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    with closing(open_engine(bundle, manifest, threads=threads)) as engine:
        stages = Stages(engine, manifest, catalog, experts=experts)
        with partial.open("w", encoding="utf-8") as stream, progress("cases", total) as advance:
            for case in read_cases(cases, limit=limit):
                line = predict(
                    case, lambda c: stages.decide(c.situation(), emit=_quiet, cancel=None)
                )
                failed += "error" in line
                stream.write(prediction_line(line))
                advance()
    partial.replace(out)
    return failed, total


def predict(case: Case, decide: Callable[[Case], Decision]) -> dict[str, Any]:
    """Turn one case into its prediction line. Our own errors become its `error`."""
    try:
        decision = decide(case)
    except AgentFluxError as error:
        return {"id": case.id, "error": f"{type(error).__name__}: {error}"}
    call = decision.call
    line: dict[str, Any] = {
        "id": case.id,
        "tool_set": call.tool_set if call else None,
        "tool": call.tool if call else None,
        "arguments": call.arguments if call else None,
        "confidence": round(decision.confidence, 6),
        "stages": [_stage(record) for record in decision.stages],
    }
    if decision.problem:
        line["error"] = decision.problem
    return line


def _stage(record: StageRecord) -> dict[str, Any]:
    row = stage_dict(record)
    keys = (
        "stage",
        "adapter",
        "choice",
        "probability",
        "alternatives",
        "ms",
        "prefill_tokens",
        "reused_tokens",
        "decoded_tokens",
    )
    return {key: row[key] for key in keys if key in row}


def _quiet(event: Event) -> None:
    pass
