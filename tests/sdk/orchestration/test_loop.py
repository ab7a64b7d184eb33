"""The loop over scripted parts: what it calls, what it shows the model, and when it ends."""

import asyncio
import json

import pytest
from sdk.support import CATALOG, FILES, scripted_agent, spec

from agentflux import Budget, CallFinished, CancelToken, ToolResult
from agentflux.errors import Cancelled, ConfigError, ServerGone
from agentflux.orchestration.loop import DECLINED, NOT_ALLOWED

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
