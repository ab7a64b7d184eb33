"""Shared set-up: a small manifest and catalog, for tests that need no weights."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentflux import ScriptedHost, Situation, ToolSpec
from agentflux.contracts.bundle import (
    AdapterEntry,
    BaseModelInfo,
    Calibration,
    FileEntry,
    Manifest,
    RuntimeSettings,
)
from agentflux.contracts.experts import NO_EXPERTS, Experts
from agentflux.contracts.prompts import Boundary, ChatFormat, Subtask
from agentflux.engines.scripted import Entry, ScriptedEngine
from agentflux.hosts.scripted import Answer
from agentflux.orchestration.stages import Stages
from agentflux.session import Agent

ZERO_HASH = "0" * 64


def spec(tool_set: str, name: str, **properties: Mapping[str, Any]) -> ToolSpec:
    """A tool whose properties are all required."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ToolSpec(tool_set=tool_set, name=name, input_schema=schema, read_only=True)


TEXT = {"type": "string"}
FILES = (spec("files", "read", path=TEXT), spec("files", "list", path=TEXT), spec("files", "roots"))
CLOCK = (spec("clock", "now", zone=TEXT),)
CATALOG = {"files": FILES, "clock": CLOCK}


def adapter(
    name: str,
    subtask: Subtask,
    tool_set: str | None = None,
    *,
    boundary: Boundary = "request",
    **calibration: float,
) -> AdapterEntry:
    """An adapter entry whose file is the manifest's only adapter file."""
    return AdapterEntry(
        name=name,
        subtask=subtask,
        tool_set=tool_set,
        boundary=boundary,
        rank=4,
        file="adapters/a.onnx_adapter",
        weights_sha256=ZERO_HASH,
        calibration=Calibration(**calibration),
    )


def manifest(adapters: Iterable[AdapterEntry] = ()) -> Manifest:
    """A manifest of a model that does not exist."""
    return Manifest(
        name="test",
        made_by="tests",
        chat=ChatFormat(),
        base_model=BaseModelInfo(
            id="none",
            licence="none",
            architecture="none",
            weights_sha256=ZERO_HASH,
            layers=1,
            hidden_size=8,
            vocab_size=100,
            kv_bytes_per_token=1,
            end_token_ids=(2,),
        ),
        runtime=RuntimeSettings(
            profile="cpu-int4",
            provider="cpu",
            precision="int4",
            adapter_mode="runtime",
            context_tokens=2048,
            kv_budget_bytes=1_000_000,
        ),
        adapters=tuple(adapters),
        files=(FileEntry(path="adapters/a.onnx_adapter", sha256=ZERO_HASH, bytes=0),),
    )


def scripted_stages(
    script: Iterable[Entry],
    *,
    bundle: Manifest | None = None,
    catalog: Mapping[str, tuple[ToolSpec, ...]] = CATALOG,
    experts: Experts = NO_EXPERTS,
) -> tuple[Stages, ScriptedEngine]:
    """Stages over a scripted engine."""
    engine = ScriptedEngine(script)
    return Stages(engine, bundle or manifest(), catalog, experts=experts), engine


def scripted_agent(
    script: Iterable[Entry],
    answers: Mapping[str, Answer],
    *,
    catalog: Mapping[str, tuple[ToolSpec, ...]] = CATALOG,
    **options: Any,
) -> tuple[Agent, ScriptedHost]:
    """An agent over a scripted engine and a scripted host."""
    tools = [tool for tools in catalog.values() for tool in tools]
    host = ScriptedHost(answers, tools=tools)
    return Agent(ScriptedEngine(script), manifest(), host, **options), host


class ChangingHost(ScriptedHost):
    """A scripted host whose tools can be exchanged."""

    revision = 0

    def change(self, tools: Sequence[ToolSpec]) -> None:
        self._tools, self.revision = tuple(tools), self.revision + 1


def asked(request: str = "what is in a.txt?") -> Situation:
    """A situation before any call."""
    return Situation(request=request)


def decide(script, bundle=None, situation=None):  # noqa: ANN001, ANN201 - a test's shorthand
    stages, engine = scripted_stages(script, bundle=bundle)
    decision = stages.decide(situation or asked(), emit=lambda event: None, cancel=None)
    return decision, engine.requests
