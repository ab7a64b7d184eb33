"""Opening a bundle."""

from pathlib import Path

import pytest
from sdk.support import manifest

import agentflux
from agentflux import session
from agentflux.engines.scripted import ScriptedEngine
from agentflux.errors import ConfigError


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
