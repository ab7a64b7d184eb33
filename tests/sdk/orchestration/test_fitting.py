"""Context overflow: old results give way, the request never does."""

import pytest

from agentflux import Situation, Step, ToolCall
from agentflux.errors import ContextOverflow
from agentflux.orchestration.fitting import LEFT_OUT, fitted, shortened


def steps(*observations: str) -> tuple[Step, ...]:
    return tuple(
        Step(call=ToolCall(tool_set="s", tool=f"t{i}"), observation=text)
        for i, text in enumerate(observations)
    )


def size(situation: Situation) -> int:
    return len(situation.request) + sum(30 + len(s.observation) for s in situation.steps)


def work_within(limit: int):
    def work(situation: Situation) -> Situation:
        if size(situation) > limit:
            raise ContextOverflow(needed=size(situation), limit=limit)
        return situation

    return work


def test_what_fits_is_not_touched() -> None:
    situation = Situation(request="r" * 50, steps=steps("a" * 100, "b" * 100))
    assert fitted(situation, work_within(1000)) is situation


def test_the_oldest_result_goes_first() -> None:
    situation = Situation(request="r" * 50, steps=steps("a" * 100, "b" * 100))
    kept = fitted(situation, work_within(300))
    assert [s.observation for s in kept.steps] == [LEFT_OUT, "b" * 100]


def test_the_last_result_stays_in_part() -> None:
    situation = Situation(request="r" * 50, steps=steps(*("x" * 400 for _ in range(6))))
    kept = fitted(situation, work_within(330))
    assert len(kept.steps) == 1
    assert kept.steps[0].call.tool == "t5"
    assert "left out" in kept.steps[0].observation


def test_a_request_that_is_too_long_by_itself_is_an_overflow() -> None:
    with pytest.raises(ContextOverflow):
        fitted(Situation(request="r" * 500, steps=steps("a")), work_within(400))


def test_shortening_ends() -> None:
    situation: Situation | None = Situation(
        request="r", steps=steps(*("x" * 900 for _ in range(9)))
    )
    for _ in range(40):
        if situation is None:
            break
        situation = shortened(situation)
    assert situation is None
