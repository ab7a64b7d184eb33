"""Opening a bundle."""

from pathlib import Path

import pytest
from sdk.support import manifest

import agentflux
from agentflux import Agent, ScriptedHost, session
from agentflux.engines.scripted import ScriptedEngine
from agentflux.errors import ConfigError, ToolHostError


def test_an_engine_does_not_outlive_an_agent_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed: list[str] = []

    class Engine(ScriptedEngine):
        def close(self) -> None:
            closed.append("engine")

    monkeypatch.setattr(session, "read_manifest", lambda _: manifest())
    monkeypatch.setattr(session, "open_engine", lambda *_, **__: Engine([]))
    with pytest.raises(ConfigError, match="approve must be"):
        agentflux.open_bundle(tmp_path, approve="typo")  # type: ignore[arg-type]
    assert closed == ["engine"]
    agentflux.open_bundle(tmp_path).close()
    assert closed == ["engine", "engine"]


def test_a_host_that_cannot_be_closed_leaves_no_engine_open() -> None:
    closed: list[str] = []

    class Engine(ScriptedEngine):
        def close(self) -> None:
            closed.append("engine")

    class Host(ScriptedHost):
        def close(self) -> None:
            raise ToolHostError("files", "the server does not end")

    with pytest.raises(ToolHostError):
        Agent(Engine([]), manifest(), Host({"files.read": "hi"})).close()
    assert closed == ["engine"]
