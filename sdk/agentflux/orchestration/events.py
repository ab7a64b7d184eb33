"""What a run tells a user interface while it goes on."""

from dataclasses import dataclass

from agentflux.contracts.tools import Step, ToolCall
from agentflux.ports import StageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A stage is about to compute, under `adapter` (None: the base model)."""

    stage: str
    adapter: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFinished:
    """A stage is done."""

    record: StageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """An approved call goes to its server."""

    call: ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished:
    """The call's observation is there."""

    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerText:
    """A new piece of the final answer."""

    text: str


Event = StageStarted | StageFinished | CallStarted | CallFinished | AnswerText
