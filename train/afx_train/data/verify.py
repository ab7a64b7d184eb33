"""Execute gold calls on the real servers: what fails there is no training data.

One process and one session for each server, thousands of calls. The only module of this package
that speaks MCP.
"""

import asyncio
import tempfile
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from afx_train.data.generate import Draft
from afx_train.data.template import change_texts
from afx_train.data.worlds import Scene, ServerCommand
from afx_train.errors import DataError
from afx_train.trajectory import Trajectory, TrajectoryStep
from agentflux.errors import MissingExtra

if TYPE_CHECKING:
    from mcp import Client

CALL_TIMEOUT_S = 20.0
MAX_OBSERVATION_CHARS = 4000
AHEAD = 12


class Rejected(Exception):
    """A gold call did not do what it should; the draft is no data."""


class Servers:
    """The running servers of a data build."""

    def __init__(self, clients: "Mapping[str, Client]") -> None:
        self._clients = clients

    async def tools(self) -> dict[str, list[dict[str, Any]]]:
        """Return tools/list of every server with wire names."""
        listed: dict[str, list[dict[str, Any]]] = {}
        for name, client in self._clients.items():
            result = await client.list_tools()
            listed[name] = [
                tool.model_dump(mode="json", by_alias=True, exclude_none=True)
                for tool in result.tools
            ]
        return listed

    async def verify(self, draft: Draft) -> Trajectory:
        """Build the draft's scenes, make its calls in order, and keep what the servers say.

        Raises:
            Rejected: a call fails and should not, or succeeds and should not.
        """
        await asyncio.to_thread(_build, draft)
        steps: list[TrajectoryStep] = []
        for step in draft.trajectory.steps:
            observed = await self._call(step, draft.scenes)
            if observed.is_error != draft.expect_error:
                message = f"{step.tool}: {observed.observation[:160]}"
                raise Rejected(message)
            steps.append(observed)
        return draft.trajectory.model_copy(update={"steps": tuple(steps)})

    async def _call(self, step: TrajectoryStep, scenes: Mapping[str, Scene]) -> TrajectoryStep:
        from mcp import MCPError

        paths = {shown: real for s in scenes.values() for shown, real in s.paths.items()}
        arguments = change_texts(step.arguments, lambda text: _real(text, paths))
        try:
            result = await self._clients[step.tool_set].call_tool(
                step.tool, cast("dict[str, Any]", arguments), read_timeout_seconds=CALL_TIMEOUT_S
            )
        except MCPError as error:
            message = f"{step.tool}: {error}"
            raise Rejected(message) from error
        text = observation_text(result.model_dump(mode="json", by_alias=True))
        text = scenes[step.tool_set].observed(step.tool, _as_shown(text, paths))
        shown = text[:MAX_OBSERVATION_CHARS]
        return step.model_copy(update={"observation": shown, "is_error": bool(result.is_error)})


@asynccontextmanager
async def running(commands: Mapping[str, ServerCommand]) -> AsyncGenerator[Servers]:
    """Start the servers, and stop them at the end.

    Raises:
        DataError: a server does not start; with what it said.
        MissingExtra: there is no `mcp`.
    """
    try:
        from mcp import Client, MCPError, StdioServerParameters
        from mcp.client.stdio import stdio_client
    except ModuleNotFoundError as error:
        raise MissingExtra("mcp", extra="mcp") from error

    async with AsyncExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
        clients: dict[str, Client] = {}
        for name, command in commands.items():
            parameters = StdioServerParameters(
                command=command.command, args=list(command.args), env=dict(command.env)
            )
            try:
                transport = stdio_client(parameters, errlog=log)
                clients[name] = await stack.enter_async_context(Client(transport))
            except (OSError, MCPError) as error:
                log.seek(0)
                said = log.read()[-400:].strip()
                message = f"server {name!r} does not start: {error}; it said: {said}"
                raise DataError(message) from error
        yield Servers(clients)


async def verified(
    drafts: Iterable[Draft], verify: Callable[[Draft], Awaitable[Trajectory]]
) -> AsyncGenerator[tuple[Draft, Trajectory | Rejected]]:
    """Verify drafts of different tool sets side by side; yield the results in the drafts' order.

    Drafts of one tool set follow each other, since they share its scratch workspace.
    """
    running: deque[tuple[Draft, asyncio.Task[Trajectory]]] = deque()
    last: dict[str, asyncio.Task[Trajectory]] = {}
    try:
        for draft in drafts:
            earlier = {last[name] for name in draft.scenes if name in last}
            task = asyncio.create_task(_after(earlier, draft, verify))
            last |= dict.fromkeys(draft.scenes, task)
            running.append((draft, task))
            await asyncio.sleep(0)
            if len(running) >= AHEAD:
                yield await _result(*running.popleft())
        while running:
            yield await _result(*running.popleft())
    finally:
        for _, task in running:
            task.cancel()


async def _after(
    earlier: Collection[asyncio.Task[Trajectory]],
    draft: Draft,
    verify: Callable[[Draft], Awaitable[Trajectory]],
) -> Trajectory:
    if earlier:
        await asyncio.wait(earlier)
    return await verify(draft)


async def _result(
    draft: Draft, task: asyncio.Task[Trajectory]
) -> tuple[Draft, Trajectory | Rejected]:
    try:
        return draft, await task
    except Rejected as rejected:
        return draft, rejected


def _build(draft: Draft) -> None:
    for scene in draft.scenes.values():
        scene.build()


def observation_text(wire: Mapping[str, Any]) -> str:
    """Reduce a tool result to text: text blocks joined, media named by type and size.

    The device words media the same way, so that the model meets the same observations there.
    """
    blocks = [_block(block) for block in wire.get("content") or ()]
    return "\n".join(block for block in blocks if block)


def _block(block: Mapping[str, Any]) -> str:
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text") or "")
    if kind in ("image", "audio"):
        return f"[{block.get('mimeType') or kind}, {_base64_bytes(block.get('data'))} B]"
    if kind == "resource":
        inner = cast("Mapping[str, Any]", block.get("resource") or {})
        mime = inner.get("mimeType") or "application/octet-stream"
        return f"[{inner.get('uri', '')}, {mime}, {_base64_bytes(inner.get('blob'))} B]"
    return f"[{kind}]"


def _base64_bytes(data: object) -> int:
    text = str(data or "")
    return len(text) * 3 // 4 - text[-2:].count("=")


def _real(text: str, paths: Mapping[str, str]) -> str:
    """Point a shown absolute path at the scratch folder."""
    for shown in sorted(paths, key=len, reverse=True):
        if text == shown or (shown and text.startswith((shown + "/", shown + "\\"))):
            return paths[shown] + text[len(shown) :].replace("\\", "/")
    return text


def _as_shown(text: str, paths: Mapping[str, str]) -> str:
    for shown, real in sorted(paths.items(), key=lambda pair: len(pair[1]), reverse=True):
        text = text.replace(real, shown)
    return text
