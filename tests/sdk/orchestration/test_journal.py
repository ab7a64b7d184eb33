"""Runs that were killed go on from their journal, and no tool that answered is called again."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sdk.support import CATALOG, FILES, scripted_agent, spec

from agentflux import ApprovalNeeded, Journal, Situation, Step, ToolCall, ToolSpec
from agentflux.errors import EngineError, JournalError
from agentflux.orchestration.journal import CUT_NOTE, OUTCOME_UNKNOWN
from agentflux.orchestration.policy import Policy

WRITE = ToolSpec(
    tool_set="files",
    name="write",
    input_schema=spec("files", "write", path={"type": "string"}).input_schema,
)
TOOLS = {**CATALOG, "files": (*FILES, WRITE)}
CALLS = [
    ["files", "write", '{"path":"a.txt"}'],
    ["files", "read", '{"path":"a.txt"}'],
    ["files", "write", '{"path":"b.txt"}'],
]
ANSWERS = {"files.write": "written", "files.read": "hi"}


def script(done: int = 0) -> list[str]:
    """What the model says after `done` steps."""
    return [*(word for call in CALLS[done:] for word in call), "finish", "All done."]


def agent_after(done: int, **options: object):
    return scripted_agent(script(done), ANSWERS, catalog=TOOLS, approve="all", **options)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def whole_run(path: Path) -> bytes:
    agent, _ = agent_after(0)
    assert agent.run("copy", journal=path).stopped == "answered"
    return path.read_bytes()


def test_the_journal_tells_the_whole_run(tmp_path: Path) -> None:
    whole_run(tmp_path / "run.jsonl")
    kinds = [record["type"] for record in records(tmp_path / "run.jsonl")]
    assert kinds == ["run_started", *["call_started", "call_finished"] * 3, "run_ended"]


def test_an_ended_run_is_returned_and_nothing_is_done_again(tmp_path: Path) -> None:
    whole_run(tmp_path / "run.jsonl")
    agent, host = scripted_agent([], {}, catalog=TOOLS)
    result = agent.resume(tmp_path / "run.jsonl")
    assert (result.stopped, result.answer, len(result.steps)) == ("answered", "All done.", 3)
    assert host.calls == []


@pytest.mark.parametrize("cut", [*range(0, 1000, 37), *range(1000, 2600, 61)])
def test_a_run_cut_at_any_byte_calls_no_answered_tool_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(whole_run(path)[:cut])
    with Journal(path) as journal:
        before = journal.recording
    answered = before.start.steps if before else ()
    lost = before.unanswered if before else None
    unsafe = lost is not None and lost.call.tool == "write"
    agent, host = agent_after(len(answered) + (lost is not None))
    result = agent.run("copy", journal=path)

    assert (result.stopped, len(result.steps)) == ("answered", 3)
    assert len(host.calls) == 3 - len(answered) - unsafe
    assert [s.observation for s in result.steps].count(OUTCOME_UNKNOWN) == unsafe
    with Journal(path) as journal:
        assert journal.recording is not None
        assert journal.recording.start.steps == result.steps


def test_a_killed_process_leaves_a_journal_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    program = f"""
import os, signal
from sdk.orchestration.test_journal import TOOLS, script
from sdk.support import scripted_agent
die = lambda arguments: os.kill(os.getpid(), signal.SIGKILL)
answers = {{"files.write": ["written", die], "files.read": "hi"}}
agent, _ = scripted_agent(script(), answers, catalog=TOOLS, approve="all")
agent.run("copy", journal={str(path)!r})
"""
    tests = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=tests, check=False)
    assert done.returncode == -9
    agent, host = agent_after(3)
    result = agent.resume(path)
    assert [s.observation for s in result.steps] == ["written", "hi", OUTCOME_UNKNOWN]
    assert (host.calls, result.answer) == ([], "All done.")


def test_a_call_is_repeated_only_while_its_tool_is_the_one_that_was_called(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    changed = ToolSpec(
        tool_set="files",
        name="read",
        description="now deletes",
        read_only=True,
        input_schema=FILES[0].input_schema,
    )
    with Journal(path) as journal:
        journal.begin(Situation(request="copy"))
        journal.started(ToolCall(tool_set="files", tool="read"), FILES[0])
    agent, host = scripted_agent(
        ["finish", "ok"], ANSWERS, catalog={**TOOLS, "files": (changed, WRITE)}
    )
    assert agent.resume(path).steps[0].observation == OUTCOME_UNKNOWN
    assert host.calls == []


def test_a_call_that_a_policy_forbids_by_now_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path) as journal:
        journal.begin(Situation(request="copy"))
        journal.started(ToolCall(tool_set="files", tool="read"), FILES[0])
    policy = Policy.load({"rules": [{"tool": "read", "verdict": "deny"}]})
    agent, host = scripted_agent(["finish", "ok"], ANSWERS, catalog=TOOLS, policy=policy)
    assert agent.resume(path).steps[0].observation == OUTCOME_UNKNOWN
    assert host.calls == []


def test_arguments_that_were_not_written_are_remembered_as_such(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    bad = ["files", "read", "{'path'"]
    agent, _ = scripted_agent(bad, ANSWERS, catalog=TOOLS)
    with pytest.raises(EngineError):  # the script ends: the program is gone
        agent.run("copy", journal=path)
    agent, host = scripted_agent([*bad, "sorry"], ANSWERS, catalog=TOOLS)
    assert agent.resume(path).stopped == "arguments"
    assert host.calls == []


def test_a_yes_that_was_given_is_not_asked_for_again(tmp_path: Path) -> None:
    path, asked = tmp_path / "run.jsonl", []

    def yes(call: ToolCall, tool: ToolSpec) -> bool:
        asked.append(call)
        return True

    agent, _ = scripted_agent(script(), ANSWERS, catalog=TOOLS, approve=yes)
    agent.run("copy", journal=path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[1])["type"] == "approval"
    path.write_bytes(b"".join(lines[:2]))  # killed after the yes, before the call left

    again, host = scripted_agent(script(), ANSWERS, catalog=TOOLS, approve=yes)
    events: list[object] = []
    again.run("copy", journal=path, on_event=events.append)
    assert len(asked) == 3 + 2
    assert (len(host.calls), sum(isinstance(e, ApprovalNeeded) for e in events)) == (3, 2)


def test_a_run_starts_from_steps_already_done() -> None:
    agent, host = agent_after(2)
    done = [
        Step(
            call=ToolCall(tool_set="files", tool="write", arguments={"path": "a.txt"}),
            observation="written",
        ),
        Step(
            call=ToolCall(tool_set="files", tool="read", arguments={"path": "a.txt"}),
            observation="hi",
        ),
    ]
    result = agent.run("copy", steps=done)
    assert [c.arguments for c in host.calls] == [{"path": "b.txt"}]
    assert (list(result.steps[:2]), result.stopped) == (done, "answered")


def test_another_request_does_not_continue_a_journal(tmp_path: Path) -> None:
    whole_run(tmp_path / "run.jsonl")
    agent, _ = agent_after(0)
    with pytest.raises(JournalError, match="another request"):
        agent.run("delete", journal=tmp_path / "run.jsonl")


def test_damage_before_the_last_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    lines = whole_run(path).splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"type":"call_sta\n', *lines[2:]]))
    with pytest.raises(JournalError, match="line 2 is damaged"):
        Journal(path)


@pytest.mark.parametrize(
    "text", ["buy oat milk and call Ada\n", "buy oat milk", '{"a": 1}', '{"a": 1}\n', '{"type"\n']
)
def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(JournalError, match=r"is no journal|line 1 is damaged"):
        Journal(path)
    assert path.read_text(encoding="utf-8") == text


def test_a_first_line_that_was_torn_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first = whole_run(path).splitlines()[0]
    for length in (1, 9, 40):
        path.write_bytes(first[:length])
        agent, host = agent_after(0)
        assert agent.run("copy", journal=path).stopped == "answered"
        assert len(host.calls) == 3


def test_an_empty_journal_cannot_be_resumed(tmp_path: Path) -> None:
    agent, _ = agent_after(0)
    with pytest.raises(JournalError, match="holds no run"):
        agent.resume(tmp_path / "none.jsonl")
    with pytest.raises(JournalError, match="cannot be opened"):
        agent.resume(tmp_path / "no-folder" / "run.jsonl")


def test_two_runs_cannot_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.jsonl"), pytest.raises(JournalError, match="another run"):
        Journal(tmp_path / "run.jsonl")


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """Let the system refuse every byte of a file beyond this size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_no_call_leaves_unrecorded(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    agent, host = agent_after(0)
    with disk_full_at(600), pytest.raises(JournalError, match="cannot be written"):
        agent.run("copy", journal=path)
    assert host.calls == []
    again, host = agent_after(0)
    assert again.run("copy", journal=path).stopped == "answered"
    assert len(host.calls) == 3


def test_an_answer_that_a_full_disk_cuts_is_still_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    answers = {**ANSWERS, "files.write": "long " * 10_000}
    agent, host = scripted_agent(script(), answers, catalog=TOOLS, approve="all")
    with disk_full_at(1600), pytest.raises(JournalError, match="cannot be written"):
        agent.run("copy", journal=path)
    assert len(host.calls) == 1
    again, host = agent_after(1)
    result = again.resume(path)
    assert result.steps[0].observation == CUT_NOTE
    assert [c.tool for c in host.calls] == ["read", "write"]
