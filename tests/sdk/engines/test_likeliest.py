"""Best-first search over greedy rollouts: the likeliest text, and no more passes than it takes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from random import Random

import llguidance
import numpy as np
import pytest
from sdk.byte_tokens import END, bytes_tokenizer

from agentflux.engines.likeliest import Rollout, likeliest
from agentflux.engines.prefix import Logits

TOKENS = bytes_tokenizer()
Table = Mapping[str, Mapping[str, float]]


class Spelled:
    """A cache over a table: what follows a text, and how likely. "" is the end."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.tokens: list[int] = []
        self.computed = 0
        self.produced = 0

    def logits(self) -> Logits:
        out = np.full(END + 1, -30.0, np.float32)
        for letter, probability in self._table[TOKENS.decode_str(self.tokens)].items():
            out[_token(letter)] = math.log(probability)
        return out

    def append(self, tokens: Sequence[int]) -> None:
        self.tokens += tokens
        self.computed += len(tokens)

    def restore(self, length: int, tokens: Sequence[int]) -> None:
        del self.tokens[length:]
        self.append(tokens)


def _token(letter: str) -> int:
    return TOKENS.tokenize_bytes(letter.encode())[0] if letter else END


def search(
    table: Table, grammar: str, rollouts: int, most: int = 9
) -> tuple[str, Rollout, Spelled]:
    cache = Spelled(table)
    matcher = llguidance.LLMatcher(TOKENS, grammar)
    assert not matcher.get_error()
    found, cache.produced = likeliest(
        cache, matcher, end_tokens={END}, max_tokens=most, rollouts=rollouts
    )
    return TOKENS.decode_str(found.tokens), found, cache


# Greedily "a", behind which the grammar leaves only what the model does not want.
TRAP = {
    "": {"a": 0.5, "c": 0.4, "x": 0.1},
    "a": {"z": 0.9, "b": 0.06, "q": 0.04},
    "ab": {"": 1.0},
    "c": {"d": 0.8, "e": 0.2},
    "cd": {"": 1.0},
}
WORDS = "start: /ab|aq|cd|ce/"


def test_one_rollout_is_the_greedy_text() -> None:
    text, found, _ = search(TRAP, WORDS, rollouts=1)
    assert (text, found.finish) == ("ab", "stop")
    assert found.log_probability == pytest.approx(math.log(0.5 * 0.06), abs=1e-5)
    assert (found.support, found.support_at) == (pytest.approx(0.1, abs=1e-5), 1)


def test_a_likelier_text_behind_a_less_likely_beginning_is_found() -> None:
    text, found, cache = search(TRAP, WORDS, rollouts=2)
    assert (text, found.finish) == ("cd", "stop")
    assert found.log_probability == pytest.approx(math.log(0.4 * 0.8), abs=1e-5)
    assert (found.support, found.support_at) == (pytest.approx(0.9, abs=1e-5), 0)
    assert cache.produced == len("ab") + len("d"), "of a beginning only what follows is new"
    assert TOKENS.decode_str(cache.tokens) == "c", "nothing is computed behind a complete text"


def test_beginnings_that_cannot_be_likelier_are_not_computed() -> None:
    table = {"": {"a": 0.6, "c": 0.4}, "a": {"b": 0.9, "q": 0.1}, "ab": {"": 1.0}}
    text, _, cache = search(table, WORDS, rollouts=9)
    assert text == "ab"
    assert cache.computed == 1
    assert cache.produced == len("ab")


def test_a_text_that_does_not_end_loses_against_one_that_does() -> None:
    long = {"b" * n: {"b": 0.9, "": 0.1} for n in range(1, 9)} | {"": {"b": 1.0}}
    text, found, _ = search(long, "start: /b+/", rollouts=1, most=4)
    assert (text, found.finish) == ("bbbb", "length")
    text, found, _ = search(long, "start: /b+/", rollouts=5, most=4)
    assert (text, found.finish) == ("b", "stop"), "the likeliest of those that end"


def test_a_rollout_ends_where_it_can_no_longer_be_likelier() -> None:
    after = {"x" * n: {"x": 0.6, "y": 0.4} for n in range(1, 9)}
    table = {"": {"a": 0.6, "x": 0.4}, "a": {"": 0.5, "b": 0.5}, "ab": {"": 1.0}, **after}
    text, _, cache = search(table, "start: /ab?|[xy]{8}/", rollouts=5)
    assert text in {"a", "ab"}
    assert cache.produced <= len("ab") + len("xx")


def test_further_rollouts_have_a_budget_of_tokens() -> None:
    spelled = ("".join(p) for n in range(9) for p in itertools.product("bc", repeat=n))
    table = {text: {"b": 0.6, "c": 0.4} for text in spelled}
    _, found, cache = search(table, "start: /[bc]{40}/", rollouts=50, most=8)
    assert found.finish == "length"
    assert 8 < cache.produced <= 2 * 8


@pytest.mark.parametrize("seed", range(20))
def test_with_enough_rollouts_no_text_is_likelier(seed: int) -> None:
    """Binary texts of one length: with the two best of two letters the search is exact."""
    random = Random(seed)
    prefixes = ["".join(p) for n in range(4) for p in itertools.product("ab", repeat=n)]
    shares = {p: random.random() for p in prefixes}
    table = {p: {"a": shares[p], "b": 1 - shares[p]} for p in prefixes}
    table |= {"".join(p): {"": 1.0} for p in itertools.product("ab", repeat=4)}

    def probability(text: str) -> float:
        return math.prod(table[text[:n]][text[n]] for n in range(len(text)))

    best = max(("".join(p) for p in itertools.product("ab", repeat=4)), key=probability)
    text, found, _ = search(table, "start: /[ab]{4}/", rollouts=16)
    assert text == best
    assert math.exp(found.log_probability) == pytest.approx(probability(best), rel=1e-3)
