"""One run in its thread: from the request, or from where a crash left it, to its end."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agentflux import (
    Agent,
    AgentFluxError,
    Budget,
    CallFinished,
    CancelToken,
    Journal,
    Situation,
    StageFinished,
    ToolCall,
    ToolSpec,
    errors,
)
from edge_service.metrics import Metrics
from edge_service.runs.events import call_data, told
from edge_service.runs.hub import Hub
from edge_service.runs.schema import ENDED, EventType, PendingCall, Run, Status
from edge_service.runs.store import RunStore
from edge_service.settings import Settings
from edge_service.work import WAKE_S, Ticket

log = logging.getLogger("edge_service.runs")
Approve = Literal["read_only", "all"] | Callable[[ToolCall, ToolSpec], bool]


@dataclass(slots=True)
class Question:
    """A call that waits for a person."""

    call: PendingCall
    answered: threading.Event = field(default_factory=threading.Event)
    approve: bool = False


@dataclass(slots=True)
class Active:
    """A run in this process. interrupted: it is to go on after the next start."""

    id: str
    ticket: Ticket
    cancel: CancelToken = field(default_factory=CancelToken)
    question: Question | None = None
    interrupted: bool = False


def reads(spec: ToolSpec) -> bool:
    """Tell whether the tool says that it only reads: then nobody is asked."""
    return spec.read_only is True and spec.destructive is not True


def journals(settings: Settings) -> Path:
    """Return the folder of the open runs' journals."""
    return settings.data / "journals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Executes runs for the runner."""

    agent: Agent
    settings: Settings
    store: RunStore
    metrics: Metrics
    hub: Hub

    def work(self, active: Active, *, resumed: bool) -> None:
        """Serve the run. Every end is written here; an interrupted run stays open."""
        try:
            run = self.store.get(active.id, tenant=None)
            if run is None or run.status in ENDED:
                return
            if active.cancel.cancelled or self.store.cancel_asked(active.id):
                raise errors.Cancelled("the run was cancelled")
            self._serve(active, run, resumed=resumed)
        except errors.Cancelled:
            if self.store.cancel_asked(active.id) or not active.interrupted:
                self._end(active.id, "cancelled", "run_cancelled", {})
        except AgentFluxError as error:
            self._end(active.id, "failed", "run_failed", {"error": str(error)})
        except Exception:
            log.exception("run %s failed", active.id)
            why = {"error": "the service failed; its log tells more"}
            self._end(active.id, "failed", "run_failed", why)

    def _serve(self, active: Active, run: Run, *, resumed: bool) -> None:
        self._tell(active.id, "run_resumed" if resumed else "run_started", {}, status="running")
        with Journal(self._journal(active.id)) as journal:
            begun = journal.recording.start if journal.recording is not None else None
        self._tell_what_the_journal_knows(active.id, begun, told_steps=len(run.steps))
        given = "\n".join(text for text in (self.settings.context, run.context) if text)

        def heard(event: object) -> None:
            if isinstance(event, StageFinished):
                self.metrics.stages([event.record])
            elif isinstance(event, CallFinished):
                self.metrics.call(is_error=event.step.is_error)
            if (said := told(event)) is not None:
                self._tell(active.id, *said)

        result = self.agent.run(
            run.request,
            # A run that has begun goes on in the context that it began with.
            context=begun.context if begun is not None else given,
            budget=Budget(steps=run.max_steps),
            approve=self._approver(active),
            on_event=heard,
            cancel=active.cancel,
            journal=self._journal(active.id),
        )
        end = {"answer": result.answer, "stopped": result.stopped}
        self._end(active.id, "completed", "run_completed", end)

    def _tell_what_the_journal_knows(
        self, run_id: str, begun: Situation | None, *, told_steps: int
    ) -> None:
        """Tell the calls that were answered when the process ended, before that was told."""
        for step in begun.steps[told_steps:] if begun is not None else ():
            if (said := told(CallFinished(step=step))) is not None:
                self._tell(run_id, *said)

    def _approver(self, active: Active) -> Approve:
        """Return who decides on the calls that the policy leaves open."""
        if self.settings.approve != "ask":
            return self.settings.approve
        return lambda call, spec: reads(spec) or self._ask(active, call, spec)

    def _ask(self, active: Active, call: ToolCall, spec: ToolSpec) -> bool:
        pending = PendingCall(
            call_id=f"call_{secrets.token_hex(8)}",
            description=spec.description,
            **call_data(call),
        )
        active.question = question = Question(pending)
        active.ticket.step_aside()
        shown = pending.model_dump(mode="json")
        waits = pending.model_dump_json()
        self._tell(active.id, "approval_needed", shown, status="waiting", pending=waits)
        deadline = time.monotonic() + self.settings.approval_seconds
        while not question.answered.wait(WAKE_S) and not active.cancel.cancelled:
            if time.monotonic() > deadline:
                question.answered.set()
        active.question = None
        if active.cancel.cancelled:
            return False
        given = {"call_id": pending.call_id, "approved": question.approve}
        self._tell(active.id, "approval_given", given, status="running")
        return active.ticket.come_back(active.cancel) and question.approve

    def _journal(self, run_id: str) -> Path:
        folder = journals(self.settings)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / f"{run_id}.jsonl"

    def _end(self, run_id: str, status: Status, kind: EventType, data: Mapping[str, Any]) -> None:
        self._tell(run_id, kind, data, status=status, **data)
        self._journal(run_id).unlink(missing_ok=True)

    def _tell(
        self,
        run_id: str,
        kind: EventType,
        data: Mapping[str, Any],
        *,
        status: Status | None = None,
        **columns: object,
    ) -> None:
        written = self.store.append(run_id, kind, data, status=status, **columns)
        if written and status in ENDED:
            self.metrics.run_ended(str(status))
        self.hub.notify(run_id)
