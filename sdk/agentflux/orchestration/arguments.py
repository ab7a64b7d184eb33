"""The argument stage: write a tool's arguments, and write them again where the texts say otherwise.

A first draft is decoded under the tool's schema and what training copied (`copying_grammar`). Where
it contradicts what a request gives (`given`) or what the texts show (`astray`), it is decoded once
more under a grammar that knows better, over the same cache. What is left is looked at: is a value
missing (`missing`), is another entry of a list meant (`meant`), does an optional string of an
unknown tool have a ground (`grounding`), has a known tool's string one reading in the texts
(`mended`), is there such a time zone (`zones`), does all of it keep to the schema?
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema

from agentflux.contracts import prompts
from agentflux.contracts.bundle import CatalogTool, Manifest
from agentflux.contracts.experts import Experts
from agentflux.contracts.grammar import copying_grammar
from agentflux.contracts.optional import named_values
from agentflux.contracts.prompts import Situation
from agentflux.contracts.spans import FREE, Held
from agentflux.contracts.tools import ToolSpec
from agentflux.contracts.validation import check_arguments
from agentflux.contracts.zones import with_known_zones
from agentflux.errors import SchemaNotSupported
from agentflux.orchestration.astray import held_to_texts, held_to_what_is_shown
from agentflux.orchestration.events import Event, StageFinished, StageStarted
from agentflux.orchestration.given import as_given
from agentflux.orchestration.grounding import grounded
from agentflux.orchestration.layout import segments
from agentflux.orchestration.meant import with_the_meant
from agentflux.orchestration.mended import mended
from agentflux.orchestration.missing import missing_parameter, question
from agentflux.orchestration.placed import in_its_place, without_repeats
from agentflux.orchestration.shown import ShownTools
from agentflux.ports import CancelToken, Completion, Engine, Generation, Sampling, StageRecord

MAX_ARGUMENT_TOKENS = 320
ARGUMENT_ROLLOUTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the stage gave: arguments, or why there are none."""

    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    problem: str = ""
    question: str = ""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A completion, and the arguments in it; None where it did not end or holds no object."""

    done: Completion
    arguments: dict[str, Any] | None

    @property
    def ended(self) -> bool:
        return self.done.finish != "length"


class ArgumentWriter:
    """The argument stage over one bundle. Keeps no state between requests."""

    def __init__(
        self, engine: Engine, manifest: Manifest, shown: ShownTools, experts: Experts
    ) -> None:
        """Set it up. shown: what a prompt lists of the tools beside. experts: who else is heard."""
        self._engine, self._manifest = engine, manifest
        self._shown, self._experts = shown, experts
        self._trained = {(t.tool_set, t.name, t.sha256): t for t in manifest.catalog}

    def write(
        self,
        tool: ToolSpec,
        situation: Situation,
        sampling: Sampling,
        records: list[StageRecord],
        emit: Callable[[Event], None],
        cancel: CancelToken | None,
    ) -> Written:
        """Write the arguments of a call of the tool. records: gets one of each decoding."""
        if not tool.takes_arguments:
            return Written()
        key = (tool.tool_set, tool.name, tool.sha256)
        trained = self._trained.get(key)  # if it is still the tool that training saw
        seen = trained or CatalogTool(tool_set=key[0], name=key[1], sha256=key[2])
        texts = prompts.shown_texts(situation)
        try:
            grammar = copying_grammar(tool, seen.copied, texts, worded=seen.worded)
        except SchemaNotSupported as error:
            return Written(problem=str(error))
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

        def drafted(asked: Generation) -> _Draft:
            emit(StageStarted(stage="arguments", adapter=name))
            done = self._engine.generate(asked, cancel=cancel)
            records.append(StageRecord(stage="arguments", adapter=name, usage=done.usage))
            emit(StageFinished(record=records[-1]))
            return _Draft(done, _object(done))

        def again(asked: ToolSpec, held: Held) -> _Draft:
            rules = copying_grammar(asked, seen.copied, texts, worded=seen.worded, held=held)
            other = drafted(replace(request, grammar=rules, keep_grammar=False))
            return other if other.ended else draft

        draft = drafted(request)
        given = self._as_given(tool, draft.arguments, situation, trained=trained is not None)
        if given is not tool:
            draft = again(given, FREE)
        if held := _held(draft.arguments, tool, trained, situation):
            draft = again(given, held)
        threshold = adapter.calibration.min_support if adapter else 0.0
        lacking = missing_parameter(draft.done, tool, seen.copied, min_support=threshold)
        if lacking is not None:
            return Written(question=question(tool, lacking))
        return _finished(draft, tool, trained, situation)

    def _as_given(
        self,
        tool: ToolSpec,
        written: Mapping[str, Any] | None,
        situation: Situation,
        *,
        trained: bool,
    ) -> ToolSpec:
        """Return the tool as its arguments should be by the request's words.

        Of a tool that was called before nothing is said: a preview's request asks for both calls.
        """
        experts = self._experts
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


def _held(
    written: Mapping[str, Any] | None,
    tool: ToolSpec,
    trained: CatalogTool | None,
    situation: Situation,
) -> Held:
    if trained is not None:
        return held_to_what_is_shown(written, trained, situation)
    return FREE if situation.steps else held_to_texts(written, tool, prompts.shown_texts(situation))


def _finished(
    draft: _Draft, tool: ToolSpec, trained: CatalogTool | None, situation: Situation
) -> Written:
    if not draft.ended:
        told = f"the arguments did not end within {MAX_ARGUMENT_TOKENS} tokens"
        return Written(problem=told)
    if draft.arguments is None:
        return Written(problem="the arguments are not a JSON object")
    return _checked(put_right(draft.arguments, tool, trained, situation), tool)


def put_right(
    arguments: Mapping[str, Any], tool: ToolSpec, trained: CatalogTool | None, situation: Situation
) -> dict[str, Any]:
    """Return written arguments with what texts and schema show beyond doubt; nothing is decoded.

    trained: what training saw of the tool; None if it saw none of it. How seldom that is wrong in
    the sample's training data, and what it does to predictions, is printed by
    `tests/bench/mending.py`.
    """
    meant = without_repeats(with_the_meant(arguments, situation))
    meant = in_its_place(meant, tool.name, situation)
    if trained is not None:
        written = mended(meant, trained, situation)
    else:
        written = grounded(meant, tool, prompts.shown_texts(situation))
    return with_known_zones(written, tool.input_schema)


def _object(done: Completion) -> dict[str, Any] | None:
    """Return the arguments that were written, or None where they did not end or are none."""
    try:
        found = json.loads(done.text) if done.finish != "length" else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _checked(arguments: dict[str, Any], tool: ToolSpec) -> Written:
    """Check what a grammar cannot express (`not`, some formats)."""
    try:
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        check_arguments(arguments, tool.input_schema)
    except ValueError as error:
        return Written(problem=f"the arguments are not JSON: {error}")
    except jsonschema.ValidationError as error:
        return Written(problem=f"the arguments break the tool's schema: {error.message[:200]}")
    except jsonschema.SchemaError as error:
        told = f"the tool's schema is not valid JSON Schema: {error.message[:200]}"
        return Written(problem=told)
    return Written(arguments=arguments)
