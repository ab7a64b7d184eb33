"""The host that answers from a script."""

import pytest
from sdk.hosts.processes import call

from agentflux.contracts.tools import ToolResult
from agentflux.errors import ConfigError, ServerGone
from agentflux.hosts.results import failed
from agentflux.hosts.scripted import ScriptedHost, Slow


def test_tools_are_made_from_the_scripts_keys() -> None:
    host = ScriptedHost({"mail.send": "sent", "files.read.me": "text"})

    listed = [(tool.tool_set, tool.name) for tool in host.list_tools()]

    assert listed == [("mail", "send"), ("files", "read.me")]


def test_calls_are_recorded_in_order() -> None:
    host = ScriptedHost({"mail.send": "sent"})
    calls = [call("mail", "send", to="Ada"), call("mail", "burn")]
    for one in calls:
        host.call(one, timeout_s=1)

    assert host.calls == calls


def test_a_list_is_used_up_one_answer_a_call() -> None:
    host = ScriptedHost({"files.read": ["first", failed("no such file")]})

    results = [host.call(call("files", "read"), timeout_s=1) for _ in range(3)]

    assert results == [
        ToolResult(text="first"),
        failed("no such file"),
        failed("the script has no more answers for 'files.read'"),
    ]


def test_an_error_of_the_script_is_raised() -> None:
    host = ScriptedHost({"mail.send": ServerGone("mail", "it died")})

    with pytest.raises(ServerGone, match="it died"):
        host.call(call("mail", "send"), timeout_s=1)


def test_a_slow_answer_costs_no_time_and_obeys_the_limit() -> None:
    host = ScriptedHost({"mail.send": Slow(3600, "sent")})

    assert host.call(call("mail", "send"), timeout_s=10).is_error
    assert host.call(call("mail", "send"), timeout_s=7200).text == "sent"


def test_a_key_without_a_tool_set_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'tool_set\.tool', not 'send'"):
        ScriptedHost({"send": "sent"})
