"""The agent as an MCP server at `/mcp` (streamable HTTP), so that other agents can use it.

The runs are the caller's own: they show on the page, and calls that change something wait there for
an approval.
"""

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_service.runs.schema import ENDED, Run, RunRequest
from edge_service.security.keys import Principal

if TYPE_CHECKING:
    from edge_service.parts import Parts

_POLL_S = 1.0
_HELP = (
    "Give a request in plain words to the agent of this device. It uses the device's own tools and "
    "returns its answer with the calls that it made. A person may have to approve calls."
)


class McpEndpoint:
    """The routes, and the session manager that must run beside the application."""

    def __init__(self, name: str, parts: "Callable[[], Parts]") -> None:
        """parts: asked for at each call, since the application is made first."""
        from mcp.server.mcpserver import Context, MCPServer
        from mcp.server.transport_security import TransportSecuritySettings

        server = MCPServer(name, instructions=_HELP)

        @server.tool(name="ask_device_agent", description=_HELP)
        async def ask_device_agent(request: str, ctx: Context, context: str = "") -> str:
            asked = RunRequest(request=request, context=context)
            run = await _served(parts(), _principal(ctx), asked)
            return json.dumps(_told(run), ensure_ascii=False)

        # The gate before it has checked host, origin and key already.
        open_door = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        served = server.streamable_http_app(
            streamable_http_path="/mcp", stateless_http=True, transport_security=open_door
        )
        self.routes = tuple(served.routes)
        self.sessions = server.session_manager


def _principal(ctx: object) -> Principal:
    request = ctx.request_context.request  # type: ignore[attr-defined]
    principal: Principal = request.scope["state"]["principal"]
    return principal


async def _served(parts: "Parts", principal: Principal, asked: RunRequest) -> Run:
    """Start a run and wait for its end; a caller that goes away cancels it."""
    run_id = parts.runner.submit(principal.tenant, asked)
    try:
        with parts.runner.hub.listen(run_id) as listener:
            while True:
                run = parts.store.get(run_id, tenant=principal.tenant)
                assert run is not None, "it was just made"
                if run.status in ENDED or parts.runner.hub.closed:
                    return run
                await listener.heard(_POLL_S)
    except asyncio.CancelledError:
        parts.runner.cancel(run_id)
        raise


def _told(run: Run) -> dict[str, object]:
    steps = [step.model_dump() for step in run.steps]
    end = {"answer": run.answer, "stopped": run.stopped, "error": run.error, "steps": steps}
    return {"run": run.id, "status": run.status, **end}
