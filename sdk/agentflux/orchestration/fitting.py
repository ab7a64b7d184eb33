"""Make a situation fit the context: the oldest results go first, what was asked never does."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from agentflux.contracts.prompts import Situation, cut
from agentflux.contracts.tools import Step
from agentflux.errors import ContextOverflow

LEFT_OUT = "[left out to save room]"
_LAST_CHARS = 200

T = TypeVar("T")


def fitted(situation: Situation, work: Callable[[Situation], T]) -> T:
    """Do the work with as much of the situation as the context holds.

    Raises:
        ContextOverflow: it does not fit even with only the last call and a piece of its result.
    """
    while True:
        try:
            return work(situation)
        except ContextOverflow:
            shorter = shortened(situation)
            if shorter is None:
                raise
            situation = shorter


def shortened(situation: Situation) -> Situation | None:
    """Take one thing away: an old result's text, then an old call, then most of the last result."""
    steps = tuple(situation.steps)
    if len(steps) == 0:
        return None
    for index, step in enumerate(steps[:-1]):
        if len(step.observation) > len(LEFT_OUT):
            return _with(situation, (*steps[:index], _told(step, LEFT_OUT), *steps[index + 1 :]))
    if len(steps) > 1:
        gone = () if steps[0].is_error else (steps[0].call,)
        shorter = replace(situation, forgotten=(*situation.forgotten, *gone))
        return _with(shorter, steps[1:])
    brief = cut(steps[0].observation, _LAST_CHARS)
    if len(brief) >= len(steps[0].observation):
        return None
    return _with(situation, (_told(steps[0], brief),))


def _with(situation: Situation, steps: tuple[Step, ...]) -> Situation:
    return replace(situation, steps=steps)


def _told(step: Step, observation: str) -> Step:
    return replace(step, observation=observation)
