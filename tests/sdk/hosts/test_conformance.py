"""What every tool host promises, checked on each of them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest
from sdk.hosts.processes import LIMIT_S, call, entry, http_server

from agentflux.contracts.tools import Arguments, JsonSchema, ToolResult, ToolSpec
from agentflux.hosts.local import LocalTools
from agentflux.hosts.many import Hosts
from agentflux.hosts.mcp import McpHost
from agentflux.hosts.results import failed
from agentflux.hosts.scripted import Answer, ScriptedHost, Slow
from agentflux.ports import ToolHost

EMPTY: JsonSchema = {"type": "object", "properties": {}}
TEXT: JsonSchema = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
}


def local_host() -> ToolHost:
    counter = count(1)

    def echo(text: str) -> str:
        """Say it again."""
        return text

    def fail(message: str) -> str:
        raise ValueError(message)

    async def slow(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "at last"

    def number() -> int:
        return next(counter)

    number.__name__ = "count"
    return LocalTools("desk", [echo, fail, slow, number])


def scripted_host() -> ToolHost:
    counter = count(1)

    def echo(arguments: Arguments) -> ToolResult:
        missing = failed("text is missing")
        return ToolResult(text=arguments["text"]) if "text" in arguments else missing

    def fail(arguments: Arguments) -> ToolResult:
        return failed(arguments["message"])

    def number(_: Arguments) -> str:
        return str(next(counter))

    answers: dict[str, Answer] = {
        "desk.echo": echo,
        "desk.fail": fail,
        "desk.slow": Slow(60, "at last"),
        "desk.count": number,
    }
    schemas = {"echo": TEXT, "fail": EMPTY, "slow": EMPTY, "count": EMPTY}
    tools = [
        ToolSpec(tool_set="desk", name=name, input_schema=schema)
        for name, schema in schemas.items()
    ]
    return ScriptedHost(answers, tools=tools)


def stdio_host() -> ToolHost:
    return McpHost.from_config({"mcpServers": {"desk": entry("good.py")}}, start_timeout_s=LIMIT_S)


def several_hosts() -> ToolHost:
    return Hosts([ScriptedHost({"mail.send": "sent"}), local_host()])


MAKERS: dict[str, Callable[[], ToolHost]] = {
    "local": local_host,
    "scripted": scripted_host,
    "mcp-stdio": stdio_host,
    "many": several_hosts,
}


@pytest.fixture(scope="module", params=[*MAKERS, "mcp-http"])
def host(request: pytest.FixtureRequest) -> Iterator[ToolHost]:
    with ExitStack() as stack:
        if request.param == "mcp-http":
            url, _ = stack.enter_context(http_server())
            made: ToolHost = McpHost.from_config({"mcpServers": {"desk": {"url": url}}})
        else:
            made = MAKERS[request.param]()
        stack.callback(made.close)
        made.list_tools()
        yield made


def test_tools_are_listed_with_their_set_and_an_object_schema(host: ToolHost) -> None:
    tools = {tool.name: tool for tool in host.list_tools() if tool.tool_set == "desk"}

    assert set(tools) == {"echo", "fail", "slow", "count"}
    assert tools["echo"].input_schema["required"] == ["text"]
    assert all(tool.input_schema["type"] == "object" for tool in tools.values())


def test_a_call_returns_the_tools_text(host: ToolHost) -> None:
    result = host.call(call("desk", "echo", text="Grüße, 12 €"), timeout_s=LIMIT_S)

    assert (result.text, result.is_error) == ("Grüße, 12 €", False)


def test_one_request_calls_the_tool_once(host: ToolHost) -> None:
    counted = [host.call(call("desk", "count"), timeout_s=LIMIT_S).text for _ in range(3)]

    assert counted == ["1", "2", "3"]


def test_a_failed_tool_is_a_result_with_its_message(host: ToolHost) -> None:
    result = host.call(call("desk", "fail", message="the printer is on fire"), timeout_s=LIMIT_S)

    assert result.is_error
    assert "the printer is on fire" in result.text


def test_missing_arguments_are_a_failed_result_that_names_them(host: ToolHost) -> None:
    result = host.call(call("desk", "echo"), timeout_s=LIMIT_S)

    assert result.is_error
    assert "text" in result.text


def test_an_unknown_tool_is_a_failed_result_that_names_it(host: ToolHost) -> None:
    result = host.call(call("desk", "explode"), timeout_s=LIMIT_S)

    assert result.is_error
    assert "explode" in result.text


def test_an_unknown_tool_set_is_a_failed_result_that_names_the_known_ones(host: ToolHost) -> None:
    result = host.call(call("attic", "echo", text="x"), timeout_s=LIMIT_S)

    assert result.is_error
    assert "'attic'" in result.text
    assert "'desk'" in result.text


def test_a_call_past_its_limit_is_a_failed_result_and_the_next_one_is_answered(
    host: ToolHost,
) -> None:
    started = time.monotonic()
    late = host.call(call("desk", "slow", seconds=60.0), timeout_s=0.2)
    waited = time.monotonic() - started

    assert late.is_error
    assert "within 0.2 s" in late.text
    assert waited < 2
    assert (
        host.call(call("desk", "echo", text="still here"), timeout_s=LIMIT_S).text == "still here"
    )


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_host_can_be_closed_twice_and_before_it_was_used(make: Callable[[], ToolHost]) -> None:
    unused = make()
    unused.close()
    unused.close()
