"""The decoupled stages: route to a tool set, select a tool, write its arguments, answer.

Each stage is one request to the engine: the shared pieces under the base, the rest under the
adapter of that subtask, the output constrained to what is valid.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from agentflux.contracts import prompts
from agentflux.contracts.bundle import AdapterEntry, Manifest
from agentflux.contracts.experts import NO_EXPERTS, Experts
from agentflux.contracts.prompts import Situation, StagePrompt
from agentflux.contracts.tools import Catalog, ToolCall
from agentflux.orchestration.arguments import ArgumentWriter
from agentflux.orchestration.events import Event, StageFinished, StageStarted
from agentflux.orchestration.hints import Opinion, SecondOpinions, joined
from agentflux.orchestration.known_sets import KnownSets
from agentflux.orchestration.layout import segments
from agentflux.orchestration.shown import ShownTools
from agentflux.ports import (
    CancelToken,
    Choosing,
    Engine,
    Generation,
    Sampling,
    Scores,
    Segment,
    StageRecord,
    Usage,
)

MAX_ANSWER_TOKENS = 96
# Without it a 135M base model falls into loops on long observations; from 1.1 on it starts to write
# other digits than the results have.
ANSWER_REPETITION_PENALTY = 1.05

GREEDY = Sampling()

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The next call, or None: no tool serves (or the work is finished).

    problem: why the arguments cannot be used, empty when they can. question: what the user must
    be asked first, because the request does not hold it. confidence: the product of the
    probabilities of the choices made.
    """

    call: ToolCall | None
    confidence: float
    stages: tuple[StageRecord, ...]
    problem: str = ""
    question: str = ""


class Stages:
    """The stages over one bundle and one catalog. Keeps no state between requests."""

    def __init__(
        self,
        engine: Engine,
        manifest: Manifest,
        catalog: Catalog,
        *,
        experts: Experts = NO_EXPERTS,
    ) -> None:
        """Set them up. experts: who else is heard, see `agentflux.contracts.experts`."""
        self._engine, self._manifest, self._experts = engine, manifest, experts
        self.catalog = catalog
        self._known = KnownSets(catalog, manifest.catalog)
        self._sets = self._known.catalog(catalog)
        self._shown = ShownTools(
            manifest.chat,
            self._sets,
            context_tokens=manifest.runtime.context_tokens,
            encoder=experts.retriever,
        )
        self._opinions = SecondOpinions(manifest, self._sets, self._shown, experts.intents)
        self._writer = ArgumentWriter(engine, manifest, self._shown, experts)

    def with_catalog(self, catalog: Catalog) -> "Stages":
        """Return these stages over other tools."""
        if catalog is self.catalog:
            return self
        return Stages(self._engine, self._manifest, catalog, experts=self._experts)

    def decide(
        self,
        situation: Situation,
        *,
        required: bool = False,
        sampling: Sampling = GREEDY,
        emit: Emit,
        cancel: CancelToken | None,
    ) -> Decision:
        """Run the stages of one step. Route is skipped when one tool set is connected.

        required: `none` and `finish` are no candidates; the decision is a call. sampling: of the
        arguments; names are always the most probable ones.
        """
        records: list[StageRecord] = []
        situation = self._known.situation(situation)
        stop = None if required and self._sets else prompts.stop_label(situation)
        tool_set = next(iter(self._sets), stop)
        if len(self._sets) > 1:
            tool_set = self._route(situation, stop, records, emit, cancel)
        name = tool_set
        if tool_set is not None and tool_set != stop:
            name = self._select(tool_set, situation, stop, records, emit, cancel)
        confidence = _product(records)
        if tool_set is None or name is None or name == stop:
            return Decision(call=None, confidence=confidence, stages=tuple(records))
        tool = next(t for t in self._sets[tool_set] if t.name == name)
        written = self._writer.write(tool, situation, sampling, records, emit, cancel)
        connected = self._known.connected(tool_set)
        return Decision(
            call=ToolCall(
                tool_set=connected,
                tool=self._known.connected_tool(connected, name),
                arguments=written.arguments,
            ),
            confidence=confidence,
            stages=tuple(records),
            problem=written.problem,
            question=written.question,
        )

    def warm_up(self) -> Usage:
        """Compute every static prefix that requests share; returns what it took together."""
        chat, nothing = self._manifest.chat, Situation(request="")
        statics = [prompts.answer_prompt(chat, nothing).static]
        if len(self._sets) > 1 and self._shown.all_sets_fit:
            statics.append(prompts.route_prompt(chat, self._sets, nothing).static)
        for name, tools in self._sets.items():
            if self._shown.fits(name):
                statics.append(prompts.select_prompt(chat, name, tools, nothing).static)
        prefilled, ms = 0, 0.0
        for text in statics:
            request = Generation(segments=(Segment(text=text, keep=True),), max_tokens=1)
            usage = self._engine.generate(request).usage
            prefilled, ms = prefilled + usage.prefill_tokens, ms + usage.ms
        return Usage(prefill_tokens=prefilled, ms=ms)

    def answer(
        self,
        situation: Situation,
        *,
        sampling: Sampling = GREEDY,
        emit: Emit,
        on_text: Callable[[str], None],
        cancel: CancelToken | None,
    ) -> tuple[str, StageRecord]:
        """Let the base model write the final answer, streamed through `on_text`."""
        prompt = prompts.answer_prompt(self._manifest.chat, situation)
        emit(StageStarted(stage="answer", adapter=None))
        request = Generation(
            segments=segments(prompt, None),
            max_tokens=MAX_ANSWER_TOKENS,
            repetition_penalty=ANSWER_REPETITION_PENALTY,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
        )
        done = self._engine.generate(request, on_text=on_text, cancel=cancel)
        record = StageRecord(stage="answer", adapter=None, usage=done.usage)
        emit(StageFinished(record=record))
        return done.text.strip(), record

    def _route(
        self,
        situation: Situation,
        stop: str | None,
        records: list[StageRecord],
        emit: Emit,
        cancel: CancelToken | None,
    ) -> str | None:
        sets = self._shown.sets(situation)
        prompt = prompts.route_prompt(self._manifest.chat, sets, situation)
        candidates = _candidates(sets, stop)
        adapter = self._manifest.adapter_for("route")
        opinion = self._opinions.of_sets(sets, situation)
        record = self._choose("route", adapter, prompt, candidates, opinion, emit, cancel)
        records.append(_told(record, self._known.connected))
        emit(StageFinished(record=records[-1]))
        return _accepted(record, adapter, stop)

    def _select(
        self,
        tool_set: str,
        situation: Situation,
        stop: str | None,
        records: list[StageRecord],
        emit: Emit,
        cancel: CancelToken | None,
    ) -> str | None:
        tools = self._shown.tools(tool_set, situation)
        candidates = _candidates((t.name for t in tools), stop)
        if len(candidates) == 1:
            return candidates[0]
        prompt = prompts.select_prompt(self._manifest.chat, tool_set, tools, situation)
        adapter = self._manifest.adapter_for("select", tool_set)
        own = adapter is not None and adapter.tool_set == tool_set
        done = records[-1].log_odds(stop) if records and stop is not None else 0.0
        opinion = self._opinions.of_tools(tool_set, tools, situation, own=own, done=done)
        record = self._choose("select", adapter, prompt, candidates, opinion, emit, cancel)
        connected = self._known.connected(tool_set)
        records.append(_told(record, lambda name: self._known.connected_tool(connected, name)))
        emit(StageFinished(record=records[-1]))
        return _accepted(record, adapter, stop)

    def _choose(  # noqa: PLR0913 - what one stage is about
        self,
        stage: str,
        adapter: AdapterEntry | None,
        prompt: StagePrompt,
        candidates: Sequence[str],
        opinion: Opinion | None,
        emit: Emit,
        cancel: CancelToken | None,
    ) -> StageRecord:
        name = adapter.name if adapter else None
        emit(StageStarted(stage=stage, adapter=name))
        min_none = adapter.calibration.min_none if adapter else 0.0
        doubted = opinion.doubted if opinion is not None else None
        request = Choosing(
            segments=segments(prompt, adapter),
            candidates=candidates,
            doubted=doubted or (prompts.NONE if min_none else None),
            rival=opinion.favourite if opinion is not None else None,
            every=opinion is not None and opinion.every,
        )
        scores = self._engine.choose(request, cancel=cancel)
        if opinion is not None:
            scores = joined(scores, opinion)
        if opinion is None or not opinion.every:  # the threshold is of trained tools
            scores = _without_weak_none(scores, min_none)
        return StageRecord(
            stage=stage,
            adapter=name,
            choice=scores.best,
            probability=scores.probability,
            margin=scores.margin,
            entropy=scores.entropy,
            alternatives=scores.alternatives,
            usage=scores.usage,
        )


def _told(record: StageRecord, connected: Callable[[str], str]) -> StageRecord:
    """Tell a choice by the names under which tool sets or tools are connected."""
    others = tuple((connected(other), share) for other, share in record.alternatives or ())
    return replace(record, choice=record.choice and connected(record.choice), alternatives=others)


def _accepted(record: StageRecord, adapter: AdapterEntry | None, stop: str | None) -> str | None:
    """Return the choice, or the stop label where it is under the threshold of who made it."""
    threshold = adapter.calibration.min_probability if adapter else 0.0
    if stop is not None and (record.probability or 0.0) < threshold:
        return stop
    return record.choice


def _without_weak_none(scores: Scores, min_none: float) -> Scores:
    """Let the runner-up win where the choice is a `none` of too small a probability."""
    if scores.best != prompts.NONE or scores.probability >= min_none or not scores.alternatives:
        return scores
    (name, probability), *others = scores.alternatives
    return replace(
        scores,
        best=name,
        probability=probability,
        margin=probability - max((p for _, p in others), default=0.0),
        alternatives=((prompts.NONE, scores.probability), *others),
    )


def _candidates(names: Iterable[str], stop: str | None) -> list[str]:
    return [*names] if stop is None else [*names, stop]


def _product(records: Sequence[StageRecord]) -> float:
    product = 1.0
    for record in records:
        product *= record.probability if record.probability is not None else 1.0
    return product
