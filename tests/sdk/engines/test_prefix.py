"""The pool only reuses KV cache of equal tokens under equal adapters, and counts honestly."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from agentflux.engines.prefix import CAPACITY_STEP, Logits, Pair, PrefixPool
from agentflux.errors import ContextOverflow, EngineError


class HashStream:
    """A stream whose logits depend on every (token, adapter) pair that its cache holds."""

    def __init__(self, capacity: int, graph: str = "") -> None:
        self.capacity, self.graph = capacity, graph
        self.cache: list[Pair] = []
        self.adapter = ""
        self.computed = 0

    def append(self, tokens: Sequence[int]) -> None:
        self.cache.extend((token, self.adapter) for token in tokens)
        self.computed += len(tokens)
        assert len(self.cache) <= self.capacity

    def rewind(self, length: int) -> None:
        assert 0 <= length <= len(self.cache)
        del self.cache[length:]

    def activate(self, adapter: str) -> None:
        self.adapter = adapter

    def logits(self) -> Logits:
        return np.array([hash(tuple(self.cache)) % 1_000_003], np.float32)


def pool(
    *, budget_tokens: int = 100_000, context: int = 4096, max_switches: int = 10_000
) -> PrefixPool:
    return PrefixPool(
        HashStream,
        context_tokens=context,
        bytes_per_token=1,
        budget_bytes=budget_tokens,
        max_switches=max_switches,
    )


def pairs(text: str, adapter: str = "base") -> list[Pair]:
    return [(ord(c), adapter) for c in text]


def test_only_the_new_tokens_are_prefilled() -> None:
    cache = pool()
    first = cache.place(pairs("static one"), kept=7, room=8)
    second = cache.place(pairs("static two"), kept=7, room=8)
    assert (first.prefilled, first.reused) == (10, 0)
    assert (second.prefilled, second.reused) == (3, 7)
    assert cache.lines == 1


def test_cache_of_another_adapter_is_not_reused() -> None:
    cache = pool()
    cache.place(pairs("shared") + pairs("tail", "a"), kept=6, room=8)
    placed = cache.place(pairs("shared") + pairs("tail", "b"), kept=6, room=8)
    assert (placed.prefilled, placed.reused, placed.switches) == (4, 6, 1)


def test_an_equal_request_recomputes_only_its_last_two_tokens() -> None:
    """One token alone would go through another kernel than it did the first time."""
    cache = pool()
    cache.place(pairs("again"), kept=0, room=8)
    placed = cache.place(pairs("again"), kept=0, room=8)
    assert (placed.prefilled, placed.reused) == (2, 3)


def test_no_run_of_an_adapter_is_left_with_a_single_token() -> None:
    cache = pool()
    cache.place(pairs("static x") + pairs("tool", "a"), kept=0, room=8)
    placed = cache.place(pairs("static y") + pairs("tool", "a"), kept=0, room=8)
    assert (placed.prefilled, placed.reused) == (6, 6)


def test_a_kept_prefix_survives_requests_that_do_not_share_it() -> None:
    cache = pool()
    cache.place(pairs("router: xx"), kept=8, room=8)
    cache.place(pairs("files:  xx"), kept=8, room=8)
    assert cache.place(pairs("router: yy"), kept=8, room=8).reused == 8
    assert cache.place(pairs("files:  yy"), kept=8, room=8).reused == 8


def test_the_least_recently_used_line_makes_room() -> None:
    cache = pool(budget_tokens=2 * CAPACITY_STEP)
    for name in ("alpha", "beta ", "gamma"):
        cache.place(pairs(name), kept=5, room=8)
    assert cache.lines == 2
    assert cache.bytes == 2 * CAPACITY_STEP
    assert cache.place(pairs("gamma!!"), kept=5, room=8).reused == 5
    assert cache.place(pairs("alpha!!"), kept=5, room=8).reused == 0


def test_a_later_stage_that_needs_more_room_stays_on_its_line() -> None:
    cache = pool()
    cache.place(pairs("s" * 400), kept=400, room=32)
    placed = cache.place(pairs("s" * 400 + "arguments"), kept=400, room=320)
    assert (placed.prefilled, cache.lines) == (9, 1)


def test_a_line_is_recycled_before_its_switches_slow_it_down() -> None:
    cache = pool(max_switches=4)
    for turn in range(5):
        cache.place(pairs("s") + pairs("x", f"a{turn}"), kept=1, room=8)
    assert cache.lines == 1
    assert all(line.switches <= 5 for line in cache._lines)


def test_a_prompt_beyond_the_context_is_refused() -> None:
    with pytest.raises(ContextOverflow) as caught:
        pool(context=16).place(pairs("0123456789"), kept=0, room=7)
    assert (caught.value.needed, caught.value.limit) == (17, 16)


def test_one_graph_never_continues_the_cache_of_another() -> None:
    cache = pool()
    cache.place(pairs("static one"), kept=7, room=8, graph="a.onnx")
    other = cache.place(pairs("static one"), kept=7, room=8, graph="b.onnx")
    again = cache.place(pairs("static two"), kept=7, room=8, graph="a.onnx")
    assert (other.reused, again.reused, cache.lines) == (0, 7, 2)


def test_no_more_generators_than_allowed_are_kept() -> None:
    cache = PrefixPool(
        HashStream, context_tokens=4096, bytes_per_token=1, budget_bytes=1 << 20, max_lines=2
    )
    for text in ("one", "two", "six"):
        cache.place(pairs(text), kept=3, room=8, graph=text)
    assert cache.lines == 2
    assert cache.place(pairs("two"), kept=3, room=8, graph="two").reused > 0


def test_a_model_that_cannot_rewind_still_extends_its_cache() -> None:
    cache = PrefixPool(
        HashStream, context_tokens=4096, bytes_per_token=1, budget_bytes=10_000, can_rewind=False
    )
    cache.place(pairs("grow"), kept=0, room=8)
    assert cache.place(pairs("growth"), kept=0, room=8).reused == 4
    assert cache.place(pairs("grown"), kept=0, room=8).reused == 0


class ForwardStream(HashStream):
    """The stream of a model with a recurrent state: it only goes on."""

    def rewind(self, length: int) -> None:
        raise EngineError("the cache cannot be rewound")


def test_a_model_that_turns_out_unable_to_rewind_is_served_without() -> None:
    cache = PrefixPool(ForwardStream, context_tokens=4096, bytes_per_token=1, budget_bytes=10_000)
    cache.place(pairs("static one"), kept=7, room=8)
    placed = cache.place(pairs("static two"), kept=7, room=8)
    assert (placed.reused, cache.can_rewind) == (0, False)
    assert placed.line.stream.cache == pairs("static two")  # type: ignore[attr-defined]
    line = cache.branch(placed.line, 10, [7])
    other = cache.branch(line, 10, [8, 9])
    assert other.pairs == [*pairs("static two"), (8, "base"), (9, "base")]
    assert other.stream.cache == other.pairs  # type: ignore[attr-defined]


def test_a_line_that_is_computed_again_has_the_room_of_the_one_it_stands_for() -> None:
    cache = PrefixPool(
        HashStream, context_tokens=8192, bytes_per_token=1, budget_bytes=100_000, can_rewind=False
    )
    static = pairs("s" * 600)
    cache.place(static, kept=600, room=1)
    line = cache.place([*static, *pairs("r" * 300, "args")], kept=600, room=320).line
    line.decode([7] * 150)
    again = cache.branch(line, 950, [8, 9])
    again.decode([7] * 268)  # to the end of the 320 tokens that were asked for
    assert len(again.pairs) == 1220


@pytest.mark.parametrize("seed", range(8))
def test_random_interleavings_equal_an_uncached_run(seed: int) -> None:
    rng = random.Random(seed)
    cache = pool(budget_tokens=3 * CAPACITY_STEP, max_switches=rng.choice([7, 50]))
    for _ in range(400):
        static = rng.choice(["router|", "files|", "git status|", "sqlite|"])
        asked = "".join(rng.choice("ab") for _ in range(rng.randint(1, 4)))
        adapter = rng.choice(["route", "select", "args", "base"])
        wanted = pairs(static) + pairs(asked, rng.choice(["base", adapter])) + pairs("?", adapter)
        placed = cache.place(wanted, kept=len(static), room=20)
        fresh = HashStream(4096)
        for token, name in wanted:
            fresh.activate(name)
            fresh.append([token])
        assert placed.line.stream.logits() == fresh.logits()
        assert placed.prefilled + placed.reused == len(wanted)
        if rng.random() < 0.5:
            placed.line.decode([ord(c) for c in asked])
