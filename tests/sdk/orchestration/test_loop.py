"""The loop over scripted parts: what it calls, what it shows the model, and when it ends."""

import asyncio
import json
import threading
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest
from sdk.support import CATALOG, FILES, adapter, manifest, scripted_agent, spec

from agentflux import (
    Agent,
    Budget,
    CallFinished,
    CancelToken,
    ScriptedHost,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from agentflux.contracts.bundle import CatalogTool
from agentflux.engines.scripted import ScriptedEngine
from agentflux.errors import Cancelled, ConfigError, ServerGone
from agentflux.orchestration.loop import DECLINED, NOT_ALLOWED
from agentflux.ports import Completion, Generation

READ = ["files", "read", '{"path":"a.txt"}']


def test_a_call_is_made_observed_and_answered() -> None:
    agent, host = scripted_agent([*READ, "finish", "It says hi."], {"files.read": "hi"})
    result = agent.run("what is in a.txt?")
    assert [(c.tool, c.arguments) for c in host.calls] == [("read", {"path": "a.txt"})]
    assert (result.stopped, result.answer) == ("answered", "It says hi.")
    assert [r.stage for r in result.trace] == ["route", "select", "arguments", "route", "answer"]
    assert result.steps[0].observation == "hi"


def test_a_request_that_no_tool_serves_calls_nothing() -> None:
    agent, host = scripted_agent(["none", "Hello!"], {})
    result = agent.run("good morning")
    assert (result.stopped, host.calls, result.answer) == ("abstained", [], "Hello!")


def test_a_tool_error_is_shown_to_the_model_and_the_loop_goes_on() -> None:
    failed = ToolResult(text="no such file", is_error=True)
    second = ["files", "list", '{"path":"."}']
    script = [*READ, *second, "finish", "done"]
    agent, host = scripted_agent(script, {"files.read": failed, "files.list": "b.txt"})
    result = agent.run("read a.txt")
    assert [s.is_error for s in result.steps] == [True, False]
    assert len(host.calls) == 2


def test_a_repeated_call_is_not_made_again() -> None:
    agent, host = scripted_agent([*READ, *READ, "done"], {"files.read": ["hi", "again"]})
    result = agent.run("read a.txt")
    assert (result.stopped, len(host.calls)) == ("repeated", 1)


BAD = ["files", "read", "{'path'"]


def test_arguments_that_fail_twice_end_the_run() -> None:
    agent, host = scripted_agent([*BAD, "files", "read", '{"path":1}', "sorry"], {})
    result = agent.run("read a.txt")
    assert (result.stopped, host.calls) == ("arguments", [])
    assert [step.is_error for step in result.steps] == [True, True]


def test_arguments_that_failed_once_can_be_written_better() -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    read = ToolSpec(tool_set="files", name="read", input_schema=schema, read_only=True)
    roots = ToolSpec(tool_set="files", name="roots", read_only=True)
    loose = {**CATALOG, "files": (read, roots)}
    script = [*BAD, "files", "read", "{}", "finish", "done"]
    agent, host = scripted_agent(script, {"files.read": "hi"}, catalog=loose)
    assert agent.run("read a.txt").stopped == "answered"
    assert len(host.calls) == 1


def test_a_tools_own_error_does_not_count_as_failed_arguments() -> None:
    failed = ToolResult(text="no such file", is_error=True)
    script = [*READ, *BAD, "files", "read", '{"path":"b.txt"}', "finish", "done"]
    agent, host = scripted_agent(script, {"files.read": [failed, "hi"]})
    assert agent.run("read a.txt").stopped == "answered"
    assert len(host.calls) == 2


def test_a_call_that_is_not_approved_is_an_observation() -> None:
    script = [*READ, "finish", "I may not."]
    agent, host = scripted_agent(script, {"files.read": "hi"}, approve=lambda call, tool: False)
    result = agent.run("read a.txt")
    assert (host.calls, result.steps[0].observation) == ([], DECLINED)


def test_only_reading_tools_run_unasked() -> None:
    write = spec("files", "write", path={"type": "string"})
    unhinted = type(write)(tool_set="files", name="write", input_schema=write.input_schema)
    catalog = {**CATALOG, "files": (*FILES, unhinted)}
    script = ["files", "write", '{"path":"a"}', "finish", "done"]
    agent, host = scripted_agent(script, {"files.write": "ok"}, catalog=catalog)
    assert agent.run("write a").steps[0].observation == NOT_ALLOWED
    assert host.calls == []


def test_an_unknown_approval_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="approve must be"):
        scripted_agent([], {}, approve="sometimes")


def test_the_step_budget_ends_the_run() -> None:
    script: list[str] = []
    for name in "abc":
        script += ["files", "read", json.dumps({"path": name})]
    agent, host = scripted_agent([*script[:6], "enough"], {"files.read": ["1", "2", "3"]})
    result = agent.run("read all", budget=Budget(steps=2))
    assert (result.stopped, len(host.calls)) == ("steps", 2)


def test_the_time_budget_ends_the_run() -> None:
    agent, _ = scripted_agent(["late"], {})
    assert agent.run("read", budget=Budget(seconds=-1)).stopped == "seconds"


def test_the_token_budget_ends_the_run() -> None:
    script = ["files", "read", '{"path":"five words are decoded here"}', "enough"]
    agent, host = scripted_agent(script, {"files.read": "hi"})
    result = agent.run("read", budget=Budget(tokens=4))
    assert (result.stopped, len(host.calls), result.answer) == ("tokens", 1, "enough")


def test_a_tool_without_arguments_needs_no_argument_stage() -> None:
    agent, host = scripted_agent(["files", "roots", "finish", "ok"], {"files.roots": "/srv"})
    result = agent.run("which folders may you see?")
    assert [r.stage for r in result.trace] == ["route", "select", "route", "answer"]
    assert host.calls[0].arguments == {}


def test_arguments_that_break_the_schema_are_not_sent() -> None:
    script = ["files", "read", '{"path":7}', "finish", "sorry"]
    agent, host = scripted_agent(script, {"files.read": "hi"})
    result = agent.run("read")
    assert host.calls == []
    assert "break the tool's schema" in result.steps[0].observation


def test_one_tool_set_needs_no_route_stage() -> None:
    catalog = {"files": FILES}
    script = ["read", '{"path":"a"}', "finish", "ok"]
    agent, _ = scripted_agent(script, {"files.read": "hi"}, catalog=catalog)
    assert [r.stage for r in agent.run("read a").trace] == [
        "select",
        "arguments",
        "select",
        "answer",
    ]


def test_a_server_that_is_gone_for_good_raises() -> None:
    agent, _ = scripted_agent(READ, {"files.read": ServerGone("files", "it died")})
    with pytest.raises(ServerGone):
        agent.run("read a.txt")


def test_a_cancelled_run_raises_and_calls_nothing_more() -> None:
    cancel = CancelToken()
    agent, host = scripted_agent([*READ, *READ], {"files.read": "hi"})

    def stop_after_first(event: object) -> None:
        if isinstance(event, CallFinished):
            cancel.cancel()

    with pytest.raises(Cancelled):
        agent.run("read", on_event=stop_after_first, cancel=cancel)
    assert len(host.calls) == 1


def test_the_async_run_gives_the_same_result() -> None:
    agent, _ = scripted_agent([*READ, "finish", "ok"], {"files.read": "hi"})
    assert asyncio.run(agent.arun("read a.txt")).answer == "ok"


def test_the_trace_is_json_with_the_stages_of_the_contract() -> None:
    agent, _ = scripted_agent([*READ, "finish", "ok"], {"files.read": "hi"})
    data = json.loads(agent.run("read a.txt").to_json())
    assert set(data) == {"request", "steps", "answer", "stopped", "trace"}
    assert set(data["steps"][0]) == {"tool_set", "tool", "arguments", "observation", "is_error"}
    wanted = {"stage", "adapter", "ms", "prefill_tokens", "reused_tokens", "decoded_tokens"}
    assert all(wanted <= set(stage) for stage in data["trace"])


def test_a_value_that_nobody_gave_is_asked_for() -> None:
    """The grammar left the model almost nothing where it wrote `path`: it is not in the request."""
    copied = CatalogTool(tool_set="files", name="read", sha256=FILES[0].sha256, copied=("path",))
    writer = adapter("args", "arguments", "files", min_support=0.1)
    bundle = manifest([writer]).model_copy(update={"catalog": (copied,)})
    engine = UnsupportedEngine(["files", "read", '{"path":"the"}'])
    host = ScriptedHost({}, tools=FILES + CATALOG["clock"])
    result = Agent(engine, bundle, host).run("read the file")
    assert (result.stopped, host.calls) == ("needs_input", [])
    assert "path" in result.answer


class UnsupportedEngine(ScriptedEngine):
    """Writes arguments that the model did not want to write."""

    def generate(self, request: Generation, **options: Any) -> Completion:
        done = super().generate(request, **options)
        return replace(done, support=0.01, support_at=len('{"path":"'))


def test_a_call_in_progress_does_not_hold_up_a_cancelled_run() -> None:
    cancel, release = CancelToken(), threading.Event()

    def hang(arguments: object) -> str:
        cancel.cancel()
        release.wait(30)
        return "late"

    agent, _ = scripted_agent(READ, {"files.read": hang})
    with pytest.raises(Cancelled):
        agent.run("read a.txt", cancel=cancel)
    release.set()


def test_an_approval_can_be_awaited_on_the_callers_loop() -> None:
    asked: list[str] = []

    async def approve(call: ToolCall, tool: ToolSpec) -> bool:
        await asyncio.sleep(0)
        asked.append(call.tool)
        return True

    agent, host = scripted_agent([*READ, "finish", "ok"], {"files.read": "hi"})
    result = asyncio.run(agent.arun("read a.txt", approve=approve))
    assert (asked, len(host.calls), result.stopped) == (["read"], 1, "answered")


async def _no(call: ToolCall, tool: ToolSpec) -> bool:
    return False


def test_an_async_no_is_never_taken_for_a_yes() -> None:
    with pytest.raises(ConfigError, match="give it to `arun`"):
        scripted_agent([], {}, approve=_no)
    agent, host = scripted_agent([*READ, *READ, "never"], {"files.read": "hi"})
    with pytest.raises(ConfigError, match="give it to `arun`"):
        agent.run("read a.txt", approve=_no)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="approve answered coroutine"):
        asyncio.run(agent.arun("read a.txt", approve=lambda call, tool: _no(call, tool)))
    with pytest.raises(ConfigError, match="approve answered NoneType"):
        agent.run("read a.txt", approve=lambda call, tool: None)  # type: ignore[arg-type, return-value]
    assert host.calls == []


def test_a_call_that_can_be_cancelled_sees_the_callers_context_variables() -> None:
    user, seen = ContextVar("user", default="nobody"), list[str]()

    def read(arguments: object) -> str:
        seen.append(user.get())
        return "hi"

    def agent() -> Agent:
        return scripted_agent([*READ, "finish", "ok"], {"files.read": read})[0]

    user.set("ana")
    agent().run("read a.txt", cancel=CancelToken())
    asyncio.run(agent().arun("read a.txt"))
    assert seen == ["ana", "ana"]


def test_cancelling_the_task_ends_a_run_that_waits_for_an_approval() -> None:
    agent, host = scripted_agent(READ, {"files.read": "hi"})

    async def never(call: ToolCall, tool: ToolSpec) -> bool:
        await asyncio.Event().wait()
        return True

    async def main() -> None:
        task = asyncio.create_task(agent.arun("read a.txt", approve=never))
        await asyncio.sleep(0.2)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert host.calls == []


def test_an_endless_observation_is_kept_only_in_part() -> None:
    agent, _ = scripted_agent([*READ, "finish", "ok"], {"files.read": "x" * 50_000_000})
    result = agent.run("read a.txt")
    assert len(result.steps[0].observation) < 110_000
    assert "characters left out" in result.steps[0].observation
