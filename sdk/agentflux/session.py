"""Wires the parts: a bundle, an engine and tool hosts become an agent."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from agentflux.contracts.bundle import AdapterEntry, Manifest, read_manifest
from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Catalog, ToolSpec
from agentflux.hosts.local import LocalTools
from agentflux.hosts.many import Hosts
from agentflux.orchestration.events import Event
from agentflux.orchestration.loop import AgentLoop, Approver, Budget, RunResult
from agentflux.orchestration.stages import Decision, Stages
from agentflux.ports import CancelToken, Engine, ToolHost, Usage

Tools = Iterable[ToolHost | Callable[..., object]]
Approve = Approver | Literal["read_only", "all", "none"]


class Agent:
    """An agent over one bundle and its tool hosts. Close it, or use it in a `with` block."""

    def __init__(
        self,
        engine: Engine,
        manifest: Manifest,
        host: ToolHost,
        *,
        approve: Approve = "read_only",
    ) -> None:
        self._engine, self._host = engine, host
        self.manifest = manifest
        self.catalog: Catalog = _by_set(host.list_tools())
        self._stages = Stages(engine, manifest, self.catalog)
        self._loop = AgentLoop(self._stages, host, _approver(approve))

    def run(
        self,
        request: str,
        *,
        context: str = "",
        budget: Budget | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> RunResult:
        """Serve one request: call tools until done, then answer.

        context: text shown to the model before the request, such as the workspace's root.

        Raises:
            AgentFluxError: see `agentflux.orchestration.loop.AgentLoop.run`.
        """
        return self._loop.run(
            request,
            context=context,
            budget=budget or Budget(),
            emit=on_event or _ignore,
            cancel=cancel,
        )

    async def arun(
        self,
        request: str,
        *,
        context: str = "",
        budget: Budget | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> RunResult:
        """Serve one request without blocking the event loop; cancelling the task stops the run.

        `on_event` is called in a worker thread.
        """
        cancel = CancelToken()
        work = asyncio.to_thread(
            self.run, request, context=context, budget=budget, on_event=on_event, cancel=cancel
        )
        try:
            return await work
        except asyncio.CancelledError:
            cancel.cancel()
            raise

    def decide(self, situation: Situation, *, cancel: CancelToken | None = None) -> Decision:
        """Decide the next call and do not make it."""
        return self._stages.decide(situation, emit=_ignore, cancel=cancel)

    def warm_up(self) -> Usage:
        """Compute the static prefixes of all tool sets, so that the first request is quick."""
        return self._stages.warm_up()

    def close(self) -> None:
        """End the tool servers and free the model."""
        self._host.close()
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_bundle(
    path: str | Path,
    *,
    tools: Tools = (),
    mcp: str | Path | None = None,
    approve: Approve = "read_only",
    threads: int | None = None,
) -> Agent:
    """Open a bundle and connect its tools.

    tools: plain functions (see `agentflux.tool`) and tool hosts. mcp: an `mcpServers` JSON file.
    approve: which calls may run unasked. "read_only": those whose tool says that it only reads
    (functions given here count as approved); "all"; "none"; or a callable that is asked for each
    call and may show it to a person. threads: of the model; None takes the physical cores.

    Raises:
        BundleError: the bundle is not whole, or made for another version.
        ToolHostError: a tool server does not start.
        MissingExtra: the runtime or `mcp` is not installed.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    hosts = _hosts(tools)
    if mcp is not None:
        from agentflux.hosts.mcp import McpHost  # imports mcp: 0.7 s, only when asked for

        hosts.append(McpHost.from_config(mcp))
    host = Hosts(hosts)
    try:
        return Agent(open_engine(folder, manifest, threads=threads), manifest, host, approve=approve)
    except BaseException:
        host.close()
        raise


def open_engine(folder: Path, manifest: Manifest, *, threads: int | None = None) -> Engine:
    """Load the engine that serves the bundle. Raises as `open_bundle` does."""
    from agentflux.engines.ort import OrtEngine  # imports the native runtime

    return OrtEngine(folder, manifest, threads=threads)


def describe(entry: AdapterEntry) -> str:
    """Say in a few words what an adapter serves."""
    where = " ".join(part for part in (entry.tool_set, entry.tool) if part)
    return f"{entry.subtask} {where or '(any)'}"


def _hosts(tools: Tools) -> list[ToolHost]:
    hosts: list[ToolHost] = []
    functions: list[Callable[..., object]] = []
    for item in tools:
        if hasattr(item, "list_tools"):
            hosts.append(item)  # type: ignore[arg-type]
        else:
            functions.append(item)  # type: ignore[arg-type]
    if functions:
        hosts.append(LocalTools("functions", functions))
    return hosts


def _by_set(tools: Iterable[ToolSpec]) -> dict[str, tuple[ToolSpec, ...]]:
    sets: dict[str, list[ToolSpec]] = {}
    for tool in tools:
        sets.setdefault(tool.tool_set, []).append(tool)
    return {name: tuple(found) for name, found in sets.items()}


def _approver(approve: Approve) -> Approver:
    if callable(approve):
        return approve
    rules: dict[str, Approver] = {
        "all": lambda call, spec: True,
        "none": lambda call, spec: False,
        "read_only": lambda call, spec: spec.read_only is True and spec.destructive is not True,
    }
    return rules[approve]


def _ignore(event: Event) -> None:
    pass
