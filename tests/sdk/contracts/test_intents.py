"""The intent classifier's file and what it says."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentflux.contracts.intents import BITS, FEATURES, Intents, Linear, features, load_intents
from agentflux.errors import FileMismatch


def classifier(words: dict[str, str], *, weight: int = 100) -> Intents:
    """One word a label, which speaks for it; `none` has none."""
    weights = np.zeros((1 << BITS, len(words) + 1), np.int8)
    for column, word in enumerate(words.values()):
        weights[features(word)[0], column] = weight
    count = len(words) + 1
    return Intents(
        first=Linear(
            labels=(*words, "none"),
            weights=weights,
            scale=np.full(count, 0.1, np.float32),
            bias=np.zeros(count, np.float32),
        )
    )


def test_a_request_has_the_same_features_each_time_and_two_groups_of_length_one() -> None:
    assert features("Read a.txt, please") == features("Read a.txt, please")
    assert features("room 17") == features("ROOM 42")
    buckets, values = features("read the notes")
    assert len(set(buckets)) == len(buckets)
    assert max(buckets) < 1 << BITS
    assert sum(value**2 for value in values) == pytest.approx(2, rel=0.2)  # but for collisions


@pytest.mark.parametrize("request_", ["", "   ", "🙂", "\ud800", "a" * 20_000])
def test_odd_requests_get_probabilities_that_add_up(request_: str) -> None:
    told = classifier({"files/read": "read"}).log_probabilities(request_)
    assert sum(map(math.exp, told.values())) == pytest.approx(1, abs=1e-5)


def test_the_words_of_a_tool_speak_for_it() -> None:
    intents = classifier({"files/read": "read", "clock/now": "hour"})
    told = intents.log_probabilities("which hour is it")
    assert max(told, key=told.__getitem__) == "clock/now"


def test_the_file_gives_back_what_was_saved_and_equal_bytes(tmp_path: Path) -> None:
    made = classifier({"files/read": "read"})
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    made.save(first)
    load_intents(first).save(second)
    assert first.read_bytes() == second.read_bytes()
    again = load_intents(second)
    assert again.later is None
    assert again.log_probabilities("read it") == made.log_probabilities("read it")


def test_a_file_of_other_features_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "intents.npz"
    made = classifier({"files/read": "read"})
    held = {name: getattr(made.first, name) for name in ("weights", "scale", "bias")}
    held |= {"labels": np.array(made.labels), "card": np.array("{}")}
    np.savez(path, features=np.array(FEATURES + 1), **held)
    with pytest.raises(FileMismatch, match=f"version {FEATURES + 1}.*afx-train intents"):
        load_intents(path)
    np.savez(path, features=np.array(FEATURES), **{**held, "bias": held["bias"][:1]})
    with pytest.raises(FileMismatch, match="shapes"):
        load_intents(path)
    np.savez(path, features=np.array(FEATURES), **{**held, "labels": np.array(["none", "none"])})
    with pytest.raises(FileMismatch, match="1 labels"):
        load_intents(path)
    made.save(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:200] + whole[300:]):
        path.write_bytes(content)
        with pytest.raises(FileMismatch, match=r"intents\.npz cannot be read"):
            load_intents(path)
    with pytest.raises(FileMismatch, match="cannot be read"):
        load_intents(tmp_path / "nowhere.npz")


def later_classifier() -> Intents:
    """One that finishes where no clause is left, and else goes by the words of what is left."""
    made = classifier({"files/read": "read", "clock/now": "hour"})
    labels = ("files/read", "clock/now", "finish")
    weights = np.zeros((1 << BITS, 3), np.int8)
    for column, word in enumerate(("read", "hour")):
        weights[features(word)[0], column] = 100
    nothing = classifier({}).features_after("", ["files/read"])  # marks alone
    weights[[b for b in nothing[0] if b not in features("")[0]], 2] = 20
    ones = np.ones(3, np.float32) / 10
    later = Linear(labels=labels, weights=weights, scale=ones, bias=np.zeros(3, np.float32))
    return replace(made, later=later)


def test_what_no_call_explains_says_what_follows(tmp_path: Path) -> None:
    intents = later_classifier()
    asked = "read a.txt please, and then tell me the hour"
    told = intents.after(asked, ["files/read"])
    assert told is not None
    assert max(told, key=told.__getitem__) == "clock/now"
    told = intents.after(asked, ["clock/now"])
    assert told is not None
    assert max(told, key=told.__getitem__) == "files/read"
    intents.save(tmp_path / "intents.npz")
    again = load_intents(tmp_path / "intents.npz")
    assert again.after(asked, ["clock/now"]) == told
    assert classifier({"files/read": "read"}).after(asked, ["files/read"]) is None


def test_a_parameter_is_given_by_words_of_its_own(tmp_path: Path) -> None:
    given = replace(
        classifier({"files/edit dry": "preview", "files/read head": "first"}).first,
        labels=("files/edit dry", "files/read head", "files/edit all"),
    )
    intents = replace(classifier({"files/edit": "edit"}), given=given)
    odds = intents.odds_given("files/edit", "preview the edit")
    assert odds.keys() == {"dry", "all"}
    assert odds["dry"] > odds["all"] == 0
    assert classifier({"files/edit": "edit"}).odds_given("files/edit", "preview") == {}
    intents.save(tmp_path / "intents.npz")
    again = load_intents(tmp_path / "intents.npz")
    assert again.odds_given("files/edit", "preview the edit") == odds
    assert again.later is None
