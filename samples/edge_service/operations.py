"""Health, metrics, the tool catalog and what the page's charts show."""

import asyncio

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from agentflux import ToolSpec, errors
from edge_service.parts import Parts, parts_of
from edge_service.problems import ErrorAnswer, Problem
from edge_service.runs.execution import reads

router = APIRouter(tags=["Operations"])


class Health(BaseModel):
    """live: the process answers. ready: the model is warm, and no stop has begun."""

    status: str
    ready: bool


class ToolView(BaseModel):
    """A tool of the service. asks: a person is asked, unless the policy decides."""

    name: str
    description: str
    read_only: bool | None
    destructive: bool | None
    idempotent: bool | None
    asks: bool
    input_schema: dict[str, object]


class ToolSetView(BaseModel):
    """One server's tools."""

    name: str
    tools: list[ToolView]


class HeldView(BaseModel):
    """A tool that changed since the bundle was exported, or since it was accepted.

    It cannot be called until a person accepts it as it is now. sha256: of name, description, schema
    and the three hints.
    """

    tool_set: str
    since: str
    sha256: str
    tool: ToolView


class Catalog(BaseModel):
    """All tools."""

    bundle: str
    base_model: str
    tool_sets: list[ToolSetView]
    held: list[HeldView]


class Acceptance(BaseModel):
    """A held tool as it was shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool_set: str
    tool: str
    sha256: str


class StageSample(BaseModel):
    """The model time of a stage, at a moment in seconds since 1970."""

    stage: str
    ms: float
    at: float


class MemorySample(BaseModel):
    """The resident memory at a moment: of the service, the model and the tool servers."""

    at: float
    bytes: int


class Stats(BaseModel):
    """The newest samples, oldest first; the queue now."""

    stages: list[StageSample]
    memory: list[MemorySample]
    waiting: int
    working: int


@router.get("/health/live")
async def live() -> Health:
    """Tell that the process answers."""
    return Health(status="live", ready=True)


@router.get("/health", responses={503: {"model": Health}})
@router.get("/health/ready", responses={503: {"model": Health}})
async def ready(request: Request) -> JSONResponse:
    """Tell whether requests are served without delay."""
    state = request.app.state
    fine = state.warm.is_set() and not state.closing.is_set()
    said = "ready" if fine else ("stopping" if state.closing.is_set() else "warming up")
    return JSONResponse(Health(status=said, ready=fine).model_dump(), 200 if fine else 503)


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Tell all counters in Prometheus's text format."""
    text = parts_of(request).metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/tools", responses={401: {"model": ErrorAnswer}})
async def tools(request: Request) -> Catalog:
    """List the tools of the service's own servers."""
    return await asyncio.to_thread(_catalog, parts_of(request))


@router.post("/v1/tools/accept", responses={409: {"model": ErrorAnswer}})
async def accept_tool(request: Request, accepted: Acceptance) -> Catalog:
    """Accept a held tool exactly as it was shown."""
    parts = parts_of(request)
    accept = parts.agent.accept
    try:
        await asyncio.to_thread(accept, accepted.tool_set, accepted.tool, sha256=accepted.sha256)
    except errors.ConfigError as error:
        raise Problem(409, str(error), "not_held", "tool") from error
    return await asyncio.to_thread(_catalog, parts)


def _catalog(parts: Parts) -> Catalog:
    """Ask for all tools. Waits while a tool server restarts, so not in the event loop."""
    manifest = parts.agent.manifest
    return Catalog(
        bundle=manifest.name,
        base_model=manifest.base_model.id,
        tool_sets=[
            ToolSetView(name=name, tools=[_tool(parts, tool) for tool in found])
            for name, found in parts.agent.catalog.items()
        ],
        held=[
            HeldView(
                tool_set=one.tool.tool_set,
                since=one.since,
                sha256=one.sha256,
                tool=_tool(parts, one.tool),
            )
            for one in parts.agent.held
        ],
    )


def _tool(parts: Parts, tool: ToolSpec) -> ToolView:
    return ToolView(
        name=tool.name,
        description=tool.description,
        read_only=tool.read_only,
        destructive=tool.destructive,
        idempotent=tool.idempotent,
        asks=parts.settings.approve == "ask" and not reads(tool),
        input_schema=dict(tool.input_schema),
    )


@router.get("/v1/stats")
async def stats(request: Request) -> Stats:
    """Show the newest stage times and memory samples."""
    parts = parts_of(request)
    stages, memory = parts.metrics.recent()
    return Stats(
        stages=[StageSample.model_validate(row) for row in stages],
        memory=[MemorySample(at=at, bytes=size) for at, size in memory],
        waiting=parts.queue.waiting,
        working=parts.queue.working,
    )
