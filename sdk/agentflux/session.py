"""Wires the parts: a bundle, an engine and tool hosts become an agent."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from agentflux.contracts.bundle import Manifest, read_manifest
from agentflux.contracts.prompts import Situation, Turn
from agentflux.contracts.tools import Catalog, ToolCall, ToolSpec
from agentflux.errors import ConfigError
from agentflux.hosts.local import LocalTools
from agentflux.hosts.many import Hosts
from agentflux.orchestration.chat import TextOptions, chat_request
from agentflux.orchestration.events import Event
from agentflux.orchestration.loop import AgentLoop, Approver, Budget, RunResult
from agentflux.orchestration.stages import Decision, Stages
from agentflux.ports import CancelToken, Completion, Engine, ToolHost, Usage

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
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        """Connect the parts. trusted: tool sets that the application wrote itself."""
        self._engine, self._host = engine, host
        self.manifest = manifest
        self.catalog: Catalog = _by_set(host.list_tools())
        self._stages = Stages(engine, manifest, self.catalog)
        self._loop = AgentLoop(self._stages, host, _approver(approve, trusted))

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

    def decide(
        self,
        situation: Situation,
        *,
        tools: Iterable[ToolSpec] | None = None,
        required: bool = False,
        on_event: Callable[[Event], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> Decision:
        """Decide the next call and do not make it.

        tools: candidates of this decision instead of the agent's own; they need no host.
        required: neither `none` nor `finish` is allowed.
        """
        stages = self._stages
        if tools is not None:
            stages = Stages(self._engine, self.manifest, _by_set(tools))
        emit = on_event or _ignore
        return stages.decide(situation, required=required, emit=emit, cancel=cancel)

    def chat(
        self,
        turns: Sequence[Turn],
        options: TextOptions | None = None,
        *,
        on_text: Callable[[str], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> Completion:
        """Let the base model write the next turn of a plain conversation, without tools.

        Raises:
            ConfigError: there is no turn. SchemaNotSupported: of `options.json_schema`.
            ContextOverflow, EngineError, Cancelled: see `agentflux.ports.Engine`.
        """
        request = chat_request(self.manifest.chat, turns, options or TextOptions())
        return self._engine.generate(request, on_text=on_text, cancel=cancel)

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
    approve: which calls may run unasked. "read_only": tools that say they only read, and your own
    functions unless marked otherwise; "all"; "none"; or a callable that is asked for each call and
    may show it to a person. threads: of the model; None takes the physical cores.

    Raises:
        BundleError: the bundle is not whole, or made for another version.
        ToolHostError: a tool server does not start.
        MissingExtra: the runtime or `mcp` is not installed.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    hosts = _hosts(tools)
    own = [host for host in hosts if isinstance(host, LocalTools)]
    trusted = frozenset(tool.tool_set for host in own for tool in host.list_tools())
    if mcp is not None:
        from agentflux.hosts.mcp import McpHost  # imports mcp: 0.7 s, only when asked for

        hosts.append(McpHost.from_config(mcp))
    host = Hosts(hosts)
    try:
        engine = open_engine(folder, manifest, threads=threads)
        return Agent(engine, manifest, host, approve=approve, trusted=trusted)
    except BaseException:
        host.close()
        raise


def open_engine(folder: Path, manifest: Manifest, *, threads: int | None = None) -> Engine:
    """Load the engine that serves the bundle. Raises as `open_bundle` does."""
    from agentflux.engines.ort import OrtEngine  # imports the native runtime

    return OrtEngine(folder, manifest, threads=threads)


def _hosts(tools: Tools) -> list[ToolHost]:
    """Keep hosts as they are and gather plain functions in one tool set, `functions`."""
    items = list(tools)
    hosts = [item for item in items if isinstance(item, ToolHost)]
    functions = [item for item in items if not isinstance(item, ToolHost)]
    return [*hosts, LocalTools("functions", functions)] if functions else hosts


def _by_set(tools: Iterable[ToolSpec]) -> dict[str, tuple[ToolSpec, ...]]:
    sets: dict[str, list[ToolSpec]] = {}
    for tool in tools:
        sets.setdefault(tool.tool_set, []).append(tool)
    return {name: tuple(found) for name, found in sets.items()}


def _approver(approve: Approve, trusted: frozenset[str]) -> Approver:
    def reads(call: ToolCall, spec: ToolSpec) -> bool:
        """Hints can only make it stricter: an unhinted tool passes only if the app wrote it."""
        unhinted = spec.read_only is None and call.tool_set in trusted
        return (spec.read_only is True or unhinted) and spec.destructive is not True

    if callable(approve):
        return approve
    rules: dict[str, Approver] = {
        "all": lambda call, spec: True,
        "none": lambda call, spec: False,
        "read_only": reads,
    }
    if approve not in rules:
        raise ConfigError(
            f"approve must be a function or one of {', '.join(rules)}, not {approve!r}"
        )
    return rules[approve]


def _ignore(event: Event) -> None:
    pass
