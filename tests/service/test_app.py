"""The application in this process, over scripted parts: what needs no model."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sdk.support import FILES, ChangingHost, manifest, scripted_agent

from agentflux import Agent, ToolSpec
from agentflux.engines.scripted import ScriptedEngine
from edge_service.app import create_app
from edge_service.database import Database
from edge_service.security.keys import Keys
from edge_service.settings import load_settings

PATIENCE_S = 10.0
WARM = ["", ""]  # the answer's prefix and that of one tool set
WRITE = ToolSpec(tool_set="files", name="write", description="Write.", read_only=False)


@contextlib.asynccontextmanager
async def served(agent: Agent, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The warm application, and a client with a key."""
    database = Database(folder)
    app = create_app(load_settings(None, bundle=folder, data=folder), agent, database)
    key = {"Authorization": f"Bearer {Keys(database).create('test')}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=key) as client,
    ):
        await app.state.warm.wait()
        yield client


class SlowHost(ChangingHost):
    """Listing the tools waits for `go`, as for a server that starts again."""

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        super().__init__({}, tools=tools)
        self.asked, self.go, self.in_time = threading.Event(), threading.Event(), True
        self.go.set()

    def list_tools(self) -> Sequence[ToolSpec]:
        self.asked.set()
        self.in_time = self.go.wait(PATIENCE_S)
        return super().list_tools()


class Heard(Agent):
    """Tells when an acceptance arrives."""

    accepting = threading.Event()

    def accept(self, *args: Any, **options: Any) -> ToolSpec:
        self.accepting.set()
        return super().accept(*args, **options)


def test_a_held_tool_is_accepted_only_with_the_hints_that_were_shown(tmp_path: Path) -> None:
    host = ChangingHost({}, tools=[WRITE])
    agent = Agent(ScriptedEngine(WARM), manifest(), host)

    async def talk() -> None:
        async with served(agent, tmp_path) as client:
            host.change([replace(WRITE, description="Write!", destructive=True)])
            (shown,) = (await client.get("/v1/tools")).json()["held"]
            hints = ("read_only", "destructive", "idempotent")
            assert [shown["tool"][hint] for hint in hints] == [False, True, None]
            asked = {"tool_set": "files", "tool": "write", "sha256": shown["sha256"]}
            host.change([replace(WRITE, description="Write!", read_only=True)])
            (now,) = (await client.get("/v1/tools")).json()["held"]
            refused = await client.post("/v1/tools/accept", json=asked)
            assert refused.status_code == 409
            assert refused.json()["error"]["code"] == "not_held"
            accepted = await client.post(
                "/v1/tools/accept", json={**asked, "sha256": now["sha256"]}
            )
            assert accepted.json()["held"] == []

    asyncio.run(talk())


def test_the_service_answers_while_a_tool_server_restarts(tmp_path: Path) -> None:
    host = SlowHost([WRITE])
    agent = Heard(ScriptedEngine(WARM), manifest(), host)

    async def talk() -> None:
        async with served(agent, tmp_path) as client:
            host.change([replace(WRITE, description="Write!")])
            (held,) = (await client.get("/v1/tools")).json()["held"]
            host.asked.clear()
            host.go.clear()
            host.revision += 1
            catalog = asyncio.create_task(client.get("/v1/tools"))
            assert await asyncio.to_thread(host.asked.wait, PATIENCE_S)
            accepted = {"tool_set": "files", "tool": "write", "sha256": held["sha256"]}
            accept = asyncio.create_task(client.post("/v1/tools/accept", json=accepted))
            assert await asyncio.to_thread(agent.accepting.wait, PATIENCE_S)
            assert (await client.get("/health/live")).status_code == 200
            host.go.set()
            assert (await catalog).status_code == 200
            assert (await accept).status_code == 200

    asyncio.run(talk())
    assert host.in_time, "nothing kept the event loop from setting `go`"


HALF = "\ud83d"
ASK = {"role": "user", "content": "hi"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
NAMED = {"name": "f", "schema": {"enum": [HALF]}}


def called(arguments: str) -> list[dict[str, Any]]:
    """A conversation in which `f` was called."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    result = {"role": "tool", "tool_call_id": "1", "content": "x"}
    return [ASK, {"role": "assistant", "tool_calls": [call]}, result]


@pytest.mark.parametrize(
    ("param", "asked"),
    [
        ("messages", {"messages": [{"role": "user", "content": f"hi {HALF}"}]}),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]}),
        ("messages", {"messages": called(json.dumps({"a": [HALF]})), "tools": [FUNCTION]}),
        ("messages", {"messages": called(json.dumps({HALF: 1})), "tools": [FUNCTION]}),
        ("tools", {"tools": [{**FUNCTION, "function": {"name": "f", "description": HALF}}]}),
        ("tools", {"tools": [{**FUNCTION, "function": {"name": "f", "parameters": {HALF: 1}}}]}),
        ("tool_choice", {"tools": [FUNCTION], "tool_choice": HALF}),
        ("response_format", {"response_format": {"type": "json_schema", "json_schema": NAMED}}),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_stands(
    param: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    agent, _ = scripted_agent(WARM, {}, catalog={"files": FILES[:1]})

    async def talk() -> httpx.Response:
        async with served(agent, tmp_path) as client:
            body = json.dumps({"model": "test", "messages": [ASK], **asked})
            headers = {"Content-Type": "application/json"}
            return await client.post("/v1/chat/completions", content=body, headers=headers)

    answer = asyncio.run(talk())
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", param)
    assert "nicode" in error["message"]
