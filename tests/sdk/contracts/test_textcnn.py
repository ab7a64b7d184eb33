"""The network that reads requests: what it reads, what it says, and its place in the file."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentflux.contracts.intents import READ, Intents, load_intents
from agentflux.contracts.textcnn import MOST_CALLS, MOST_PIECES, SIGNS, Pieces, TextCnn
from agentflux.errors import FileMismatch

from .test_intents import classifier

WORDS, CALLS = ("read", "hour", "first", "kitchen"), ("files/read", "clock/now")
LABELS = ("clock/now", "files/read", "finish", "none")


def network() -> TextCnn:
    """One filter finds "read" anywhere, one the second call, one "hour" right behind "read"."""
    size = len(WORDS) + 1
    marks = np.zeros((len(SIGNS) + len(CALLS), size), np.float16)
    marks[len(SIGNS) + 1, -1] = 1
    one, two = np.zeros((size, 2), np.float16), np.zeros((2 * size, 1), np.float16)
    one[0, 0], one[-1, 1] = 5, 12
    two[0, 0] = two[size + 1, 0] = 6
    out = np.zeros((4, len(LABELS)), np.float16)
    out[0, 1] = out[1, 2] = 2
    out[2, 0] = 4
    out[3, 3] = 1
    return TextCnn(
        labels=LABELS,
        vocabulary=WORDS,
        vectors=np.eye(len(WORDS), size, dtype=np.int8),
        scales=np.ones(len(WORDS), np.float16),
        calls=CALLS,
        marks=marks,
        filters={1: (one, np.zeros(2, np.float16)), 2: (two, np.full(1, -7, np.float16))},
        out=out,
    )


@pytest.mark.parametrize(
    ("request_", "calls", "right"),
    [
        ("Read it", (), "files/read"),
        ("hour", (), "none"),
        ("read hour", (), "clock/now"),
        ("read hour", ("clock/now",), "finish"),
        ("READ_HOUR kitchens", ("files/read",), "files/read"),
    ],
)
def test_what_filters_find_at_best_is_weighed(
    request_: str, calls: tuple[str, ...], right: str
) -> None:
    told = network().log_probabilities(request_, calls)
    assert max(told, key=told.__getitem__) == right
    assert told.keys() == {*LABELS} - {"none" if calls else "finish"}


def test_words_are_numbered_by_their_longest_known_beginning() -> None:
    pieces = Pieces(WORDS, CALLS)
    start, unknown, number, other = (len(WORDS) + at for at in range(4))
    assert pieces.of("kitchens") == [start, 3]
    assert pieces.of("Kit 42 ™ x") == [start, unknown, number, other, unknown]
    comma, cry = (len(WORDS) + SIGNS.index(sign) for sign in ",!")
    assert pieces.of("readHour, first!") == [start, 0, 1, comma, 2, cry]
    assert len(pieces.of("read " * 500, CALLS * 10)) == MOST_CALLS + 1 + MOST_PIECES
    assert pieces.of("read", ["an/unknown"]) == [start, 0]
    assert pieces.count == len(WORDS) + len(SIGNS) + len(CALLS)


@pytest.mark.parametrize("request_", ["", "   ", "🙂", "\ud800", "a" * 200_000, "½ ² ٣"])
def test_odd_requests_get_probabilities_that_add_up(request_: str) -> None:
    told = network().log_probabilities(request_)
    assert sum(map(math.exp, told.values())) == pytest.approx(1, abs=1e-5)


def test_the_file_keeps_it_and_both_have_a_say(tmp_path: Path) -> None:
    linear = classifier({"files/read": "read", "clock/now": "hour", "files/old": "old"})
    both = replace(linear, reader=network())
    told, alone = (i.log_probabilities("read hour") for i in (both, linear))
    read = network().log_probabilities("read hour")
    gap = told["files/read"] - told["clock/now"]
    expected = alone["files/read"] - alone["clock/now"]
    assert gap == pytest.approx(expected + READ * (read["files/read"] - read["clock/now"]))
    assert told["files/old"] < -10  # a label that the network does not have
    assert sum(map(math.exp, told.values())) == pytest.approx(1, abs=1e-5)
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    both.save(first)
    load_intents(first).save(second)
    assert first.read_bytes() == second.read_bytes()
    assert load_intents(second).log_probabilities("read hour") == told
    no_calls = replace(network(), calls=(), marks=network().marks[: len(SIGNS)])
    replace(linear, reader=no_calls).save(first)
    assert load_intents(first).reader is not None


@pytest.mark.parametrize("part", ["vectors", "scales", "marks", "out"])
def test_arrays_that_do_not_go_together_are_refused(part: str, tmp_path: Path) -> None:
    whole = network()
    shorter = {part: getattr(whole, part)[:-1]}
    with pytest.raises(ValueError, match=part):
        replace(whole, **shorter)
    made = replace(classifier({"files/read": "read"}), reader=whole)
    object.__setattr__(whole, part, shorter[part])
    Intents.save(made, tmp_path / "intents.npz")
    with pytest.raises(FileMismatch, match=f"its {part} have the shape"):
        load_intents(tmp_path / "intents.npz")
