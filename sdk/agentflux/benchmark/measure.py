"""Run a workload on a bundle and count."""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from agentflux.benchmark.machine import EnergyMeter, peak_bytes, processor, resident_bytes
from agentflux.contracts.bundle import read_manifest
from agentflux.contracts.experts import bundle_experts
from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Catalog
from agentflux.engines.ort import OrtEngine
from agentflux.orchestration.events import Event
from agentflux.orchestration.stages import Stages
from agentflux.ports import Generation, Segment, StageRecord, Usage

_PREFILL_WORDS = 420
_DECODE_TOKENS = 48
_PROBES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage over all calls that ran it. Tokens are medians a call."""

    stage: str
    calls: int
    median_ms: float
    p95_ms: float
    prefill_tokens: float
    reused_tokens: float
    decoded_tokens: float
    forced_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleCost:
    """What a bundle costs on this machine.

    call_*: the time of one decision (route, select, arguments). joules_per_call counts the whole
    processor; None where the machine does not tell. bundle_equal: the certificate's share of
    greedy tokens that equal transformers + PEFT in fp32, base and adapters together.
    """

    bundle: str
    profile: str
    model: str
    machine: str
    threads: int
    spinning: bool | None
    calls: int
    open_s: float
    warm_up_s: float
    warm_up_tokens: int
    call_median_ms: float
    call_p95_ms: float
    stages: tuple[StageCost, ...]
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    file_bytes: int
    resident_bytes: int
    peak_bytes: int
    kv_bytes: int
    joules_per_call: float | None
    bundle_equal: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `afx bench --json` prints."""
        return asdict(self)


def measure(
    bundle: Path,
    *,
    catalog: Catalog,
    situations: Sequence[Situation],
    calls: int,
    threads: int | None = None,
    spinning: bool | None = None,
) -> BundleCost:
    """Open the bundle, warm it up, decide `calls` times over the situations, in turn.

    Raises:
        AgentFluxError: the bundle cannot be opened, or a decision fails.
    """
    manifest = read_manifest(bundle)
    started = time.perf_counter()
    engine = OrtEngine(bundle, manifest, threads=threads, spinning=spinning)
    open_s = time.perf_counter() - started
    try:
        stages = Stages(engine, manifest, catalog, experts=bundle_experts(bundle, manifest))
        warm = stages.warm_up()
        for situation in situations[:2]:  # adapters are loaded at their first use
            stages.decide(situation, emit=_quiet, cancel=None)
        meter = EnergyMeter()
        times, records = _decide(stages, islice(cycle(situations), calls))
        joules = meter.joules()
        return BundleCost(
            bundle=str(bundle),
            profile=manifest.runtime.profile,
            model=manifest.base_model.id,
            machine=processor(),
            threads=engine.threads,
            spinning=spinning,
            calls=calls,
            open_s=round(open_s, 3),
            warm_up_s=round(warm.ms / 1e3, 3),
            warm_up_tokens=warm.prefill_tokens,
            call_median_ms=round(statistics.median(times), 2),
            call_p95_ms=round(percentile(times, 95), 2),
            stages=stage_costs(records),
            prefill_tokens_per_s=round(_prefill_rate(engine), 1),
            decode_tokens_per_s=round(_decode_rate(engine), 1),
            file_bytes=sum(file.bytes for file in manifest.files),
            resident_bytes=resident_bytes(),
            peak_bytes=peak_bytes(),
            kv_bytes=engine.pool.bytes,
            joules_per_call=None if joules is None else round(joules / calls, 4),
            bundle_equal=equal_share(bundle),
        )
    finally:
        engine.close()


def equal_share(bundle: Path) -> float | None:
    """Return the share of the certificate's tokens that the bundle chooses as fp32 does."""
    certificate = read_manifest(bundle).certificate
    rows = certificate.bundle if certificate else ()
    tokens = sum(row.tokens for row in rows)
    return round(sum(row.equal_tokens for row in rows) / tokens, 4) if tokens else None


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def stage_costs(records: Iterable[StageRecord]) -> tuple[StageCost, ...]:
    """Sum records up by stage, in the order in which the stages first ran."""
    by_stage: dict[str, list[Usage]] = defaultdict(list)
    for record in records:
        by_stage[record.stage].append(record.usage)
    return tuple(_cost(stage, usages) for stage, usages in by_stage.items())


def _cost(stage: str, usages: Sequence[Usage]) -> StageCost:
    times = [usage.ms for usage in usages]
    return StageCost(
        stage=stage,
        calls=len(usages),
        median_ms=round(statistics.median(times), 2),
        p95_ms=round(percentile(times, 95), 2),
        prefill_tokens=statistics.median(usage.prefill_tokens for usage in usages),
        reused_tokens=statistics.median(usage.reused_tokens for usage in usages),
        decoded_tokens=statistics.median(usage.decoded_tokens for usage in usages),
        forced_tokens=statistics.median(usage.forced_tokens for usage in usages),
    )


def _decide(
    stages: Stages, situations: Iterable[Situation]
) -> tuple[list[float], list[StageRecord]]:
    times: list[float] = []
    records: list[StageRecord] = []
    for situation in situations:
        started = time.perf_counter()
        records += stages.decide(situation, emit=_quiet, cancel=None).stages
        times.append((time.perf_counter() - started) * 1e3)
    return times, records


def _prefill_rate(engine: OrtEngine) -> float:
    """Tokens a second of a prompt that no cache holds, under the base."""
    rates = []
    for probe in range(_PROBES):
        text = f"{probe + 1} " + "the quick brown fox counts seven stones " * (_PREFILL_WORDS // 7)
        usage = engine.generate(Generation(segments=(Segment(text=text),), max_tokens=1)).usage
        rates.append(usage.prefill_tokens / usage.ms * 1e3)
    return statistics.median(rates)


def _decode_rate(engine: OrtEngine) -> float:
    """Tokens a second of free text after a short prompt that the cache holds, under the base."""
    segments = (Segment(text="Once upon a time, in a village between two rivers, there lived"),)
    rates = []
    engine.generate(Generation(segments=segments, max_tokens=1))
    for _ in range(_PROBES):
        request = Generation(segments=segments, max_tokens=_DECODE_TOKENS)
        usage = engine.generate(request).usage
        rates.append(usage.decoded_tokens / usage.ms * 1e3)
    return statistics.median(rates)


def _quiet(event: Event) -> None:
    pass
