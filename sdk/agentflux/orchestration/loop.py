"""The agent loop: decide, ask for approval, call, observe, again; then answer.

Pure logic over the ports. A tool's failure is an observation that the next stage reads. The loop
ends by itself: `finish`, `none`, a repeated call, or a budget.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Step, ToolCall, ToolSpec
from agentflux.orchestration.events import AnswerText, CallFinished, CallStarted, Event
from agentflux.orchestration.stages import Stages
from agentflux.ports import CancelToken, StageRecord, ToolHost, check_cancelled

Approver = Callable[[ToolCall, ToolSpec], bool]
Stopped = Literal["answered", "abstained", "repeated", "steps", "seconds", "tokens", "arguments"]

DECLINED = "The user did not approve this call."


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a run ends although the model would go on. tokens: prefilled and decoded, all stages."""

    steps: int = 8
    seconds: float = 120.0
    tokens: int = 20_000
    tool_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run did. `stopped` says why it ended; "answered" and "abstained" are the good ends."""

    request: str
    steps: tuple[Step, ...]
    answer: str
    stopped: Stopped
    trace: tuple[StageRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `afx run --json` prints."""
        steps = [
            {
                "tool_set": s.call.tool_set,
                "tool": s.call.tool,
                "arguments": s.call.arguments,
                "observation": s.observation,
                "is_error": s.is_error,
            }
            for s in self.steps
        ]
        return {
            "request": self.request,
            "steps": steps,
            "answer": self.answer,
            "stopped": self.stopped,
            "trace": [stage_dict(record) for record in self.trace],
        }

    def to_json(self) -> str:
        """Return the trace as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def stage_dict(record: StageRecord) -> dict[str, Any]:
    """Flatten a stage record: its own fields and those of its usage. ms is rounded to 0.01."""
    row = asdict(record)
    usage = row.pop("usage")
    usage["ms"] = round(usage["ms"], 2)
    return {
        key: value for key, value in (row | usage).items() if value is not None or key == "adapter"
    }


@dataclass(slots=True)
class _Run:
    """The state of one run."""

    request: str
    context: str
    steps: list[Step] = field(default_factory=list[Step])
    trace: list[StageRecord] = field(default_factory=list[StageRecord])
    started: float = field(default_factory=time.monotonic)

    def situation(self) -> Situation:
        return Situation(request=self.request, context=self.context, steps=tuple(self.steps))

    def tokens(self) -> int:
        return sum(r.usage.prefill_tokens + r.usage.decoded_tokens for r in self.trace)

    def exhausted(self, budget: Budget) -> Stopped | None:
        if len(self.steps) >= budget.steps:
            return "steps"
        if time.monotonic() - self.started > budget.seconds:
            return "seconds"
        return "tokens" if self.tokens() > budget.tokens else None


class AgentLoop:
    """Runs requests over stages and a host. Safe to use from several threads."""

    def __init__(self, stages: Stages, host: ToolHost, approve: Approver) -> None:
        self._stages, self._host, self._approve = stages, host, approve

    def run(
        self,
        request: str,
        *,
        context: str = "",
        budget: Budget,
        emit: Callable[[Event], None],
        cancel: CancelToken | None = None,
    ) -> RunResult:
        """Serve one request.

        Raises:
            Cancelled: `cancel` was set. ContextOverflow, EngineError: the model cannot go on.
            ToolHostError: a server is gone for good.
        """
        run = _Run(request=request, context=context)
        stopped = run.exhausted(budget)
        while stopped is None:
            stopped = self._step(run, budget, emit, cancel) or run.exhausted(budget)

        answer, record = self._stages.answer(
            run.situation(),
            emit=emit,
            on_text=lambda text: emit(AnswerText(text=text)),
            cancel=cancel,
        )
        run.trace.append(record)
        return RunResult(
            request=request,
            steps=tuple(run.steps),
            answer=answer,
            stopped=stopped,
            trace=tuple(run.trace),
        )

    def _step(
        self,
        run: _Run,
        budget: Budget,
        emit: Callable[[Event], None],
        cancel: CancelToken | None,
    ) -> Stopped | None:
        check_cancelled(cancel)
        decision = self._stages.decide(run.situation(), emit=emit, cancel=cancel)
        run.trace.extend(decision.stages)
        if decision.call is None:
            return "answered" if run.steps else "abstained"
        if any(step.call == decision.call for step in run.steps):
            return "repeated"
        step = self._perform(decision.call, decision.problem, budget, emit)
        run.steps.append(step)
        return "arguments" if decision.problem and _failed_twice(run.steps) else None

    def _perform(
        self, call: ToolCall, problem: str, budget: Budget, emit: Callable[[Event], None]
    ) -> Step:
        if problem:
            step = Step(call=call, observation=problem, is_error=True)
        elif not self._approve(call, self._spec(call)):
            step = Step(call=call, observation=DECLINED, is_error=True)
        else:
            emit(CallStarted(call=call))
            result = self._host.call(call, timeout_s=budget.tool_seconds)
            step = Step(call=call, observation=result.text, is_error=result.is_error)
        emit(CallFinished(step=step))
        return step

    def _spec(self, call: ToolCall) -> ToolSpec:
        return next(t for t in self._stages.catalog[call.tool_set] if t.name == call.tool)


def _failed_twice(steps: list[Step]) -> bool:
    return len(steps) >= 2 and all(step.is_error for step in steps[-2:])
