"""`/v1/runs`: start, watch, approve, cancel."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import StreamingResponse

from edge_service.parts import Parts, parts_of, principal_of
from edge_service.problems import ErrorAnswer, Problem, busy
from edge_service.runs.schema import ENDED, ApprovalAnswer, Run, RunList, RunRequest
from edge_service.work import QueueFull

router = APIRouter(tags=["Runs"], prefix="/v1/runs")
KEEP_ALIVE_S = 15.0
RunId = Annotated[str, Path(pattern=r"^run_[0-9a-f]{24}$")]
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}}


@router.post("", status_code=202, responses={429: {"model": ErrorAnswer}})
async def create_run(request: Request, asked: RunRequest) -> Run:
    """Start a run on the service's own tools; follow it by its events."""
    parts = parts_of(request)
    try:
        run_id = parts.runner.submit(principal_of(request).tenant, asked)
    except QueueFull as full:
        raise busy(full.retry_after_s) from full
    return _run(request, run_id)


@router.get("")
async def list_runs(request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> RunList:
    """List the newest runs of the key's tenant."""
    store = parts_of(request).store
    return RunList(data=store.newest(principal_of(request).tenant, limit=limit))


@router.get("/{run_id}", responses=_NOT_FOUND)
async def get_run(request: Request, run_id: RunId) -> Run:
    """Show a run: its steps, its pending call, its answer."""
    return _run(request, run_id)


@router.get(
    "/{run_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **_NOT_FOUND},
)
async def stream_events(
    request: Request,
    run_id: RunId,
    after: Annotated[int, Query(ge=0, le=2**53, description="the last event seen")] = 0,
    last_event_id: Annotated[str | None, Header(description="wins over `after`")] = None,
) -> StreamingResponse:
    """Stream the events of a run, first those behind `Last-Event-ID`, then as they happen.

    The stream ends with the run. A client that lost it asks again with the last id that it saw.
    """
    run = _run(request, run_id)
    if last_event_id is not None:
        if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16):
            text = "Last-Event-ID must be the id of an event, a number"
            raise Problem(400, text, "invalid_value", "last-event-id")
        after = int(last_event_id)
    stream = _events(parts_of(request), run.id, after)
    return StreamingResponse(stream, media_type="text/event-stream")


@router.post("/{run_id}/approval", responses={**_NOT_FOUND, 409: {"model": ErrorAnswer}})
async def answer_approval(request: Request, run_id: RunId, answer: ApprovalAnswer) -> Run:
    """Approve or deny exactly the pending call."""
    run = _run(request, run_id)
    if not parts_of(request).runner.answer(run.id, answer.call_id, approve=answer.approve):
        text = "this call does not wait for an answer (any more)"
        raise Problem(409, text, "not_pending", "call_id")
    return _run(request, run_id)


@router.post("/{run_id}/cancel", responses=_NOT_FOUND)
async def cancel_run(request: Request, run_id: RunId) -> Run:
    """Ask a run to stop. What has ended stays as it is; a call that is out is not undone."""
    run = _run(request, run_id)
    if run.status not in ENDED:
        parts_of(request).runner.cancel(run.id)
    return _run(request, run_id)


def _run(request: Request, run_id: str) -> Run:
    """Return a run of the key's tenant; another tenant's run does not exist."""
    run = parts_of(request).store.get(run_id, tenant=principal_of(request).tenant)
    if run is None:
        raise Problem(404, f"there is no run {run_id!r}", "run_not_found", "run_id")
    return run


async def _events(parts: Parts, run_id: str, after: int) -> AsyncIterator[str]:
    store, hub = parts.store, parts.runner.hub
    yield ": connected\n\n"
    with hub.listen(run_id) as listener:
        while True:
            closing = hub.closed
            found = await asyncio.to_thread(store.events, run_id, after=after)
            for event in found:
                after = event.seq
                yield event.sse()
            if found and found[-1].type in ("run_completed", "run_failed", "run_cancelled"):
                return
            if not found:
                run = store.get(run_id, tenant=None)
                if closing or run is None or (run.status in ENDED and after >= run.last_event):
                    return
                if not await listener.heard(KEEP_ALIVE_S):
                    yield ": still here\n\n"
