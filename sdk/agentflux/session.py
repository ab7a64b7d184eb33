"""Wires the parts: a bundle, an engine and tool hosts become an agent."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from agentflux.contracts.bundle import CatalogTool, Manifest, read_manifest
from agentflux.contracts.experts import NO_EXPERTS, Experts, bundle_experts
from agentflux.contracts.prompts import Situation, Turn
from agentflux.contracts.signature import check_signature
from agentflux.contracts.tools import Catalog, Step, ToolSpec, by_set
from agentflux.errors import JournalError
from agentflux.hosts.local import LocalTools
from agentflux.hosts.many import Hosts
from agentflux.orchestration.approval import Approve, AsyncApprover, Gate, gate, on_loop
from agentflux.orchestration.chat import TextOptions, chat_request
from agentflux.orchestration.events import Event
from agentflux.orchestration.in_thread import in_thread
from agentflux.orchestration.journal import Journal
from agentflux.orchestration.live_catalog import LiveCatalog
from agentflux.orchestration.loop import AgentLoop, Controls
from agentflux.orchestration.pins import HeldTool, Pins
from agentflux.orchestration.policy import Policy
from agentflux.orchestration.results import Budget, RunResult
from agentflux.orchestration.stages import GREEDY, Decision, Stages
from agentflux.orchestration.telemetry import observed
from agentflux.ports import CancelToken, Completion, Engine, Sampling, ToolHost, Usage

Tools = Iterable[ToolHost | Callable[..., object]]
Isolation = Literal["none", "process"]


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
        policy: Policy | None = None,
        pins: Path | None = None,
        experts: Experts = NO_EXPERTS,
    ) -> None:
        """Connect the parts. trusted: tool sets that the application wrote itself."""
        self._engine, self._host = engine, host
        self.manifest = manifest
        known = Pins(_exported(manifest), path=pins)
        self._live = LiveCatalog(host, known, trusted=trusted)
        self._current = Stages(engine, manifest, self._live.tools(), experts=experts)
        self._loop = AgentLoop(self._stages, host)
        self._trusted, self._policy = trusted, policy
        self._gate = gate(approve, trusted=trusted, policy=policy)

    @property
    def catalog(self) -> Catalog:
        """The tools that may be used now, by tool set."""
        return self._live.tools()

    @property
    def held(self) -> tuple[HeldTool, ...]:
        """Tools that changed since the bundle was exported, or since they were first seen.

        They are in no prompt and cannot be called until `accept` is called for them.
        """
        return self._live.held

    def accept(self, tool_set: str, tool: str, *, sha256: str | None = None) -> ToolSpec:
        """Let a held tool be used as it is described now; return that description.

        sha256: `HeldTool.sha256` of what a person was shown; a tool that is another by now is not
        accepted.

        Raises:
            ConfigError: no such tool is held, or the file of pins cannot be written.
        """
        return self._live.accept(tool_set, tool, sha256=sha256)

    def run(
        self,
        request: str,
        *,
        context: str = "",
        steps: Sequence[Step] = (),
        budget: Budget | None = None,
        sampling: Sampling = GREEDY,
        approve: Approve | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: CancelToken | None = None,
        journal: str | Path | Journal | None = None,
    ) -> RunResult:
        """Serve one request: call tools until done, then answer.

        context: text shown to the model before the request, such as the workspace's root.
        steps: calls that are done already, with their observations. sampling: of arguments and
        answer; greedy by default. approve: for this run only,
        instead of the agent's. on_event: called in this thread. cancel: from any thread; the run
        raises Cancelled. journal: a file of this run alone. Where it holds the same request,
        interrupted, the run goes on from there (and `steps` is not read): no call that answered is
        made again, and one that was on its way is repeated only where its tool is read-only or
        idempotent; else its observation says that the outcome is unknown.

        Raises:
            AgentFluxError: see `agentflux.orchestration.loop.AgentLoop.run`.
        """
        start = Situation(request=request, context=context, steps=tuple(steps))
        with _opened(journal) as record, observed(self.manifest, on_event or _ignore) as emit:
            controls = Controls(
                emit=emit,
                gate=self._gate if approve is None else self._gate_of(approve),
                budget=budget or Budget(),
                sampling=sampling,
                cancel=cancel,
                journal=record,
            )
            return self._loop.run(start, controls)

    def resume(
        self,
        journal: str | Path | Journal,
        *,
        budget: Budget | None = None,
        approve: Approve | None = None,
        on_event: Callable[[Event], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> RunResult:
        """Go on with the run that a journal holds; where it had ended, return how. As `run`.

        The budget counts the recorded steps; its seconds and tokens begin anew.

        Raises:
            JournalError: the file holds no run, or is damaged before its last line.
        """
        with _opened(journal) as record:
            assert record is not None
            if record.recording is None:
                raise JournalError(record.path, "holds no run")
            start = record.recording.start
            return self.run(
                start.request,
                context=start.context,
                budget=budget,
                approve=approve,
                on_event=on_event,
                cancel=cancel,
                journal=record,
            )

    async def arun(
        self,
        request: str,
        *,
        context: str = "",
        steps: Sequence[Step] = (),
        budget: Budget | None = None,
        sampling: Sampling = GREEDY,
        approve: Approve | AsyncApprover | None = None,
        on_event: Callable[[Event], None] | None = None,
        journal: str | Path | Journal | None = None,
    ) -> RunResult:
        """Serve one request without blocking the event loop; cancelling the task stops the run.

        As `run`; `approve` may be an async function, which is awaited on the calling event loop
        (the agent's own, of `open_bundle`, may not).
        `on_event` is called in a worker thread.
        """
        cancel = CancelToken()
        ask = on_loop(approve, asyncio.get_running_loop(), cancel)
        return await in_thread(
            lambda: self.run(
                request,
                context=context,
                steps=steps,
                budget=budget,
                sampling=sampling,
                approve=ask,
                on_event=on_event,
                cancel=cancel,
                journal=journal,
            ),
            cancel,
        )

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
        stages = self._stages()
        if tools is not None:
            stages = stages.with_catalog(by_set(tools))
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
        return self._stages().warm_up()

    def _stages(self) -> Stages:
        self._current = self._current.with_catalog(self._live.tools())
        return self._current

    def _gate_of(self, approve: Approve) -> Gate:
        return gate(approve, trusted=self._trusted, policy=self._policy)

    def close(self) -> None:
        """End the tool servers and free the model."""
        try:
            self._host.close()
        finally:
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
    policy: str | Path | Mapping[str, Any] | Policy | None = None,
    pins: str | Path | None = None,
    threads: int | None = None,
    isolation: Isolation = "none",
    trust: str | Path | None = None,
) -> Agent:
    """Open a bundle and connect its tools.

    tools: plain functions (see `agentflux.tool`) and tool hosts. mcp: an `mcpServers` JSON file.
    approve: which calls may run unasked. "read_only": tools that say they only read, and your own
    functions unless marked otherwise; "all"; "none"; or a callable that is asked for each call and
    may show it to a person. policy: rules that come before `approve`, as a TOML file or the same as
    a dict; see `agentflux.orchestration.policy`. pins: a JSON file that remembers what each tool
    looked like, so that one that changes between two starts is held back, too (see `Agent.held`).
    threads: of the model; None takes the bundle's, else the physical cores. isolation: "process"
    runs the native runtime in a process of its own; a crash or a hang of it raises EngineDied for
    one request, and another process takes over. trust: a public key (PEM); only a bundle that was
    signed with its private half is opened (`afx-export sign`).

    Raises:
        ConfigError: the policy, the pins, the servers' file or the key is wrong.
        BundleError: the bundle is not whole, made for another version, or (NotTrusted) not signed.
        ToolHostError: a tool server does not start.
        MissingExtra: the runtime or `mcp` is not installed.
    """
    folder = Path(path)
    if trust is not None:
        check_signature(folder, Path(trust))
    manifest = read_manifest(folder)
    rules = Policy.load(policy) if policy is not None else None
    hosts = _hosts(tools)
    own = [host for host in hosts if isinstance(host, LocalTools)]
    trusted = frozenset(tool.tool_set for host in own for tool in host.list_tools())
    if mcp is not None:
        from agentflux.hosts.mcp import McpHost  # imports mcp: 0.7 s, only when asked for

        hosts.append(McpHost.from_config(mcp))
    host = Hosts(hosts)
    with ExitStack() as undo:
        undo.callback(host.close)
        engine = open_engine(folder, manifest, threads=threads, isolation=isolation)
        undo.callback(engine.close)
        agent = Agent(
            engine,
            manifest,
            host,
            approve=approve,
            trusted=trusted,
            policy=rules,
            pins=Path(pins) if pins is not None else None,
            experts=bundle_experts(folder, manifest),
        )
        undo.pop_all()
    return agent


def open_engine(
    folder: Path,
    manifest: Manifest,
    *,
    threads: int | None = None,
    isolation: Isolation = "none",
) -> Engine:
    """Load the engine that serves the bundle. Raises as `open_bundle` does."""
    if isolation == "process":
        from agentflux.engines.process import ProcessEngine

        return ProcessEngine(folder, threads=threads)
    from agentflux.engines.ort import OrtEngine  # imports the native runtime

    return OrtEngine(folder, manifest, threads=threads)


def _hosts(tools: Tools) -> list[ToolHost]:
    """Keep hosts as they are and gather plain functions in one tool set, `functions`."""
    items = list(tools)
    hosts = [item for item in items if isinstance(item, ToolHost)]
    functions = [item for item in items if not isinstance(item, ToolHost)]
    return [*hosts, LocalTools("functions", functions)] if functions else hosts


def _exported(manifest: Manifest) -> list[CatalogTool]:
    """Return what the adapters of a tool set of their own know; general ones serve any tool."""
    own = {adapter.tool_set for adapter in manifest.adapters}
    return [tool for tool in manifest.catalog if tool.tool_set in own]


@contextmanager
def _opened(journal: str | Path | Journal | None) -> Generator[Journal | None]:
    """Open a path for the run alone; a journal that the caller opened stays open."""
    if journal is None or isinstance(journal, Journal):
        yield journal
        return
    with Journal(journal) as opened:
        yield opened


def _ignore(event: Event) -> None:
    pass
