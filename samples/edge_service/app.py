"""The application: its parts, its routes, what runs beside them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastapi import FastAPI
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse

from agentflux import Agent
from edge_service import operations, problems
from edge_service.database import Database
from edge_service.mcp_endpoint import McpEndpoint
from edge_service.metrics import Metrics
from edge_service.openai_api import routes as openai_routes
from edge_service.openai_api.tools import ToolNames
from edge_service.parts import Parts
from edge_service.problems import ErrorAnswer
from edge_service.runs import routes as run_routes
from edge_service.runs.execution import Execution, journals
from edge_service.runs.hub import Hub
from edge_service.runs.retention import keep_clean, remove_spent_journals
from edge_service.runs.runner import Runner
from edge_service.runs.store import RunStore
from edge_service.security.gate import Gate
from edge_service.security.keys import Keys
from edge_service.settings import Settings
from edge_service.work import WorkQueue

log = logging.getLogger("edge_service")
WEB = Path(__file__).parent / "web"
VERSION = "0.1.0"
_MEMORY_SAMPLE_S = 5.0
_WARM_UP_AGAIN_S = 30.0


def create_app(settings: Settings, agent: Agent, database: Database) -> FastAPI:
    """Build the application over an open agent. Closing the agent stays the caller's duty."""
    queue = WorkQueue(places=settings.concurrency, waiting=settings.queue)
    metrics = Metrics(queue)
    endpoint = McpEndpoint(agent.manifest.name, lambda: _parts(app))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts = _make_parts(settings, agent, database, queue, metrics)
        app.state.parts = parts
        async with endpoint.sessions.run(), _beside(app, parts):
            yield
            await app.state.stop()

    app = FastAPI(
        title="AgentFlux edge service",
        version=VERSION,
        description="The agent of this device: OpenAI-compatible chat, and runs on its own tools.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}},
    )
    app.state.closing, app.state.warm = asyncio.Event(), asyncio.Event()
    app.state.stop = lambda: _stop(app)
    problems.install(app)
    key = HTTPBearer(auto_error=False, description="a key of `afx-serve keys add`")
    _add_routes(app, key)
    app.router.routes.extend(endpoint.routes)
    app.add_middleware(
        Gate,
        settings=settings,
        keys=Keys(database),
        observe=metrics.http,
        closing=app.state.closing,
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            expose_headers=["Retry-After", "X-Queue-Position", "X-Request-ID"],
        )
    return app


def _add_routes(app: FastAPI, key: HTTPBearer) -> None:
    from fastapi import Depends

    secured = [Depends(key)]
    app.include_router(openai_routes.router, dependencies=secured)
    app.include_router(run_routes.router, dependencies=secured)
    app.include_router(operations.router)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(WEB / "docs.html")

    app.mount("/web", StaticFiles(directory=WEB), name="web")


def _parts(app: FastAPI) -> Parts:
    parts: Parts = app.state.parts
    return parts


def _make_parts(
    settings: Settings, agent: Agent, database: Database, queue: WorkQueue, metrics: Metrics
) -> Parts:
    store = RunStore(database)
    execution = Execution(
        agent=agent,
        settings=settings,
        store=store,
        metrics=metrics,
        hub=Hub(),
    )
    manifest = agent.manifest
    return Parts(
        agent=agent,
        settings=settings,
        names=ToolNames((tool.tool_set, tool.name) for tool in manifest.catalog),
        queue=queue,
        threads=ThreadPoolExecutor(settings.concurrency, thread_name_prefix="completion"),
        metrics=metrics,
        store=store,
        runner=Runner(execution, queue),
        fingerprint=f"afx_{manifest.base_model.weights_sha256[:12]}",
        started_at=int(time.time()),
    )


@contextlib.asynccontextmanager
async def _beside(app: FastAPI, parts: Parts) -> AsyncIterator[None]:
    """Warm the model up, go on with open runs, sample the memory, forget old runs."""

    async def begin() -> None:
        with _logged("spent journals were not removed"):
            remove_spent_journals(parts.store, journals(parts.settings))
        while not app.state.warm.is_set():
            with _logged("the model was not warmed up; trying again"):
                await asyncio.to_thread(parts.agent.warm_up)
                app.state.warm.set()
            if not app.state.warm.is_set():
                await asyncio.sleep(_WARM_UP_AGAIN_S)
        with _logged("open runs do not go on before the next start"):
            parts.runner.recover()

    async def sample() -> None:
        while True:
            with _logged("memory was not read"):
                await asyncio.to_thread(parts.metrics.sample_memory)
            await asyncio.sleep(_MEMORY_SAMPLE_S)

    tasks = [asyncio.create_task(begin()), asyncio.create_task(sample())]
    tasks.append(asyncio.create_task(keep_clean(parts.store, parts.settings)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        parts.threads.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log what goes wrong beside the requests, and go on."""
    try:
        yield
    except Exception:
        log.exception(what)


async def _stop(app: FastAPI) -> None:
    """Refuse new work, let open work end. Safe to call twice."""
    if not app.state.closing.is_set():
        app.state.closing.set()
        parts = _parts(app)
        await parts.runner.drain(parts.settings.drain_seconds)
