"""`/v1/models` and `/v1/chat/completions`."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from agentflux import AgentFluxError
from edge_service.openai_api.answering import Answer, Answering
from edge_service.openai_api.schema import (
    AnswerMessage,
    ChatRequest,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Delta,
    Model,
    ModelList,
    ToolCallDelta,
)
from edge_service.parts import Parts, parts_of
from edge_service.problems import ErrorAnswer, Problem, busy, from_sdk
from edge_service.work import QueueFull, Ticket

router = APIRouter(tags=["OpenAI"])
T = TypeVar("T")
_DISCONNECT_POLL_S = 0.5


@router.get("/v1/models")
async def list_models(request: Request) -> ModelList:
    """List the bundle and its adapters."""
    return ModelList(data=_models(parts_of(request)))


@router.get("/v1/models/{model}")
async def get_model(request: Request, model: str) -> Model:
    """Show one model."""
    return _model(parts_of(request), model)


@router.post(
    "/v1/chat/completions",
    response_model=Completion,
    responses={200: {"content": {"text/event-stream": {}}}, 429: {"model": ErrorAnswer}},
)
async def create_completion(request: Request, asked: ChatRequest) -> Response:
    """Write the next message: a tool call by the decoupled stages, or text by the base model."""
    parts = parts_of(request)
    model = _model(parts, asked.model)
    if model.parent is not None:
        text = f"an adapter serves its stage; ask for {model.parent!r}, which activates it"
        raise Problem(400, text, "model_is_adapter", "model")
    limit = parts.settings.max_tokens
    answering = Answering(parts.agent, asked, parts.names, limit)
    head = _Head(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model.id, parts.fingerprint)
    try:
        ticket = parts.queue.enter()
    except QueueFull as full:
        raise busy(full.retry_after_s) from full
    pieces = _pieces(parts, answering, ticket)
    # Where it stood in the line: 1 is computed at once.
    position = {"X-Queue-Position": str(ticket.ahead + 1)}
    if not asked.stream:
        return await _whole(request, answering, head, pieces, position)
    first = await _while_connected(request, answering, anext(pieces))
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    events = _events(head, first, pieces, with_usage=usage)
    return StreamingResponse(events, media_type="text/event-stream", headers=position)


@dataclass(frozen=True, slots=True)
class _Head:
    """The fields that all chunks of an answer share."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    def chunk(self, delta: Delta, finish: Answer | None = None) -> str:
        choice = ChunkChoice(delta=delta, finish_reason=finish.finish if finish else None)
        return self._event([choice], finish)

    def usage(self, answer: Answer) -> str:
        return self._event([], None, answer)

    def _event(
        self, choices: list[ChunkChoice], end: Answer | None, usage: Answer | None = None
    ) -> str:
        chunk = Chunk(
            id=self.id,
            created=self.created,
            model=self.model,
            system_fingerprint=self.system_fingerprint,
            choices=choices,
            usage=usage.usage() if usage else None,
            agentflux=end.own() if end else None,
        )
        body = chunk.model_dump()
        for choice in body["choices"]:
            choice["delta"] = {k: v for k, v in choice["delta"].items() if v is not None}
            for call in choice["delta"].get("tool_calls", ()):
                for key in [k for k, v in call.items() if v is None]:
                    del call[key]
        for key in ("usage", "agentflux"):
            if body[key] is None:
                del body[key]
        return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


async def _pieces(
    parts: Parts, answering: Answering, ticket: Ticket
) -> AsyncIterator[str | Answer]:
    """Wait for a place, compute in a thread; yield pieces of text, then the answer.

    Closing the iterator cancels the work; the place is given back when the thread has stopped.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[str | Answer | Exception] = asyncio.Queue()

    def put(item: str | Answer | Exception) -> None:
        loop.call_soon_threadsafe(ready.put_nowait, item)

    def work() -> None:
        try:
            put(answering.answer(put))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            put(error)
        finally:
            ticket.leave()

    seconds = parts.settings.request_seconds
    deadline = loop.time() + seconds
    try:
        # Not one asyncio.timeout around all: the pieces of a stream are awaited by several tasks.
        await asyncio.wait_for(ticket.granted(), seconds)
        working = loop.run_in_executor(parts.threads, work)
        while True:
            item = await asyncio.wait_for(ready.get(), max(0.0, deadline - loop.time()))
            if isinstance(item, AgentFluxError):
                raise from_sdk(item) from item
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Answer):
                parts.metrics.stages(item.stages)
                await working
                yield item
                return
            yield item
    except TimeoutError:
        text = f"no answer within {seconds:g} s"
        raise Problem(504, text, "request_timeout") from None
    finally:
        answering.cancel.cancel()


async def _while_connected(request: Request, answering: Answering, work: Awaitable[T]) -> T:
    """Wait for the work; stop computing when the client is gone."""
    working = asyncio.ensure_future(work)
    try:
        while not working.done():
            await asyncio.wait({working}, timeout=_DISCONNECT_POLL_S)
            if not working.done() and await request.is_disconnected():
                answering.cancel.cancel()
                raise Problem(499, "the client is gone", "client_closed")
        return working.result()
    finally:
        working.cancel()


async def _whole(
    request: Request,
    answering: Answering,
    head: _Head,
    pieces: AsyncIterator[str | Answer],
    headers: dict[str, str],
) -> Response:
    """Collect the answer."""

    async def collect() -> Answer:
        async for piece in pieces:
            if isinstance(piece, Answer):
                return piece
        raise Problem(500, "the answer is missing", "internal_error")

    answer = await _while_connected(request, answering, collect())
    message = AnswerMessage(content=answer.text, tool_calls=list(answer.calls) or None)
    done = Completion(
        id=head.id,
        created=head.created,
        model=head.model,
        system_fingerprint=head.system_fingerprint,
        choices=[Choice(message=message, finish_reason=answer.finish)],
        usage=answer.usage(),
        agentflux=answer.own(),
    )
    leave_out = {"choices": {0: {"message": {"tool_calls"}}}} if not answer.calls else None
    body = done.model_dump_json(exclude=leave_out)
    return Response(body, media_type="application/json", headers=headers)


async def _events(
    head: _Head,
    first: str | Answer,
    rest: AsyncIterator[str | Answer],
    *,
    with_usage: bool,
) -> AsyncIterator[str]:
    """Write the stream. An error after its begin is an event, as in OpenAI's own streams."""
    begin = head.chunk(Delta(role="assistant", content=""))
    try:
        piece: str | Answer | None = first
        while isinstance(piece, str):
            yield begin + head.chunk(Delta(content=piece))
            begin, piece = "", await anext(rest, None)
        if isinstance(piece, Answer):
            yield begin + _ending(head, piece, with_usage=with_usage)
    except Problem as problem:
        yield f"data: {problem.body().model_dump_json()}\n\n"
        return
    yield "data: [DONE]\n\n"


def _ending(head: _Head, answer: Answer, *, with_usage: bool) -> str:
    """Write the calls, the reason of the end, and the counts where they were asked for."""
    written = []
    for index, call in enumerate(answer.calls):
        function = {"name": call.function.name, "arguments": ""}
        opening = ToolCallDelta(index=index, id=call.id, type="function", function=function)
        arguments = {"arguments": call.function.arguments}
        body = ToolCallDelta(index=index, function=arguments)
        written += [head.chunk(Delta(tool_calls=[delta])) for delta in (opening, body)]
    written.append(head.chunk(Delta(), answer))
    if with_usage:
        written.append(head.usage(answer))
    return "".join(written)


def _models(parts: Parts) -> list[Model]:
    manifest, created = parts.agent.manifest, parts.started_at
    bundle = Model(id=manifest.name, created=created, owned_by="agentflux")
    adapters = [
        Model(id=entry.name, created=created, owned_by="agentflux", parent=manifest.name)
        for entry in manifest.adapters
    ]
    return [bundle, *adapters]


def _model(parts: Parts, name: str) -> Model:
    found = next((model for model in _models(parts) if model.id == name), None)
    if found is None:
        text = f"there is no model {name!r}; the bundle is {parts.agent.manifest.name!r}"
        raise Problem(404, text, "model_not_found", "model")
    return found
