"""Drafts: grounded values, seeds, splits and style."""

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afx_train.data.generate import Draft, drafts, fills_of, split_of
from afx_train.data.grammar import load_phrasings
from afx_train.data.style import Piece, restyle
from afx_train.data.worlds import World
from afx_train.errors import DataError


def _drafts(grammars: Path, worlds: Mapping[str, World], *, seed: int = 0) -> list[Draft]:
    phrasings = load_phrasings(grammars)
    fills = {(p.group, p.ask): 6 for p in phrasings}
    return list(drafts(phrasings, worlds, fills=fills, seed=seed))


def test_the_same_seed_gives_the_same_drafts(grammars: Path, shelf: Mapping[str, World]) -> None:
    first, again = (_drafts(grammars, shelf, seed=3) for _ in range(2))
    assert [d.trajectory for d in first] == [d.trajectory for d in again]
    assert [d.trajectory for d in first] != [d.trajectory for d in _drafts(grammars, shelf, seed=4)]


def test_a_refused_call_is_drawn_again(grammars: Path, shelf: Mapping[str, World]) -> None:
    items = [d.trajectory.steps[0].arguments["item"] for d in _drafts(grammars, shelf)]
    assert len(items) == 24
    assert all(int(item.rsplit(" ", 1)[1]) % 2 == 0 for item in items)


def test_arguments_are_what_the_request_says(grammars: Path, shelf: Mapping[str, World]) -> None:
    for draft in _drafts(grammars, shelf)[:12]:
        arguments = draft.trajectory.steps[0].arguments
        assert arguments["item"] in draft.trajectory.request
        assert arguments["count"] == 2


def test_a_phrasing_is_in_one_split(grammars: Path, shelf: Mapping[str, World]) -> None:
    found: dict[str, set[str]] = {}
    for draft in _drafts(grammars, shelf):
        found.setdefault(draft.trajectory.phrasing, set()).add(draft.trajectory.split)
    assert all(len(splits) == 1 for splits in found.values())


def test_splits_have_about_their_share() -> None:
    splits = [split_of(f"tool/{number}") for number in range(4000)]
    assert 0.10 < splits.count("test") / 4000 < 0.14
    assert 0.06 < splits.count("dev") / 4000 < 0.10


def test_an_unknown_slot_is_refused_with_its_place(
    tmp_path: Path, shelf: Mapping[str, World]
) -> None:
    (tmp_path / "shelf").mkdir()
    text = "tool_set: shelf\ntools: {take: [{args: {}, ask: ['get {nothing}']}]}\n"
    (tmp_path / "shelf" / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="nothing"):
        _drafts(tmp_path, shelf)


def test_a_tool_set_without_a_world_is_refused(grammars: Path) -> None:
    with pytest.raises(DataError, match="shelf"):
        _drafts(grammars, {})


def test_small_groups_get_more_examples(grammars: Path) -> None:
    phrasings = load_phrasings(grammars)
    fills = fills_of(phrasings, per_phrasing=1.0, least_per_tool=12, seed=0)
    assert sorted(fills.values()) == [3, 3, 3, 3]
    fills = fills_of(phrasings, per_phrasing=1.5, least_per_tool=0, seed=0)
    assert {*fills.values()} <= {1, 2}


def test_a_file_can_ask_for_more_training_examples_of_its_phrasings(tmp_path: Path) -> None:
    asks = [f"put the {word} on the {{shelf}}" for word in ("red", "old", "wet", "new") * 10]
    asks = [f"{ask} {'again ' * number}" for number, ask in enumerate(asks)]
    text = json.dumps({"tool_set": "shelf", "fills": 3, "tools": {"put": [{"ask": asks}]}})
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "a.yaml").write_text(text, encoding="utf-8")
    phrasings = load_phrasings(tmp_path)
    fills = fills_of(phrasings, per_phrasing=1.0, least_per_tool=0, seed=0)
    found = {(split_of(p.id) == "train", fills[p.group, p.ask]) for p in phrasings}
    assert found == {(True, 3), (False, 1)}


@given(st.integers(0, 5000), st.text(min_size=1, max_size=20))
def test_style_never_touches_a_value(seed: int, value: str) -> None:
    pieces = [Piece("Please show me what "), Piece(value, is_value=True), Piece(" says, now!")]
    changed, _ = restyle(pieces, Random(seed))
    assert Piece(value, is_value=True) in changed


@given(st.integers(0, 5000))
def test_nothing_is_added_behind_an_unquoted_text(seed: int) -> None:
    pieces = [Piece("Write down: "), Piece("buy milk", is_value=True, open_end=True)]
    changed, _ = restyle(pieces, Random(seed))
    assert changed[-1].text == "buy milk"


def test_a_contraction_leaves_contractions_alone() -> None:
    seen = {
        "".join(piece.text for piece in restyle([Piece("it isn't in the folder")], Random(seed))[0])
        for seed in range(300)
    }
    assert "it isn't in the folder" in seen
    assert not any("it'sn't" in text for text in seen)
