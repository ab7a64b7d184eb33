"""`afx chat` over scripted parts: requests, approvals, commands, and Ctrl-C."""

import io
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sdk.support import CATALOG, FILES, ChangingHost, manifest, scripted_agent

from agentflux import Agent, ScriptedHost, ToolSpec
from agentflux.conversation import Conversation
from agentflux.engines.scripted import ScriptedEngine
from agentflux.errors import ContextOverflow
from agentflux.hosts.scripted import Answer
from agentflux.ports import Choosing, Scores

WRITE = ToolSpec(
    tool_set="files", name="write", input_schema=FILES[0].input_schema, destructive=True
)
TOOLS = {**CATALOG, "files": (*FILES, WRITE)}
WRITING = ["files", "write", '{"path":"a.txt"}', "finish", "Done."]


def talk(
    lines: Iterable[str], script: Iterable[str], answers: Mapping[str, Answer]
) -> tuple[str, str, ScriptedHost]:
    """Hold a conversation; return notes, answers and the host."""
    agent, host = scripted_agent(script, answers, catalog=TOOLS)
    notes, stream, left = io.StringIO(), io.StringIO(), list(lines)

    def read(prompt: str) -> str:
        notes.write(prompt)
        if not left:
            raise EOFError
        return left.pop(0)

    Conversation(agent, read, notes, stream).hold()
    return notes.getvalue(), stream.getvalue(), host


def test_a_request_shows_its_stages_and_its_answer() -> None:
    script = ["files", "read", '{"path":"a.txt"}', "finish", "It says hi."]
    notes, answer, host = talk(["what is in a.txt?", "/quit"], script, {"files.read": "hi"})
    assert "route" in notes
    assert "files.read" in notes
    assert answer == "It says hi.\n"
    assert len(host.calls) == 1


def test_a_request_is_told_what_was_said_before_until_it_is_forgotten() -> None:
    engine = ScriptedEngine(["none", "Hello Ana.", "none", "Ana.", "none", "Who?"])
    agent = Agent(engine, manifest(), ScriptedHost({}, tools=FILES + CATALOG["clock"]))
    lines = iter(["I am Ana", "who am I?", "/forget", "who am I?"])

    def read(prompt: str) -> str:
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    Conversation(agent, read, io.StringIO(), io.StringIO()).hold(context="Time zone: UTC")
    routes = [[s.text for s in request.segments] for request in engine.requests[::2]]
    assert "Earlier" not in "".join(routes[0])
    assert "User: I am Ana\nAssistant: Hello Ana." in "".join(routes[1])
    assert routes[2] == [*routes[0][:2], *routes[1][2:]], "static and context as at first"


class SmallEngine(ScriptedEngine):
    """Has room for prompts of 450 characters."""

    def choose(self, request: Choosing, **options: Any) -> Scores:
        length = sum(len(segment.text) for segment in request.segments)
        if length > 450:
            raise ContextOverflow(needed=length, limit=450)
        return super().choose(request, **options)


def test_memory_that_leaves_no_room_is_forgotten() -> None:
    engine = SmallEngine(["none", "Noted. " * 60, "none", "Hello."])
    agent = Agent(engine, manifest(), ScriptedHost({}, tools=FILES + CATALOG["clock"]))
    notes, lines = io.StringIO(), iter(["remember this", "hello", "hello"])

    def read(prompt: str) -> str:
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    Conversation(agent, read, notes, io.StringIO()).hold()
    assert notes.getvalue().count("ContextOverflow") == 1
    assert notes.getvalue().count("abstained") == 2


def test_a_call_that_writes_is_shown_and_asked_for() -> None:
    notes, _, host = talk(["write it", "y"], WRITING, {"files.write": "ok"})
    assert '"path": "a.txt"' in notes
    assert len(host.calls) == 1


def test_anything_but_yes_is_a_no() -> None:
    for reply in ("n", "", "maybe"):
        _, _, host = talk(["write it", reply], WRITING, {"files.write": "ok"})
        assert host.calls == []


def test_commands_list_the_tools() -> None:
    notes, _, _ = talk(["/tools", "/held", "/accept files read", "/what"], [], {})
    assert "files: read, list, roots, write" in notes
    assert "held back" in notes


def test_held_tools_are_listed_with_their_hints_and_accepted_as_listed() -> None:
    host, notes = ChangingHost({}, tools=[WRITE]), io.StringIO()
    agent = Agent(ScriptedEngine([]), manifest(), host)
    lax = replace(WRITE, destructive=None, read_only=True)

    def lines() -> Iterator[str]:
        host.change([replace(WRITE, description="Writes.")])
        yield from ("/tools", "/held")
        host.change([lax])
        yield from ("/tools", "/accept files write", "/held", "/accept files write", "/quit")

    given = lines()
    Conversation(agent, lambda _: next(given), notes, io.StringIO()).hold()
    first, refused, second = notes.getvalue().splitlines()[1:]
    assert first == "  files write: changed since acceptance; it says: may destroy; Writes."
    assert "changed since it was shown" in refused
    assert "it says: reads only" in second
    assert agent.catalog == {"files": (lax,)}


def test_an_error_ends_the_request_and_not_the_conversation() -> None:
    notes, answer, _ = talk(["hello", "/tools"], [], {})
    assert "EngineError" in notes
    assert "files:" in notes
    assert answer == ""


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """SIGINT as in a terminal, also where the tests run as a background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_stops_the_request_and_not_the_conversation() -> None:
    def interrupt(arguments: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "hi"

    script = ["files", "read", '{"path":"a.txt"}', "finish", "never"]
    notes, answer, _ = talk(["read a.txt", "/tools"], script, {"files.read": interrupt})
    assert "stopped" in notes
    assert "files:" in notes
    assert answer == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_while_an_approval_is_asked_stops_the_request_at_once() -> None:
    agent, host = scripted_agent(WRITING, {"files.write": "ok"}, catalog=TOOLS)
    notes, lines, waited = io.StringIO(), ["write it", "/tools"], list[str]()

    def read(prompt: str) -> str:
        if "allow" in prompt:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # as `input`, which is taken up again where nothing is raised
            waited.append(prompt)
            return "y"
        if not lines:
            raise EOFError
        return lines.pop(0)

    Conversation(agent, read, notes, io.StringIO()).hold()
    assert waited == []
    assert "stopped" in notes.getvalue()
    assert "files:" in notes.getvalue()
    assert host.calls == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
