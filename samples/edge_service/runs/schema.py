"""The wire format of `/v1/runs`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
EventType = Literal[
    "run_created",
    "run_started",
    "run_resumed",
    "stage_started",
    "stage_finished",
    "approval_needed",
    "approval_given",
    "call_started",
    "call_finished",
    "answer_text",
    "run_completed",
    "run_failed",
    "run_cancelled",
]


class RunRequest(BaseModel):
    """What the agent is to do. context: shown to the model before the request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: str = Field(min_length=1, max_length=20_000)
    context: str = Field(default="", max_length=20_000)
    max_steps: int = Field(default=8, ge=1, le=32)


class CallView(BaseModel):
    """A call."""

    tool_set: str
    tool: str
    arguments: dict[str, Any]


class StepView(CallView):
    """A call and its observation."""

    observation: str
    is_error: bool


class PendingCall(CallView):
    """A call that waits for a person."""

    call_id: str
    description: str = ""


class Run(BaseModel):
    """A run. Times in seconds since 1970. stopped: why the loop ended, "answered" is the good end.

    last_event: the id of the newest event.
    """

    id: str
    object: Literal["run"] = "run"
    status: Status
    request: str
    context: str
    max_steps: int
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    steps: list[StepView] = Field(default_factory=list[StepView])
    pending: PendingCall | None = None
    answer: str | None = None
    stopped: str | None = None
    error: str | None = None
    last_event: int


class RunList(BaseModel):
    """Runs of the caller's tenant, newest first."""

    object: Literal["list"] = "list"
    data: list[Run]


class ApprovalAnswer(BaseModel):
    """Yes or no to exactly the pending call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    call_id: str
    approve: bool
