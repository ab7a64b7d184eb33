"""The runtime in its own process: the same results, and what breaks costs one request."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflux import CancelToken
from agentflux.engines import process
from agentflux.engines.ort import OrtEngine
from agentflux.engines.process import ProcessEngine
from agentflux.errors import AdapterNotFound, Cancelled, ContextOverflow, EngineDied, EngineError
from agentflux.ports import Choosing, Generation, Segment

pytestmark = pytest.mark.model

STATIC = Segment(
    text="<|im_start|>system\nYou tell the time and read files.<|im_end|>\n", keep=True
)
ASK = Segment(text="<|im_start|>user\nHello there!<|im_end|>\n<|im_start|>assistant\n")
TALK = Generation(segments=[STATIC, ASK], max_tokens=24)
PICK = Choosing(segments=[STATIC, ASK], candidates=["files", "time", "none"])


@pytest.fixture(scope="module")
def engine(desk_bundle: Path) -> Iterator[ProcessEngine]:
    """One engine for the module; its process is killed now and then."""
    engine = ProcessEngine(desk_bundle, threads=2)
    yield engine
    engine.close()


def test_results_are_those_of_the_runtime_in_this_process(
    engine: ProcessEngine, desk_engine: OrtEngine
) -> None:
    pieces: list[str] = []
    there, here = engine.generate(TALK, on_text=pieces.append), desk_engine.generate(TALK)
    assert (there.text, there.finish) == (here.text, here.finish)
    assert "".join(pieces) == there.text
    assert engine.choose(PICK).best == desk_engine.choose(PICK).best


def test_text_that_nobody_reads_is_not_sent(
    engine: ProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[dict[str, object]] = []
    receive = process._Child.receive

    def spy(child: process._Child, timeout_s: float) -> dict[str, object] | None:
        if (message := receive(child, timeout_s)) is not None:
            received.append(message)
        return message

    monkeypatch.setattr(process._Child, "receive", spy)
    asked = "<|im_start|>user\nWrite the numbers from 1 to 20.<|im_end|>\n"
    counting = Segment(text=f"{asked}<|im_start|>assistant\n1, 2, 3,")
    done = engine.generate(Generation(segments=[STATIC, counting], max_tokens=24))
    assert done.usage.decoded_tokens > 8
    # Signs of life only: at most one a second, and a slow machine takes seconds.
    assert sum("text" in message for message in received) < done.usage.decoded_tokens / 2


def test_errors_keep_their_type_and_their_facts(engine: ProcessEngine) -> None:
    long = Generation(segments=[Segment(text="word " * 9000)], max_tokens=8)
    with pytest.raises(ContextOverflow) as caught:
        engine.generate(long)
    assert caught.value.needed > caught.value.limit
    with pytest.raises(AdapterNotFound, match="'nobody'"):
        engine.generate(Generation(segments=[Segment(text="x", adapter="nobody")], max_tokens=1))


def test_a_cancelled_request_ends_and_the_process_stays(engine: ProcessEngine) -> None:
    cancel, pid = CancelToken(), engine.pid
    long = Generation(segments=[STATIC, ASK], max_tokens=2000, repetition_penalty=1.3)
    with pytest.raises(Cancelled):
        engine.generate(long, on_text=lambda text: cancel.cancel(), cancel=cancel)
    assert engine.choose(PICK).best in PICK.candidates
    assert engine.pid == pid


def test_a_crash_costs_one_request_and_prefixes_come_back_warm(engine: ProcessEngine) -> None:
    engine.choose(PICK)
    dead = engine.pid
    assert dead is not None

    def crash(text: str) -> None:
        if engine.pid == dead:
            os.kill(dead, signal.SIGSEGV)

    with pytest.raises(EngineDied, match="signal 11"):
        engine.generate(TALK, on_text=crash)
    again = engine.choose(PICK)
    assert again.best in PICK.candidates
    assert again.usage.reused_tokens > 0
    assert engine.pid not in (None, dead)


def test_a_hang_ends_after_its_limit(engine: ProcessEngine) -> None:
    stopped = engine.pid
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    usual, engine.hang_s = engine.hang_s, 0.5
    with pytest.raises(EngineDied, match=r"did not move for 0\.5 s"):
        engine.choose(PICK)
    engine.hang_s = usual
    assert engine.choose(PICK).best in PICK.candidates


def test_a_bundle_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"afx\.json"):
        ProcessEngine(tmp_path)


def test_a_closed_engine_says_so(desk_bundle: Path) -> None:
    engine = ProcessEngine(desk_bundle, threads=2)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.choose(PICK)
