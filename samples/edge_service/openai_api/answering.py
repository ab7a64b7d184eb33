"""From a request to its answer: a call by the stages, or text by the base model. Blocks."""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agentflux import (
    Agent,
    CancelToken,
    Decision,
    Situation,
    StageRecord,
    TextOptions,
    Turn,
    Usage,
    errors,
)
from agentflux import Completion as Text
from edge_service.openai_api import conversation
from edge_service.openai_api.schema import (
    ChatRequest,
    Finish,
    FunctionCall,
    OwnFields,
    PromptDetails,
    StageInfo,
    ToolCallItem,
    UsageCounts,
)
from edge_service.openai_api.tools import Candidates, ToolNames
from edge_service.problems import Problem

_ANY_OBJECT = {"type": "object", "additionalProperties": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The next message, and what it cost."""

    text: str | None
    calls: tuple[ToolCallItem, ...]
    finish: Finish
    stages: tuple[StageRecord, ...]
    confidence: float | None = None

    def usage(self) -> UsageCounts:
        """Count the tokens of all stages."""
        costs = [record.usage for record in self.stages]
        reused = sum(cost.reused_tokens for cost in costs)
        prompt = reused + sum(cost.prefill_tokens for cost in costs)
        decoded = sum(cost.decoded_tokens for cost in costs)
        return UsageCounts(
            prompt_tokens=prompt,
            completion_tokens=decoded,
            total_tokens=prompt + decoded,
            prompt_tokens_details=PromptDetails(cached_tokens=reused),
        )

    def own(self) -> OwnFields:
        """Tell the stages."""
        confidence = None if self.confidence is None else round(self.confidence, 6)
        return OwnFields(stages=[_stage(r) for r in self.stages], confidence=confidence)


@dataclass(slots=True)
class Answering:
    """One request on its way. All checks that need no model are done when it is made."""

    agent: Agent
    request: ChatRequest
    names: ToolNames
    max_tokens: int
    cancel: CancelToken = field(default_factory=CancelToken)
    candidates: Candidates | None = None
    situation: Situation | None = None

    def __post_init__(self) -> None:
        """Raise Problem where the request cannot be answered."""
        tools, choice = self.request.tools or [], self.request.tool_choice
        self.candidates = self.names.candidates(tools, choice)
        if self.candidates is None:
            conversation.check_calls(self.request.messages)
        else:
            self.situation = conversation.situation(self.request.messages, self.names)
        self.options()

    def answer(self, on_text: Callable[[str], None]) -> Answer:
        """Decide on a call, else write text. Raises AgentFluxError."""
        decision: Decision | None = None
        if self.candidates is not None and self.situation is not None:
            decision = self.agent.decide(
                self.situation,
                tools=self.candidates.specs,
                required=self.candidates.required,
                cancel=self.cancel,
            )
            if decision.question and not self.candidates.required:
                return _told(decision.question, decision, on_text)
            if decision.call is not None and not decision.problem:
                return self._called(decision, self.candidates)
            if decision.call is not None:
                # Arguments that break the schema are never sent.
                name, why = decision.call.tool, decision.problem
                text = f"I could not write valid arguments for {name}: {why}"
                return _told(text, decision, on_text)
        return self._text(decision, on_text)

    def options(self) -> TextOptions:
        """Read how to decode.

        Raises:
            Problem: json_schema without its schema.
        """
        asked = self.request
        limit = asked.max_completion_tokens or asked.max_tokens or self.max_tokens
        stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
        if len(stop) > 4:
            raise Problem(400, "at most four stop texts", "invalid_value", "stop")
        return TextOptions(
            max_tokens=limit,
            temperature=0.0 if asked.top_p == 0 else asked.temperature or 0.0,
            top_p=asked.top_p or 1.0,
            seed=abs(asked.seed or 0),
            stop=tuple(text for text in stop if text),
            json_schema=_schema(asked),
        )

    def _called(self, decision: Decision, candidates: Candidates) -> Answer:
        assert decision.call is not None
        call = decision.call
        function = FunctionCall(
            name=candidates.wire_name(call.tool_set, call.tool),
            arguments=json.dumps(call.arguments, ensure_ascii=False, separators=(",", ":")),
        )
        item = ToolCallItem(id=f"call_{secrets.token_hex(12)}", function=function)
        return Answer(
            text=None,
            calls=(item,),
            finish="tool_calls",
            stages=decision.stages,
            confidence=decision.confidence,
        )

    def _text(self, decision: Decision | None, on_text: Callable[[str], None]) -> Answer:
        said = conversation.turns(self.request.messages)
        done = self._fitting(said, self.options(), on_text)
        before = decision.stages if decision is not None else ()
        return Answer(
            text=done.text if self.request.stop else done.text.strip(),
            calls=(),
            finish="length" if done.finish == "length" else "stop",
            stages=(*before, StageRecord(stage="answer", adapter=None, usage=done.usage)),
            confidence=decision.confidence if decision is not None else None,
        )

    def _fitting(
        self, said: Sequence[Turn], options: TextOptions, on_text: Callable[[str], None]
    ) -> Text:
        """Ask for the text; where its limit is too large for the context, take what is left."""
        try:
            return self.agent.chat(said, options, on_text=on_text, cancel=self.cancel)
        except errors.ContextOverflow as error:
            left = error.limit - (error.needed - options.max_tokens)
            if left < 1 or left >= options.max_tokens:
                raise
            fitting = TextOptions(
                max_tokens=left,
                temperature=options.temperature,
                top_p=options.top_p,
                seed=options.seed,
                stop=options.stop,
                json_schema=options.json_schema,
            )
            return self.agent.chat(said, fitting, on_text=on_text, cancel=self.cancel)


def _told(text: str, decision: Decision, on_text: Callable[[str], None]) -> Answer:
    """Answer with a text that no model wrote."""
    on_text(text)
    return Answer(
        text=text,
        calls=(),
        finish="stop",
        stages=decision.stages,
        confidence=decision.confidence,
    )


def _schema(request: ChatRequest) -> dict[str, object] | None:
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return dict(_ANY_OBJECT)
    if wanted.json_schema is None:
        text = "json_schema is missing"
        raise Problem(400, text, "invalid_value", "response_format.json_schema")
    return wanted.json_schema.schema_


def _stage(record: StageRecord) -> StageInfo:
    usage: Usage = record.usage
    return StageInfo(
        stage=record.stage,
        adapter=record.adapter,
        choice=record.choice,
        probability=record.probability,
        alternatives=list(record.alternatives) if record.alternatives else None,
        ms=round(usage.ms, 2),
        prefill_tokens=usage.prefill_tokens,
        reused_tokens=usage.reused_tokens,
        decoded_tokens=usage.decoded_tokens,
    )
