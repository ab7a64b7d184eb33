"""What ends a run, and what a run returns."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agentflux.contracts.tools import Step
from agentflux.ports import StageRecord

Stopped = Literal[
    "answered",
    "abstained",
    "needs_input",
    "repeated",
    "steps",
    "seconds",
    "tokens",
    "arguments",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a run ends although the model would go on. tokens: prefilled and decoded, all stages.

    seconds: without the time that a person takes to approve calls. steps: with those that the run
    started from.
    """

    steps: int = 8
    seconds: float = 120.0
    tokens: int = 20_000
    tool_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run did. `stopped` says why it ended; "answered" and "abstained" are the good ends.

    "needs_input": the request lacks a value that the next call needs; `answer` asks for it. Run
    again with the reply added to the request, and `steps=result.steps`.
    steps: with those that the run started from. trace: the stages that this process computed.
    """

    request: str
    steps: tuple[Step, ...]
    answer: str
    stopped: Stopped
    trace: tuple[StageRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `afx run --json` prints."""
        return {
            "request": self.request,
            "steps": [step_dict(step) for step in self.steps],
            "answer": self.answer,
            "stopped": self.stopped,
            "trace": [stage_dict(record) for record in self.trace],
        }

    def to_json(self) -> str:
        """Return the trace as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def step_dict(step: Step) -> dict[str, Any]:
    """Flatten a step: its call's fields and its observation."""
    return {
        "tool_set": step.call.tool_set,
        "tool": step.call.tool,
        "arguments": step.call.arguments,
        "observation": step.observation,
        "is_error": step.is_error,
    }


def stage_dict(record: StageRecord) -> dict[str, Any]:
    """Flatten a stage record: its own fields and those of its usage. ms is rounded to 0.01."""
    row = asdict(record)
    usage = row.pop("usage")
    usage["ms"] = round(usage["ms"], 2)
    return {
        key: value for key, value in (row | usage).items() if value is not None or key == "adapter"
    }
