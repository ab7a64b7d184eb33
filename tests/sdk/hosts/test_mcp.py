"""MCP servers that misbehave, as real processes."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sdk.hosts.processes import LIMIT_S, call, entry, host, http_server

from agentflux.errors import ServerGone, ServerStartError, ToolHostError
from agentflux.hosts.mcp import McpHost


@pytest.fixture(scope="module")
def media() -> Iterator[McpHost]:
    with host("media", "media.py", env={"GREETING": "hello"}) as opened:
        yield opened


def test_nothing_starts_before_it_is_needed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with host("mortal", "dying.py", str(log)):
        assert not log.exists()


def test_a_server_that_dies_in_a_call_is_a_failed_result_and_the_next_call_starts_it_again(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with host("mortal", "dying.py", str(log)) as mortal:
        died = mortal.call(call("mortal", "die"), timeout_s=LIMIT_S)
        after = mortal.call(call("mortal", "live"), timeout_s=LIMIT_S)

    assert (died.is_error, died.text) == (
        True,
        "tool server 'mortal' ended during the call of 'die'",
    )
    assert (after.is_error, after.text) == (False, "alive")
    assert log.read_text(encoding="utf-8").split() == ["start", "die", "start", "live"]


def test_a_server_killed_between_two_calls_is_started_again_without_a_lost_call(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with host("mortal", "dying.py", str(log)) as mortal:
        mortal.open()
        (child,) = _children_running(str(log))
        os.kill(child, 9)
        _wait_for(lambda: _has_ended(child))
        after = mortal.call(call("mortal", "live"), timeout_s=LIMIT_S)

    assert (after.is_error, after.text) == (False, "alive")
    assert log.read_text(encoding="utf-8").split() == ["start", "start", "live"]


def test_a_server_that_cannot_be_started_again_is_gone_after_bounded_tries(
    tmp_path: Path,
) -> None:
    with host("mortal", "dying_for_good.py", str(tmp_path / "marker")) as mortal:
        assert mortal.call(call("mortal", "die"), timeout_s=LIMIT_S).is_error
        with pytest.raises(ServerGone) as caught:
            mortal.call(call("mortal", "die"), timeout_s=LIMIT_S)

    assert caught.value.server == "mortal"
    assert "gave up after 3 restarts" in str(caught.value)
    assert "cannot start again" in str(caught.value)


def test_a_hanging_server_is_stopped_at_the_limit_and_called_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with host("stuck", "hanging.py", str(log)) as stuck:
        stuck.open()
        late = stuck.call(call("stuck", "hang"), timeout_s=0.2)
        after = stuck.call(call("stuck", "live"), timeout_s=LIMIT_S)

    assert "gave no answer within 0.2 s; its server was stopped" in late.text
    assert (after.is_error, after.text) == (False, "alive")
    assert log.read_text(encoding="utf-8").split() == ["hang"]


def test_a_server_that_does_not_start_is_named_with_its_command_and_last_words_but_no_secret(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFX_TEST_PIN", "pin-4711")
    server = entry("not_starting.py", "${AFX_TEST_PIN}", env={"TOKEN": "hunter2-token"})
    with (
        McpHost.from_config({"mcpServers": {"crm": server}}) as crm,
        pytest.raises(ServerStartError) as caught,
    ):
        crm.open()

    message = str(caught.value)
    assert caught.value.server == "crm"
    assert "not_starting.py ${AFX_TEST_PIN}" in message
    assert "refused: token *** and *** are not valid" in message
    assert "hunter2" not in message
    assert "4711" not in message
    assert capfd.readouterr() == ("", "")


def test_a_command_that_does_not_exist_is_named() -> None:
    config = {"mcpServers": {"git": {"command": "afx-no-such-command"}}}
    with (
        McpHost.from_config(config) as git,
        pytest.raises(ServerStartError, match="'afx-no-such-command' was not found"),
    ):
        git.open()


def test_a_working_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    server = entry("good.py") | {"cwd": str(tmp_path / "absent")}
    with (
        McpHost.from_config({"mcpServers": {"good": server}}) as good,
        pytest.raises(ServerStartError, match="absent' was not found"),
    ):
        good.open()


def test_a_server_that_never_speaks_mcp_fails_at_the_start_limit_with_the_reason() -> None:
    config = {"mcpServers": {"mute": entry("mute.py")}}
    with (
        McpHost.from_config(config, start_timeout_s=0.5) as mute,
        pytest.raises(ServerStartError) as caught,
    ):
        mute.open()

    assert "did not answer within 0.5 s" in str(caught.value)
    assert "writes to stdout what is not JSON-RPC" in str(caught.value)


def test_other_output_on_stdout_does_not_disturb_a_server(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with host("noisy", "noisy.py") as noisy:
        assert noisy.call(call("noisy", "live"), timeout_s=LIMIT_S).text == "alive"

    assert capfd.readouterr() == ("", "")


def test_one_server_that_fails_does_not_keep_the_others_from_starting(tmp_path: Path) -> None:
    log = tmp_path / "log"
    servers = {"bad": {"command": "afx-no-such-command"}, "good": entry("dying.py", str(log))}
    with McpHost.from_config({"mcpServers": servers}) as both:
        with pytest.raises(ServerStartError):
            both.open()
        result = both.call(call("good", "live"), timeout_s=LIMIT_S)

    assert result.text == "alive"
    assert log.read_text(encoding="utf-8").split() == ["start", "live"]


def test_tools_are_read_from_all_pages() -> None:
    with host("paged", "paged.py") as paged:
        names = [tool.name for tool in paged.list_tools()]

    assert names == [f"tool_{index}" for index in range(30)]


def test_a_tool_list_without_an_end_is_refused() -> None:
    with (
        host("paged", "paged.py", "endless") as paged,
        pytest.raises(ServerStartError, match="does not end"),
    ):
        paged.open()


def test_an_image_is_described_by_type_and_size(media: McpHost) -> None:
    result = media.call(call("media", "picture"), timeout_s=LIMIT_S)

    assert result.text == "[image/png, 12 KB]"


def test_structured_content_without_text_is_compact_json(media: McpHost) -> None:
    result = media.call(call("media", "bare_structure"), timeout_s=LIMIT_S)

    assert result.text == '{"städte":["Köln"],"n":2}'


def test_structured_content_beside_its_text_is_given_once(media: McpHost) -> None:
    result = media.call(call("media", "weather", city="Oslo"), timeout_s=LIMIT_S)

    assert json.loads(result.text) == {"city": "Oslo", "celsius": 21.5}


def test_resources_links_and_sound_become_text(media: McpHost) -> None:
    result = media.call(call("media", "mixed"), timeout_s=LIMIT_S)

    assert result.text.splitlines() == [
        "see below",
        "file:///notes.txt",
        "buy milk",
        "[big.bin](file:///big.bin)",
        "[audio/wav, 3 B]",
    ]


def test_annotations_of_a_tool_are_kept(media: McpHost) -> None:
    hints = {tool.name: tool.read_only for tool in media.list_tools()}

    assert hints["environment"] is True
    assert hints["weather"] is None


def test_a_child_process_gets_its_own_variables_and_the_allowed_ones_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AFX_TEST_SECRET", "do-not-leak")
    monkeypatch.setenv("LANG", "C.UTF-8")
    with host("media", "media.py", env={"GREETING": "hello"}) as fresh:
        seen = fresh.call(call("media", "environment"), timeout_s=LIMIT_S).text.splitlines()

    assert "GREETING=hello" in seen
    assert "LANG=C.UTF-8" in seen
    assert f"PATH={os.environ['PATH']}" in seen
    assert not any("do-not-leak" in line for line in seen)


def test_an_http_server_that_dies_in_a_call_is_a_failed_result_then_gone() -> None:
    with http_server() as (url, process):
        config = {"mcpServers": {"web": {"url": url}}}
        with McpHost.from_config(config, restart_delays_s=(0.0, 0.0)) as web:
            assert web.call(call("web", "echo", text="up"), timeout_s=LIMIT_S).text == "up"
            process.kill()
            process.wait(LIMIT_S)
            died = web.call(call("web", "echo", text="down"), timeout_s=LIMIT_S)
            with pytest.raises(ServerGone) as caught:
                web.call(call("web", "echo", text="down"), timeout_s=LIMIT_S)

    assert died.is_error
    assert "'web'" in died.text
    assert caught.value.server == "web"


def test_an_http_server_that_cannot_be_reached_is_a_start_error() -> None:
    with (
        McpHost.from_config({"mcpServers": {"web": {"url": "http://127.0.0.1:9/mcp"}}}) as web,
        pytest.raises(ServerStartError, match="127.0.0.1:9/mcp"),
    ):
        web.open()


def test_calls_of_several_threads_do_not_wait_for_each_other() -> None:
    def slow(_: int) -> str:
        return good.call(call("good", "slow", seconds=0.4), timeout_s=LIMIT_S).text

    with host("good", "good.py").open() as good, ThreadPoolExecutor(5) as threads:
        started = time.monotonic()
        texts = list(threads.map(slow, range(5)))
        took_s = time.monotonic() - started

    assert texts == ["at last"] * 5
    assert took_s < 1.5


def test_closing_while_another_thread_waits_for_a_start_ends_that_wait() -> None:
    config = {"mcpServers": {"mute": entry("mute.py")}}
    mute = McpHost.from_config(config, start_timeout_s=LIMIT_S)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(mute.open)
        _wait_for(lambda: any(t.name == "agentflux-stderr" for t in threading.enumerate()))
        mute.close()
        with pytest.raises(ToolHostError, match="mute"):
            waiting.result(LIMIT_S)


def test_closing_ends_the_child_processes_within_a_bound(tmp_path: Path) -> None:
    log = tmp_path / "log"
    mortal = host("mortal", "dying.py", str(log)).open()
    assert len(_children_running(str(log))) == 1
    started = time.monotonic()
    mortal.close()

    assert time.monotonic() - started < 5
    assert _children_running(str(log)) == []


def test_a_closed_host_says_so() -> None:
    closed = host("good", "good.py")
    closed.close()

    with pytest.raises(ServerGone, match="was closed"):
        closed.list_tools()


def test_a_program_that_forgets_to_close_ends_and_leaves_no_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"""
from agentflux.hosts.mcp import McpHost
config = {json.dumps({"mcpServers": {"mortal": entry("dying.py", str(log))}})}
print(len(McpHost.from_config(config).open().list_tools()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=True
    )

    assert (done.stdout, done.stderr) == ("2\n", "")
    assert _children_running(str(log)) == []


def test_without_the_mcp_library_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["mcp"] = None
import agentflux.hosts.local, agentflux.hosts.mcp_config
from agentflux.errors import MissingExtra
try:
    import agentflux.hosts.mcp
except MissingExtra as error:
    print(error.extra)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=True
    )

    assert done.stdout == "mcp\n"


def _children_running(argument: str) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argument.encode() in words:
            found.append(int(folder.name))
    return found


def _has_ended(process: int) -> bool:
    """Whether all its threads ended: a dying leader's files stay open until the last one has."""
    try:
        threads = [t.read_text("utf-8") for t in Path(f"/proc/{process}/task").glob("*/stat")]
    except OSError:
        return False
    return all(thread.rpartition(")")[2].split()[0] in "ZX" for thread in threads)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
