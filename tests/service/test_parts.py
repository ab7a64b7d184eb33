"""The service's parts without a model: the line, limits, keys, settings, the store, the wire."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from sdk.support import FILES, scripted_agent
from service.support import PATIENCE_S

from agentflux import Agent, CallFinished, CancelToken
from agentflux.errors import ConfigError
from edge_service.database import Database, DatabaseError
from edge_service.metrics import Metrics
from edge_service.openai_api import conversation
from edge_service.openai_api.schema import ChatRequest, Tool
from edge_service.openai_api.tools import ToolNames
from edge_service.problems import Problem
from edge_service.runs.execution import Active, Execution
from edge_service.runs.hub import Hub
from edge_service.runs.retention import forget_old_runs, remove_spent_journals
from edge_service.runs.runner import Runner
from edge_service.runs.schema import Run, RunRequest, Status
from edge_service.runs.store import RunStore
from edge_service.security.keys import Keys
from edge_service.security.limits import RateLimit
from edge_service.settings import load_settings
from edge_service.work import QueueFull, Ticket, WorkQueue

NAMES = ToolNames([("time", "get_current_time"), ("git", "status"), ("jj", "status")])


@given(st.lists(st.integers(0, 9), max_size=60))
def test_the_line_is_short_fair_and_never_overbooked(moves: list[int]) -> None:
    line = WorkQueue(places=2, waiting=3)
    order, open_tickets = [], []
    for move in moves:
        if move < 6:
            try:
                open_tickets.append(line.enter())
            except QueueFull as full:
                assert line.waiting == 3
                assert full.retry_after_s > 0
        elif open_tickets:
            open_tickets.pop(move % len(open_tickets)).leave()
        assert line.working <= 2
        assert line.waiting <= 3
        assert line.working == 2 or line.waiting == 0
        order = [ticket.turn.done() for ticket in open_tickets]
    assert order == sorted(order, reverse=True)


def test_who_steps_aside_comes_back_before_those_who_wait() -> None:
    line = WorkQueue(places=1, waiting=5)
    first, second, third = line.enter(), line.enter(), line.enter()
    first.step_aside()
    assert second.turn.done()
    back = threading.Thread(target=first.come_back, args=(CancelToken(),))
    back.start()
    while line.waiting < 2:
        pass
    second.leave()
    back.join(10)
    assert not back.is_alive()
    assert not third.turn.done()


def test_a_ticket_knows_how_many_are_ahead_of_it() -> None:
    line = WorkQueue(places=2, waiting=3)
    tickets = [line.enter() for _ in range(4)]
    assert [ticket.ahead for ticket in tickets] == [0, 1, 2, 3]
    tickets[0].leave()
    assert line.enter().ahead == 3


def test_a_spent_client_is_told_when_to_come_back_and_others_are_not_slowed() -> None:
    limit = RateLimit(2)
    assert [limit.take("a") for _ in range(2)] == [0, 0]
    assert 0 < limit.take("a") <= 30
    assert limit.take("b") == 0


def test_a_key_works_until_it_is_revoked_and_its_hash_only_is_kept(tmp_path: Path) -> None:
    database = Database(tmp_path)
    key = Keys(database).create("phone", tenant="home")
    found = Keys(Database(tmp_path)).verify(key)
    assert found is not None
    assert found.tenant == "home"
    for wrong in ("", "afx", key + "x", key.replace("afx", "abc"), "afx-00000000-x", "é-é-é"):
        assert Keys(database).verify(wrong) is None
    Keys(database).revoke(found.key_id)
    assert Keys(database).verify(key) is None
    with pytest.raises(ConfigError):
        Keys(database).revoke(found.key_id)


def test_a_name_that_is_a_tenants_makes_a_key_of_that_tenant_only_on_request(
    tmp_path: Path,
) -> None:
    keys = Keys(Database(tmp_path))
    first = keys.verify(keys.create("phone"))
    assert first is not None
    keys.revoke(first.key_id)
    keys.create("tablet", tenant="home sweet home")
    for name in ("phone", "home sweet home"):
        with pytest.raises(ConfigError, match=f"--tenant '?{name}'? to share its runs"):
            keys.create(name)
    second = keys.verify(keys.create("phone", tenant="phone"))
    assert second is not None
    assert second.tenant == first.tenant == "phone"


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What most users have: others may read new files."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_runs_are_only_for_their_owner_also_in_a_folder_that_others_can_read(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    left = tmp_path / "service.db-wal"
    left.touch(mode=0o644)  # as an older service left it
    database = Database(tmp_path)
    RunStore(database).create("home", RunRequest(request="x"))
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("service.db", "service.db-wal", "service.db-shm"), "0o600")


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    with Database(tmp_path).write() as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DatabaseError, match="version 99"):
        Database(tmp_path)


def test_settings_come_from_command_line_over_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.toml"
    file.write_text('bundle = "b"\nport = 1\nqueue = 1\nbody_seconds = 1', encoding="utf-8")
    monkeypatch.setenv("AFX_SERVE_PORT", "2")
    monkeypatch.setenv("AFX_SERVE_QUEUE", "2")
    settings = load_settings(file, port=3)
    assert (settings.port, settings.queue, settings.body_seconds) == (3, 2, 1)
    assert settings.host == "127.0.0.1"


def test_an_empty_variable_is_one_that_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "service.toml"
    file.write_text('bundle = "b"\nthreads = 3', encoding="utf-8")
    for name in ("HOST", "THREADS", "ALLOWED_HOSTS"):
        monkeypatch.setenv(f"AFX_SERVE_{name}", "")
    settings = load_settings(file)
    assert (settings.host, settings.threads, settings.allowed_hosts) == ("127.0.0.1", 3, ())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("port = 70000\nbundle = 'b'", "port"),
        ("host = ''\nbundle = 'b'", "host"),
        ("colour = 1\nbundle = 'b'", "colour"),
        ("", "bundle"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "service.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        load_settings(file)


def test_events_are_numbered_without_gaps_and_an_ended_run_takes_none(tmp_path: Path) -> None:
    store = RunStore(Database(tmp_path))
    run_id = store.create("home", RunRequest(request="x"))
    assert store.append(run_id, "run_started", {}, status="running")
    assert store.append(run_id, "run_completed", {}, status="completed", answer="done")
    assert not store.append(run_id, "answer_text", {"text": "late"})
    assert [event.seq for event in store.events(run_id, after=0)] == [1, 2, 3]
    assert [event.type for event in store.events(run_id, after=2)] == ["run_completed"]
    run = store.get(run_id, tenant="home")
    assert run is not None
    assert (run.answer, run.last_event) == ("done", 3)
    assert store.get(run_id, tenant="office") is None


def ended(store: RunStore, tenant: str, count: int) -> list[str]:
    """Store runs that ended one after the other; return their ids, newest first."""
    made = [store.create(tenant, RunRequest(request="x")) for _ in range(count)]
    for run_id in made:
        store.append(run_id, "run_completed", {}, status="completed", answer="done")
    return made[::-1]


def test_old_runs_are_forgotten_with_their_events_and_open_ones_stay(tmp_path: Path) -> None:
    store = RunStore(Database(tmp_path))
    still_open = store.create("home", RunRequest(request="x"))
    home, office = ended(store, "home", 120), ended(store, "office", 2)
    few = load_settings(None, bundle=tmp_path, data=tmp_path, keep_runs=3)
    assert forget_old_runs(store, few) == 117
    assert [run.id for run in store.newest("home", limit=100)] == [*home[:3], still_open]
    assert [run.id for run in store.newest("office", limit=100)] == office
    assert store.events(home[3], after=0) == []
    assert store.events(home[2], after=0)
    assert forget_old_runs(store, few) == 0
    short = load_settings(None, bundle=tmp_path, data=tmp_path, keep_days=1e-9)
    assert forget_old_runs(store, short) == 5
    assert store.unfinished() == [still_open]


def test_nothing_of_a_forgotten_run_stays_in_the_file(tmp_path: Path) -> None:
    database = Database(tmp_path)
    store = RunStore(database)
    secret = store.create("home", RunRequest(request="the code is 4711-secret"))
    store.append(secret, "run_completed", {}, status="completed", answer="4711-secret")
    assert store.forget(before=time.time() + 1, keep=100) == 1
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"4711-secret" not in files


def test_journals_of_ended_runs_are_removed_and_those_of_open_ones_stay(tmp_path: Path) -> None:
    store = RunStore(Database(tmp_path))
    still_open, (done,) = store.create("home", RunRequest(request="x")), ended(store, "home", 1)
    journals = tmp_path / "journals"
    journals.mkdir()
    for name in (still_open, done, "run_unknown"):
        (journals / f"{name}.jsonl").write_text("{}")
    remove_spent_journals(store, journals)
    assert [path.name for path in journals.iterdir()] == [f"{still_open}.jsonl"]


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("get_current_time", ("time", "get_current_time")),
        ("status", ("functions", "status")),
        ("mcp__git__status", ("git", "status")),
        ("git_status", ("git", "status")),
        ("weather", ("functions", "weather")),
        ("none", ("functions", "none")),
    ],
)
def test_a_functions_name_tells_its_tool_set(name: str, pair: tuple[str, str]) -> None:
    assert NAMES.split(name) == pair


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ([{"name": "functions__send"}, {"name": "send"}], "one tool's names"),
        ([{"name": "send", "parameters": {"properties": ["a"]}}], "schema of an object"),
        ([{"name": "send", "parameters": {"required": 5}}], "schema of an object"),
        ([{"name": "send", "parameters": {"required": [{}]}}], "schema of an object"),
        ([{"name": "send", "parameters": {"type": "array"}}], "schema of an object"),
    ],
)
def test_functions_that_cannot_be_told_apart_or_read_are_refused(
    functions: list[dict[str, object]], said: str
) -> None:
    tools = [Tool.model_validate({"type": "function", "function": f}) for f in functions]
    with pytest.raises(Problem, match=said) as caught:
        NAMES.candidates(tools, None)
    problem = caught.value
    assert (problem.status, problem.code, problem.param) == (400, "invalid_value", "tools")


def test_null_in_a_functions_parameters_is_what_its_client_left_out() -> None:
    parameters = {"type": "object", "properties": {"to": {"type": "string"}}, "required": None}
    function = {"name": "send", "parameters": parameters}
    tool = Tool.model_validate({"type": "function", "function": function})
    found = NAMES.candidates([tool], None)
    assert found is not None
    assert found.specs[0].input_schema == {key: parameters[key] for key in ("type", "properties")}


def test_a_variable_that_is_no_json_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AFX_SERVE_ALLOWED_HOSTS", "gateway.local")
    with pytest.raises(ConfigError, match=r"allowed_hosts.*a list is written as JSON"):
        load_settings(None, bundle=tmp_path)


def test_methods_that_clients_invent_are_one_label() -> None:
    metrics = Metrics(WorkQueue(places=1, waiting=1))
    for method in ("GET", "ABC", "XYZ"):
        metrics.http({"method": method}, 401, 0.1)
    told = generate_latest(metrics.registry).decode()
    assert 'method="GET"' in told
    assert 'method="other",route="(none)",status="401"} 2.0' in told
    assert "ABC" not in told


def request(*messages: dict[str, object]) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": list(messages)})


CALLED = {
    "role": "assistant",
    "tool_calls": [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "get_current_time", "arguments": '{"timezone":"Asia/Tokyo"}'},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "09:30"}


def test_a_conversation_becomes_a_request_with_context_and_steps() -> None:
    asked = request(
        {"role": "system", "content": "Workspace root: /srv"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "the time?"},
        CALLED,
        RESULT,
    )
    found = conversation.situation(asked.messages, NAMES)
    assert found.request == "the time?"
    assert found.context.startswith("Workspace root: /srv")
    assert "User: hello\nAssistant: hi" in found.context
    (step,) = found.steps
    assert (step.call.tool_set, step.call.tool, step.observation) == (
        *("time", "get_current_time"),
        "09:30",
    )
    last = conversation.turns(asked.messages)[-1]
    assert last.role == "user"
    assert "09:30" in last.text


def test_a_result_is_told_where_the_calling_message_has_a_text_as_well() -> None:
    user, calling = {"role": "user", "content": "the time?"}, {**CALLED, "content": "I look."}
    turns = conversation.turns(request(user, calling, RESULT).messages)
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert "09:30" in turns[-1].text
    answered = conversation.turns(
        request(user, calling, RESULT, {"role": "assistant", "content": "It is 09:30."}).messages
    )
    assert answered[-1].role == "assistant"


@pytest.mark.parametrize(
    "messages",
    [
        [RESULT],
        [CALLED],
        [CALLED, {"role": "user", "content": "x"}],
        [CALLED, RESULT, RESULT],
    ],
)
def test_calls_and_results_must_fit(messages: list[dict[str, object]]) -> None:
    with pytest.raises(Problem):
        conversation.check_calls(request(*messages).messages)


def test_a_call_that_only_the_journal_knows_is_told_after_a_restart(tmp_path: Path) -> None:
    """The process can end between the journal's line and the event."""
    script = ["read", '{"path":"a"}', "finish", "Rye bread."]
    agent, host = scripted_agent(script, {"files.read": "rye bread"}, catalog={"files": FILES[:1]})
    settings = load_settings(
        None, bundle=tmp_path, data=tmp_path, approve="all", context="changed since then"
    )
    store = RunStore(Database(tmp_path))
    run_id = store.create("home", RunRequest(request="what is in a?"))
    (tmp_path / "journals").mkdir()
    with pytest.raises(KeyboardInterrupt):
        agent.run(
            "what is in a?",
            approve="all",
            journal=tmp_path / "journals" / f"{run_id}.jsonl",
            on_event=die_after_the_call,
        )

    async def resume() -> None:
        line = WorkQueue(places=1, waiting=1)
        execution = Execution(
            agent=agent, settings=settings, store=store, metrics=Metrics(line), hub=Hub()
        )
        execution.work(Active(run_id, line.enter()), resumed=True)

    asyncio.run(resume())
    run = store.get(run_id, tenant="home")
    assert run is not None
    assert (run.status, run.answer) == ("completed", "Rye bread.")
    assert [step.observation for step in run.steps] == ["rye bread"]
    assert len(host.calls) == 1


def test_a_run_that_was_submitted_before_the_recovery_is_not_started_again(
    tmp_path: Path,
) -> None:
    agent, host = scripted_agent(["none", "hello"], {}, catalog={"files": FILES[:1]})
    settings = load_settings(None, bundle=tmp_path, data=tmp_path, approve="all")
    store = RunStore(Database(tmp_path))

    async def submit_and_recover() -> str:
        line = WorkQueue(places=1, waiting=4)
        execution = Execution(
            agent=agent, settings=settings, store=store, metrics=Metrics(line), hub=Hub()
        )
        runner = Runner(execution, line)
        run_id = runner.submit("home", RunRequest(request="hello"))
        assert runner.recover() == 0
        await runner.drain(30)
        return run_id

    run = store.get(asyncio.run(submit_and_recover()), tenant="home")
    assert run is not None
    assert (run.status, run.answer) == ("completed", "hello")


def parts(agent: Agent, folder: Path, **given: object) -> tuple[Runner, Execution, WorkQueue]:
    """A runner with one place, and what it is made of. On the event loop."""
    line, store = WorkQueue(places=1, waiting=4), RunStore(Database(folder))
    settings = load_settings(None, bundle=folder, data=folder, **given)
    execution = Execution(
        agent=agent, settings=settings, store=store, metrics=Metrics(line), hub=Hub()
    )
    return Runner(execution, line), execution, line


def test_a_run_that_has_ended_is_not_served_again(tmp_path: Path) -> None:
    """As when another process ended it while it stood in line here."""
    script = ["read", '{"path":"a"}', "finish", "Rye bread."]
    agent, host = scripted_agent(script, {"files.read": "rye bread"}, catalog={"files": FILES[:1]})
    store = RunStore(Database(tmp_path))
    (run_id,) = ended(store, "home", 1)

    async def serve() -> None:
        _, execution, line = parts(agent, tmp_path, approve="all")
        execution.work(Active(run_id, line.enter()), resumed=False)

    asyncio.run(serve())
    assert host.calls == []
    assert not (tmp_path / "journals").exists()


async def reached(runner: Runner, store: RunStore, run_id: str, status: Status) -> Run:
    """Wait until the run has the status."""
    async with asyncio.timeout(PATIENCE_S):
        with runner.hub.listen(run_id) as bell:
            while (run := store.get(run_id, tenant=None)) is None or run.status != status:
                await bell.heard(1.0)
    return run


async def approved_behind_another(
    runner: Runner, execution: Execution, line: WorkQueue
) -> tuple[str, Ticket]:
    """Return a run that was approved and waits for the place, and the ticket that has it."""
    run_id = runner.submit("home", RunRequest(request="read a"))
    waiting = await reached(runner, execution.store, run_id, "waiting")
    busy = line.enter()
    assert busy.turn.done()
    assert waiting.pending is not None
    assert runner.answer(run_id, waiting.pending.call_id, approve=True)
    async with asyncio.timeout(PATIENCE_S):
        while not line.waiting:
            await asyncio.sleep(0)
    return run_id, busy


ASKED = {"files": (replace(FILES[0], read_only=False),)}


def test_a_stop_interrupts_an_approved_run_that_waits_for_a_place(tmp_path: Path) -> None:
    agent, host = scripted_agent(["read", '{"path":"a"}'], {}, catalog=ASKED)

    async def approve_and_stop() -> tuple[str, list[str], int]:
        runner, execution, line = parts(agent, tmp_path)
        run_id, busy = await approved_behind_another(runner, execution, line)
        try:
            await runner.drain(30)
            return run_id, execution.store.unfinished(), line.waiting
        finally:
            busy.leave()

    run_id, still_open, in_line = asyncio.run(approve_and_stop())
    assert (still_open, in_line) == ([run_id], 0)
    assert host.calls == []


def test_an_approved_run_that_waits_for_a_place_can_be_cancelled(tmp_path: Path) -> None:
    agent, host = scripted_agent(["read", '{"path":"a"}'], {}, catalog=ASKED)

    async def approve_and_cancel() -> int:
        runner, execution, line = parts(agent, tmp_path)
        run_id, busy = await approved_behind_another(runner, execution, line)
        try:
            runner.cancel(run_id)
            await reached(runner, execution.store, run_id, "cancelled")
            return line.waiting
        finally:
            busy.leave()

    assert asyncio.run(approve_and_cancel()) == 0
    assert host.calls == []


def die_after_the_call(event: object) -> None:
    if isinstance(event, CallFinished):
        raise KeyboardInterrupt
