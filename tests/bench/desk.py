"""The desk assistant's tools, requests with their calls, and an engine that is steered to them."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Catalog, by_set
from agentflux.hosts.mcp import McpHost
from agentflux.orchestration.stages import Decision, Stages
from agentflux.ports import CancelToken, Choosing, Completion, Engine, Generation, Scores

DESK = Path(__file__).parents[2] / "samples" / "desk_assistant"
CONTEXT = "Workspace root: /home/ana/desk\nRepository: /home/ana/desk/project\nTime zone: UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request and the tool that serves it."""

    request: str
    tool_set: str
    tool: str

    def situation(self, number: int = 0) -> Situation:
        """The situation before any call. number: makes the request unlike the others."""
        told = f"{self.request} ({number})" if number else self.request
        return Situation(request=told, context=CONTEXT)


REQUESTS = (
    Asked(request="What does notes/today.md say?", tool_set="filesystem", tool="read_text_file"),
    Asked(request="Show me the last 12 commits of the project.", tool_set="git", tool="git_log"),
    Asked(
        request="Move inbox/café.txt to archive/2024, please.",
        tool_set="filesystem",
        tool="move_file",
    ),
    Asked(request="Which time is it in Tokyo right now?", tool_set="time", tool="get_current_time"),
    Asked(
        request="Make a folder called invoices/2025.",
        tool_set="filesystem",
        tool="create_directory",
    ),
    Asked(
        request="Start a branch named fix-login in the repository.",
        tool_set="git",
        tool="git_create_branch",
    ),
    Asked(request="Tell me what you know about Ana Costa.", tool_set="memory", tool="search_nodes"),
    Asked(
        request="Describe the table orders of the database.",
        tool_set="sqlite",
        tool="describe_table",
    ),
)


def desk_catalog() -> Catalog:
    """Start the sample's five MCP servers once and return their tools."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(DESK / "servers.py"), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        with McpHost.from_config(Path(done.stdout.strip().splitlines()[-1])) as host:
            return by_set(host.list_tools())


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One stage as the engine served it. text: the name that was taken, or the arguments."""

    request: Choosing | Generation
    text: str
    result: Scores | Completion


class Steered:
    """An engine whose choices are computed as always, and then taken as the request needs them.

    So every run makes the same three stages, whatever the adapters would have chosen. A choice
    without any of the given names stays as it is.
    before: called before each stage.
    """

    def __init__(self, engine: Engine, before: Callable[[], None] | None = None) -> None:
        self._engine, self._before = engine, before or (lambda: None)
        self._names: tuple[str, ...] = ()
        self.served: list[Served] = []

    def decide(self, stages: Stages, asked: Asked, number: int = 0) -> Decision:
        """Decide the call of a request over these stages, which have this engine."""
        return self.take(stages, asked.situation(number), asked.tool_set, asked.tool)

    def take(
        self, stages: Stages, situation: Situation, *names: str, required: bool = True
    ) -> Decision:
        """Decide a call, these names given: a tool set, or a tool set and its tool."""
        self._names, self.served = names, []
        return stages.decide(situation, required=required, emit=lambda event: None, cancel=None)

    def choose(self, request: Choosing, *, cancel: CancelToken | None = None) -> Scores:
        """Score the candidates, then take the one that the request needs."""
        self._before()
        scores = self._engine.choose(request, cancel=cancel)
        name = next((name for name in self._names if name in request.candidates), None)
        if name is None:
            return scores
        self.served.append(Served(request=request, text=name, result=scores))
        return replace(scores, best=name, alternatives=())  # nobody else is heard

    def generate(
        self,
        request: Generation,
        *,
        on_text: Callable[[str], None] | None = None,
        cancel: CancelToken | None = None,
    ) -> Completion:
        """Decode."""
        self._before()
        done = self._engine.generate(request, on_text=on_text, cancel=cancel)
        self.served.append(Served(request=request, text=done.text, result=done))
        return done

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
