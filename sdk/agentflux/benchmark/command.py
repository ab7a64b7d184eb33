"""What `afx bench` does with its options."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentflux.benchmark import workload
from agentflux.benchmark.measure import BundleCost, measure
from agentflux.benchmark.picture import cost_svg
from agentflux.benchmark.text import comparison_table, cost_table
from agentflux.benchmark.tune import tune, ways
from agentflux.contracts.cases import read_cases
from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Catalog, load_tool_folder
from agentflux.errors import ConfigError
from agentflux.progress import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What `afx bench` was asked. threads, spinning None: as the bundle says. rounds 0: no tune."""

    bundles: Sequence[Path]
    calls: int
    tools: Path | None = None
    cases: Path | None = None
    threads: int | None = None
    spinning: bool | None = None
    rounds: int = 0
    as_json: bool = False
    svg: Path | None = None


def run_bench(request: Request) -> None:
    """Measure and print.

    Raises:
        ConfigError: the options contradict each other, or a file cannot be used.
        AgentFluxError: a bundle cannot be measured.
    """
    if (request.tools is None) != (request.cases is None):
        raise ConfigError("--tools and --cases belong together: give both or none")
    if request.rounds:
        _tune(request)
        return
    if len(request.bundles) > 1:
        raise ConfigError("several bundles are compared with --tune; without it give one")
    catalog, situations = _workload(request)
    cost = measure(
        request.bundles[0],
        catalog=catalog,
        situations=situations,
        calls=request.calls,
        threads=request.threads,
        spinning=request.spinning,
    )
    sys.stdout.write(_json(cost.to_dict()) if request.as_json else cost_table(cost))
    if request.svg is not None:
        _write(request.svg, cost_svg(cost))


def _tune(request: Request) -> None:
    if request.threads is not None or request.spinning is not None or request.svg is not None:
        raise ConfigError("--tune tries threads and spinning itself and draws no picture")
    options: list[str] = []
    if request.tools and request.cases:
        options = ["--tools", str(request.tools), "--cases", str(request.cases)]
    total = request.rounds * len(ways(request.bundles))
    with progress("measurements", total) as advance:
        costs = tune(
            request.bundles,
            calls=request.calls,
            rounds=request.rounds,
            options=options,
            on_done=advance,
        )
    if request.as_json:
        sys.stdout.write(_json([cost.to_dict() for cost in costs]))
        return
    sys.stdout.write(comparison_table(costs))
    _advise(costs)


def _advise(costs: Sequence[BundleCost]) -> None:
    first = costs[0].bundle
    best = min((c for c in costs if c.bundle == first), key=lambda cost: cost.call_median_ms)
    sys.stdout.write(
        f"fastest way to run the first bundle here: {best.threads} threads, "
        f"spinning {'off' if best.spinning is False else 'as the bundle says'}\n"
    )


def _workload(request: Request) -> tuple[Catalog, Sequence[Situation]]:
    if request.tools is None or request.cases is None:
        return workload.CATALOG, workload.SITUATIONS
    situations = [case.situation() for case in read_cases(request.cases)]
    if not situations:
        raise ConfigError("holds no case", where=str(request.cases))
    return load_tool_folder(request.tools), situations


def _json(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(path)) from error
