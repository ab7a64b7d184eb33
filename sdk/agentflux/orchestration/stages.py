"""The decoupled stages: route to a tool set, select a tool, write its arguments, answer.

Each stage is one request to the engine: the shared pieces under the base, the rest under the
adapter of that subtask, the output constrained to what is valid.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema

from agentflux.contracts import prompts
from agentflux.contracts.bundle import AdapterEntry, CatalogTool, Manifest
from agentflux.contracts.experts import NO_EXPERTS, Experts
from agentflux.contracts.grammar import copying_grammar
from agentflux.contracts.optional import named_values
from agentflux.contracts.prompts import Situation, StagePrompt
from agentflux.contracts.spans import FREE, Held
from agentflux.contracts.tools import Catalog, ToolCall, ToolSpec
from agentflux.contracts.validation import check_arguments
from agentflux.errors import SchemaNotSupported
from agentflux.orchestration.astray import held_to_texts, held_to_what_is_shown
from agentflux.orchestration.events import Event, StageFinished, StageStarted
from agentflux.orchestration.given import as_given
from agentflux.orchestration.grounding import grounded
from agentflux.orchestration.hints import Opinion, SecondOpinions, joined
from agentflux.orchestration.known_sets import KnownSets
from agentflux.orchestration.missing import missing_parameter, question
from agentflux.orchestration.shown import ShownTools
from agentflux.ports import (
    CancelToken,
    Choosing,
    Completion,
    Engine,
    Generation,
    Sampling,
    Scores,
    Segment,
    StageRecord,
    Usage,
)

MAX_ARGUMENT_TOKENS = 320
ARGUMENT_ROLLOUTS = 5
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
        self._trained = {(t.tool_set, t.name, t.sha256): t for t in manifest.catalog}

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
        written = self._arguments(tool, situation, sampling, records, emit, cancel)
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

    def _arguments(
        self,
        tool: ToolSpec,
        situation: Situation,
        sampling: Sampling,
        records: list[StageRecord],
        emit: Emit,
        cancel: CancelToken | None,
    ) -> "_Written":
        if not tool.takes_arguments:
            return _Written()
        key = (tool.tool_set, tool.name, tool.sha256)
        trained = self._trained.get(key)  # if it is still the tool that training saw
        seen = trained or CatalogTool(tool_set=key[0], name=key[1], sha256=key[2])
        texts = prompts.shown_texts(situation)
        try:
            grammar = copying_grammar(tool, seen.copied, texts, worded=seen.worded)
        except SchemaNotSupported as error:
            return _Written(problem=str(error))
        adapter = self._manifest.adapter_for("arguments", tool.tool_set, tool.name)
        name = adapter.name if adapter else None
        tools = self._shown.tools(tool.tool_set, situation)
        described = adapter is not None and adapter.described
        prompt = prompts.arguments_prompt(
            self._manifest.chat, tool, tools, situation, described=described
        )
        request = Generation(
            segments=segments(prompt, adapter),
            max_tokens=MAX_ARGUMENT_TOKENS,
            grammar=grammar,
            rollouts=ARGUMENT_ROLLOUTS,
            keep_grammar=not seen.copies,  # the texts are those of one request
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
        )

        def written(asked: Generation) -> Completion:
            emit(StageStarted(stage="arguments", adapter=name))
            done = self._engine.generate(asked, cancel=cancel)
            records.append(StageRecord(stage="arguments", adapter=name, usage=done.usage))
            emit(StageFinished(record=records[-1]))
            return done

        def again(asked: ToolSpec, held: Held) -> Completion:
            rules = copying_grammar(asked, seen.copied, texts, worded=seen.worded, held=held)
            other = written(replace(request, grammar=rules, keep_grammar=False))
            return done if other.finish == "length" else other

        done = written(request)
        given = self._as_given(tool, done, situation, trained=trained is not None)
        if given is not tool:
            done = again(given, FREE)
        if trained is None:
            held = FREE if situation.steps else held_to_texts(_object(done), tool, texts)
        else:
            held = held_to_what_is_shown(_object(done), trained, situation)
        if held:
            done = again(given, held)
        threshold = adapter.calibration.min_support if adapter else 0.0
        lacking = missing_parameter(done, tool, seen.copied, min_support=threshold)
        if lacking is not None:
            return _Written(question=question(tool, lacking))
        if done.finish == "length":
            return _Written(
                problem=f"the arguments did not end within {MAX_ARGUMENT_TOKENS} tokens"
            )
        return _parse(done.text, tool, founding=None if trained else texts)

    def _as_given(
        self, tool: ToolSpec, done: Completion, situation: Situation, *, trained: bool
    ) -> ToolSpec:
        """Return the tool as its arguments should be by the request's words.

        Of a tool that was called before nothing is said: a preview's request asks for both calls.
        """
        written, experts = _object(done), self._experts
        called = {(step.call.tool_set, step.call.tool) for step in situation.steps}
        if written is None or (tool.tool_set, tool.name) in called:
            return tool
        odds, named = dict[str, float](), dict[str, str]()
        if trained:
            if experts.intents is not None:
                odds = experts.intents.odds_given(f"{tool.tool_set}/{tool.name}", situation.request)
        elif not situation.steps:
            named = named_values(tool.input_schema, situation.request)
            if experts.retriever is not None:
                odds = experts.retriever.odds_given(tool, situation.request)
        return as_given(tool, written, odds, named)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What the argument stage gave: arguments, or why there are none."""

    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    problem: str = ""
    question: str = ""


def _object(done: Completion) -> dict[str, Any] | None:
    """Return the arguments that were written, or None where they did not end or are none."""
    try:
        found = json.loads(done.text) if done.finish != "length" else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def segments(prompt: StagePrompt, adapter: AdapterEntry | None) -> tuple[Segment, ...]:
    """Lay the prompt out for the engine. The static piece is worth keeping."""
    if adapter is None:
        pieces = prompt.pieces()
        return tuple(Segment(text=p, keep=p == prompt.static) for p in pieces)
    base, adapted = prompt.split(adapter.boundary)
    shared = tuple(Segment(text=p, keep=p == prompt.static) for p in base)
    own = (Segment(text=p, adapter=adapter.name, keep=p == prompt.static) for p in adapted)
    return (*shared, *own)


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


def _parse(text: str, tool: ToolSpec, *, founding: Sequence[str] | None) -> _Written:
    """Read the decoded object and check what a grammar cannot express (`not`, some formats).

    founding: the texts in which optional strings must have a ground; None asks for none.
    """
    try:
        arguments = json.loads(text)
        if founding is not None:
            arguments = grounded(arguments, tool, founding)
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        check_arguments(arguments, tool.input_schema)
    except ValueError as error:
        return _Written(problem=f"the arguments are not JSON: {error}")
    except jsonschema.ValidationError as error:
        return _Written(problem=f"the arguments break the tool's schema: {error.message[:200]}")
    except jsonschema.SchemaError as error:
        told = f"the tool's schema is not valid JSON Schema: {error.message[:200]}"
        return _Written(problem=told)
    return _Written(arguments=arguments)


def _product(records: Sequence[StageRecord]) -> float:
    product = 1.0
    for record in records:
        product *= record.probability if record.probability is not None else 1.0
    return product
