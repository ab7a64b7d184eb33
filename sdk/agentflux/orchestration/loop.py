"""The agent loop: decide, ask for approval, call, observe, again; then answer.

Pure logic over the ports. A tool's failure is an observation that the next stage reads. The loop
ends by itself: `finish`, `none`, a repeated call, or a budget.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Step, ToolCall, ToolSpec
from agentflux.orchestration.approval import Gate, answered
from agentflux.orchestration.calls import call_tool
from agentflux.orchestration.events import (
    AnswerText,
    ApprovalGiven,
    ApprovalNeeded,
    CallFinished,
    CallStarted,
    Event,
)
from agentflux.orchestration.fitting import fitted
from agentflux.orchestration.journal import OUTCOME_UNKNOWN, Journal, Unanswered
from agentflux.orchestration.results import Budget, RunResult, Stopped
from agentflux.orchestration.stages import GREEDY, Decision, Stages
from agentflux.ports import CancelToken, Sampling, StageRecord, ToolHost, check_cancelled

DECLINED = "The user did not approve this call."
NOT_ALLOWED = "This call is not allowed here."
CHANGED = "The tool has changed and is held back until a person accepts it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What the caller of one run holds in hand. The gate asks in the run's own thread."""

    emit: Callable[[Event], None]
    gate: Gate
    budget: Budget
    sampling: Sampling = GREEDY
    cancel: CancelToken | None = None
    journal: Journal | None = None


@dataclass(slots=True)
class _Run:
    """The state of one run. unwritten: steps that lack arguments, so nothing was sent."""

    situation: Situation
    controls: Controls
    stages: Stages
    trace: list[StageRecord] = field(default_factory=list[StageRecord])
    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    question: str = ""
    unwritten: list[Step] = field(default_factory=list[Step])

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self.situation.steps)

    def add(self, step: Step, *, written: bool = True) -> None:
        """Put the step on record, then into the situation, then tell."""
        if self.controls.journal is not None:
            self.controls.journal.finished(step, written=written)
        if not written:
            self.unwritten.append(step)
        self.situation = replace(self.situation, steps=(*self.situation.steps, step))
        self.controls.emit(CallFinished(step=step))

    def failed_twice(self) -> bool:
        """Whether the arguments of the latest two steps could not be written."""
        return len(self.steps) > 1 and all(step in self.unwritten for step in self.steps[-2:])

    def seconds_left(self) -> float:
        return self.controls.budget.seconds - (time.monotonic() - self.started - self.waited)

    def tool_seconds(self) -> float:
        return max(0.1, min(self.controls.budget.tool_seconds, self.seconds_left()))

    def tokens(self) -> int:
        return sum(r.usage.prefill_tokens + r.usage.decoded_tokens for r in self.trace)

    def exhausted(self) -> Stopped | None:
        if len(self.situation.steps) >= self.controls.budget.steps:
            return "steps"
        if self.seconds_left() < 0:
            return "seconds"
        return "tokens" if self.tokens() > self.controls.budget.tokens else None


class AgentLoop:
    """Runs requests over stages and a host. Safe to use from several threads."""

    def __init__(self, stages: Callable[[], Stages], host: ToolHost) -> None:
        """Connect the parts. stages: asked before each step, so that changed tools are seen."""
        self._stages, self._host = stages, host

    def run(self, start: Situation, controls: Controls) -> RunResult:
        """Serve one request, from the steps that `start` or the journal says are done.

        Raises:
            Cancelled: `cancel` was set. ContextOverflow, EngineError: the model cannot go on.
            ToolHostError: a server is gone for good. JournalError: nothing can be recorded.
        """
        run = _Run(situation=start, controls=controls, stages=self._stages())
        if controls.journal is not None:
            recording = controls.journal.begin(start)
            run.situation, run.unwritten = recording.start, [*recording.unwritten]
            if recording.ended is not None:
                return _result(run, recording.ended.stopped, recording.ended.answer)
            if recording.unanswered is not None:
                self._settle(run, recording.unanswered)
        stopped = run.exhausted()
        while stopped is None:
            stopped = self._step(run) or run.exhausted()
        return self._answer(run, stopped)

    def _answer(self, run: _Run, stopped: Stopped) -> RunResult:
        controls = run.controls
        if run.question:
            controls.emit(AnswerText(text=run.question))
            return self._ended(run, stopped, run.question)
        answer, record = fitted(
            run.situation,
            lambda situation: run.stages.answer(
                situation,
                sampling=controls.sampling,
                emit=controls.emit,
                on_text=lambda text: controls.emit(AnswerText(text=text)),
                cancel=controls.cancel,
            ),
        )
        run.trace.append(record)
        return self._ended(run, stopped, answer)

    def _ended(self, run: _Run, stopped: Stopped, answer: str) -> RunResult:
        if run.controls.journal is not None:
            run.controls.journal.ended(stopped, answer)
        return _result(run, stopped, answer)

    def _step(self, run: _Run) -> Stopped | None:
        check_cancelled(run.controls.cancel)
        run.stages = self._stages()
        decision = self._decide(run)
        run.trace.extend(decision.stages)
        if decision.call is None:
            return "answered" if run.steps else "abstained"
        if decision.question:
            run.question = decision.question
            return "needs_input"
        if decision.problem:
            step = Step(call=decision.call, observation=decision.problem, is_error=True)
            run.add(step, written=False)
            return "arguments" if run.failed_twice() else None
        if any(step.call == decision.call for step in run.steps if step not in run.unwritten):
            return "repeated"
        self._perform(run, decision.call)
        return None

    def _decide(self, run: _Run) -> Decision:
        controls = run.controls
        return fitted(
            run.situation,
            lambda situation: run.stages.decide(
                situation,
                sampling=controls.sampling,
                emit=controls.emit,
                cancel=controls.cancel,
            ),
        )

    def _perform(self, run: _Run, call: ToolCall) -> None:
        tool = _spec(run.stages, call)
        refusal = self._refused(run, call, tool)
        if refusal or tool is None:
            run.add(Step(call=call, observation=refusal, is_error=True))
        else:
            self._send(run, call, tool)

    def _refused(self, run: _Run, call: ToolCall, tool: ToolSpec | None) -> str:
        """Say why the call may not go out; empty where it may."""
        if tool is None:
            return CHANGED
        verdict = run.controls.gate.rule(call, tool)
        if verdict == "deny":
            return NOT_ALLOWED
        if verdict == "ask" and not self._asked(run, call, tool):
            return DECLINED
        # A person may have taken their time: the yes was for the tool as it was shown.
        return "" if _spec(self._stages(), call) == tool else CHANGED

    def _asked(self, run: _Run, call: ToolCall, tool: ToolSpec) -> bool:
        """Ask, unless the journal of an interrupted run has the answer to this very call."""
        controls = run.controls
        known = controls.journal.approval(call, tool) if controls.journal is not None else None
        if known is not None:
            return known
        asked = time.monotonic()
        controls.emit(ApprovalNeeded(call=call, tool=tool))
        approved = answered(controls.gate.ask(call, tool))
        run.waited += time.monotonic() - asked
        check_cancelled(controls.cancel)
        if controls.journal is not None:
            controls.journal.approved(call, tool, approved=approved)
        controls.emit(ApprovalGiven(call=call, approved=approved))
        return approved

    def _send(self, run: _Run, call: ToolCall, tool: ToolSpec) -> None:
        controls = run.controls
        check_cancelled(controls.cancel)
        if controls.journal is not None:
            controls.journal.started(call, tool)
        controls.emit(CallStarted(call=call))
        result = call_tool(self._host, call, timeout_s=run.tool_seconds(), cancel=controls.cancel)
        run.add(Step(call=call, observation=result.text, is_error=result.is_error))

    def _settle(self, run: _Run, unanswered: Unanswered) -> None:
        """Deal with a call that left before the program stopped: repeat it only where that is safe.

        It was approved then, so nobody is asked again; what is forbidden now stays so.
        """
        tool, gate = _spec(run.stages, unanswered.call), run.controls.gate
        repeatable = tool is not None and unanswered.may_repeat(tool)
        if tool is not None and repeatable and gate.rule(unanswered.call, tool) != "deny":
            self._send(run, unanswered.call, tool)
        else:
            run.add(Step(call=unanswered.call, observation=OUTCOME_UNKNOWN, is_error=True))


def _spec(stages: Stages, call: ToolCall) -> ToolSpec | None:
    tools = stages.catalog.get(call.tool_set, ())
    return next((tool for tool in tools if tool.name == call.tool), None)


def _result(run: _Run, stopped: Stopped, answer: str) -> RunResult:
    return RunResult(
        request=run.situation.request,
        steps=run.steps,
        answer=answer,
        stopped=stopped,
        trace=tuple(run.trace),
    )
