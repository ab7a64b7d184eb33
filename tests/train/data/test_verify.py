"""What counts as verified, and what stops a build."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from afx_train.data.generate import Draft, drafts
from afx_train.data.grammar import load_phrasings
from afx_train.data.verify import Rejected, Servers, observation_text, running, verified
from afx_train.data.worlds import ServerCommand, World
from afx_train.errors import DataError


def _always(wire: Mapping[str, Any]) -> Callable[..., Mapping[str, Any]]:
    def dump(**_: object) -> Mapping[str, Any]:
        return wire

    return dump


class Answering:
    """A client that answers every call alike and keeps what it was asked."""

    def __init__(self, text: str, *, is_error: bool = False) -> None:
        self.text, self.is_error = text, is_error
        self.asked: list[Mapping[str, Any]] = []

    async def call_tool(self, name: str, arguments: Mapping[str, Any], **_: object) -> Any:
        self.asked.append(arguments)
        wire = {"content": [{"type": "text", "text": self.text}]}
        return SimpleNamespace(is_error=self.is_error, model_dump=_always(wire))


def _first(grammars: Path, shelf: Mapping[str, World]) -> Draft:
    phrasings = load_phrasings(grammars)[:1]
    return next(drafts(phrasings, shelf, fills={(p.group, p.ask): 1 for p in phrasings}, seed=0))


def _verify(draft: Draft, client: Any) -> Any:
    return asyncio.run(Servers({"shelf": client}).verify(draft))


def test_the_observation_is_what_the_server_says_with_shown_paths(
    grammars: Path, shelf: Mapping[str, World]
) -> None:
    verified = _verify(_first(grammars, shelf), Answering("got it from /real/a"))
    assert verified.steps[0].observation == "got it from /shown/a"
    assert not verified.steps[0].is_error


def test_a_shown_path_is_called_where_it_really_is(
    grammars: Path, shelf: Mapping[str, World]
) -> None:
    draft, client = _first(grammars, shelf), Answering("ok")
    arguments = {"item": "/shown/a/cup", "deep": [{"root": "/shown"}], "text": "see /shown/b"}
    steps = (draft.trajectory.steps[0].model_copy(update={"arguments": arguments}),)
    moved = Draft(
        trajectory=draft.trajectory.model_copy(update={"steps": steps}),
        scenes=draft.scenes,
        style="",
        expect_error=False,
    )
    verified = _verify(moved, client)
    assert client.asked == [
        {"item": "/real/a/cup", "deep": [{"root": "/real"}], "text": "see /shown/b"}
    ]
    assert verified.steps[0].arguments == arguments


def test_a_failing_call_is_rejected(grammars: Path, shelf: Mapping[str, World]) -> None:
    with pytest.raises(Rejected, match="no such item"):
        _verify(_first(grammars, shelf), Answering("no such item", is_error=True))


def test_tool_sets_are_verified_side_by_side_and_each_in_order(
    grammars: Path, shelf: Mapping[str, World]
) -> None:
    first = _first(grammars, shelf)
    (scene,) = first.scenes.values()
    plans = ["a", "b", "ab", "a", "b", "c", "a", "b"] * 4
    made = [
        Draft(
            trajectory=first.trajectory.model_copy(update={"id": f"{n} {plan}"}),
            scenes=dict.fromkeys(plan, scene),
            style="",
            expect_error=False,
        )
        for n, plan in enumerate(plans)
    ]
    busy: set[str] = set()
    most, order = 0, list[int]()

    async def verify(draft: Draft) -> Any:
        nonlocal most
        assert not busy & set(draft.scenes)
        busy.update(draft.scenes)
        most = max(most, len(busy))
        for _ in range(3):
            await asyncio.sleep(0)
        busy.difference_update(draft.scenes)
        order.append(int(draft.trajectory.id.split()[0]))
        if len(order) == 5:
            raise Rejected("no")
        return draft.trajectory

    async def run() -> list[Any]:
        return [(draft, result) async for draft, result in verified(made, verify)]

    results = asyncio.run(run())
    assert [draft for draft, _ in results] == made
    assert sum(isinstance(result, Rejected) for _, result in results) == 1
    assert most > 1
    for name in "abc":
        mine = [n for n in order if name in plans[n]]
        assert mine == sorted(mine)


def test_media_are_named_by_type_and_size() -> None:
    wire = {"content": [{"type": "image", "mimeType": "image/png", "data": "QUJD"}]}
    assert observation_text(wire) == "[image/png, 3 B]"


def test_a_server_that_is_not_there_is_named() -> None:
    async def start() -> None:
        async with running({"shelf": ServerCommand(command="no-such-program-at-all")}):
            pass

    with pytest.raises(DataError, match="shelf"):
        asyncio.run(start())
