"""What a run tells a user interface while it goes on."""

from dataclasses import dataclass

from agentflux.contracts.tools import Step, ToolCall, ToolSpec
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
class ApprovalNeeded:
    """The run waits for a yes or a no to exactly this call; `approve` is being asked."""

    call: ToolCall
    tool: ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven:
    """The answer is there."""

    call: ToolCall
    approved: bool


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


Event = (
    StageStarted
    | StageFinished
    | ApprovalNeeded
    | ApprovalGiven
    | CallStarted
    | CallFinished
    | AnswerText
)
