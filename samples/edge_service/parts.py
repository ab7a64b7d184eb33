"""What the routes share."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastapi import Request

from agentflux import Agent
from edge_service.metrics import Metrics
from edge_service.openai_api.tools import ToolNames
from edge_service.runs.runner import Runner
from edge_service.runs.store import RunStore
from edge_service.security.keys import Principal
from edge_service.settings import Settings
from edge_service.work import WorkQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The service's parts, made once. started_at: seconds since 1970."""

    agent: Agent
    settings: Settings
    names: ToolNames
    queue: WorkQueue
    threads: ThreadPoolExecutor
    metrics: Metrics
    store: RunStore
    runner: Runner
    fingerprint: str
    started_at: int


def parts_of(request: Request) -> Parts:
    """Return the parts of the application that serves the request."""
    parts: Parts = request.app.state.parts
    return parts


def principal_of(request: Request) -> Principal:
    """Return who asks; the gate has checked the key."""
    principal: Principal = request.scope["state"]["principal"]
    return principal
