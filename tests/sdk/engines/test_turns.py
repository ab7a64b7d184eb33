"""Conversations take turns at one model: in order, bounded; a cancelled one leaves the queue."""

import threading

import pytest

from agentflux import CancelToken
from agentflux.engines.turns import Turns
from agentflux.errors import Cancelled, EngineBusy


def waiting(turns: Turns, count: int) -> None:
    """Wait until so many hold or wait for the model."""
    pause = threading.Event()
    for _ in range(500):
        if len(turns._queue) == count:
            return
        pause.wait(0.01)
    raise AssertionError(len(turns._queue))


def test_turns_are_taken_in_the_order_of_asking() -> None:
    turns, order = Turns(), []
    threads: list[threading.Thread] = []

    def work(name: int) -> None:
        with turns.take():
            order.append(name)

    with turns.take():
        for name in range(16):
            threads.append(threading.Thread(target=work, args=(name,)))
            threads[-1].start()
            waiting(turns, name + 2)
    for thread in threads:
        thread.join(10)
    assert order == list(range(16))


def test_a_full_queue_refuses_at_once() -> None:
    turns = Turns(max_waiting=0)
    with turns.take(), pytest.raises(EngineBusy) as caught, turns.take():
        pass
    assert caught.value.waiting == 0


def test_one_who_is_cancelled_while_waiting_leaves_the_queue() -> None:
    turns, cancel, errors = Turns(), CancelToken(), []

    def work() -> None:
        try:
            with turns.take(cancel):
                errors.append(None)
        except Cancelled as error:
            errors.append(error)

    with turns.take():
        thread = threading.Thread(target=work)
        thread.start()
        waiting(turns, 2)
        cancel.cancel()
        thread.join(10)
        assert isinstance(errors[0], Cancelled)
        waiting(turns, 1)
    with turns.take():
        pass


def test_an_error_gives_the_turn_back() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="oops"), turns.take():
        raise ValueError("oops")
    with turns.take():
        pass
