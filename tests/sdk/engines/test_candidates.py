"""Best-first search must find the exact best candidate with few forward passes."""

import itertools
import math
import random

import numpy as np
import pytest

from agentflux.engines.candidates import Tree, best_candidate
from agentflux.engines.prefix import Logits

END = 0


class Model:
    """Random logits for each path, and a count of forward passes."""

    def __init__(self, seed: int, vocabulary: int = 12) -> None:
        self._seed, self._vocabulary = seed, vocabulary
        self.passes = 0

    def __call__(self, path: tuple[int, ...]) -> Logits:
        self.passes += 1
        return self.at(path)

    def at(self, path: tuple[int, ...]) -> Logits:
        rng = np.random.default_rng([self._seed, *path])
        return rng.normal(0, 3, self._vocabulary).astype(np.float32)


def exact(sequences: list[tuple[int, ...]], model: Model) -> list[float]:
    """Probability of each sequence: softmax restricted to the tree's children at every node."""
    found = []
    for sequence in sequences:
        probability = 1.0
        for depth in range(len(sequence)):
            options = sorted({s[depth] for s in sequences if s[:depth] == sequence[:depth]})
            weights = np.exp(model.at(sequence[:depth])[options].astype(np.float64))
            probability *= weights[options.index(sequence[depth])] / weights.sum()
        found.append(float(probability))
    return found


@pytest.mark.parametrize("seed", range(10))
def test_a_doubted_winner_comes_with_its_exact_runner_up(seed: int) -> None:
    rng = random.Random(seed)
    sequences = [(*s, END) for s in rng.sample(list(itertools.product(range(1, 5), repeat=2)), 9)]
    model = Model(seed)
    wanted = exact(sequences, model)
    order = sorted(range(9), key=wanted.__getitem__, reverse=True)
    for doubted in order[:2]:
        found = best_candidate(Tree(sequences), model, doubted=doubted)
        assert found.index == order[0]
        assert math.isclose(found.probability, wanted[order[0]], rel_tol=1e-4)
    index, probability = best_candidate(Tree(sequences), model, doubted=order[0]).alternatives[0]
    assert index == order[1]
    assert math.isclose(probability, wanted[index], rel_tol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_a_rival_is_told_for_the_passes_of_its_branches_alone(seed: int) -> None:
    rng = random.Random(seed)
    pool = list(itertools.product(range(1, 5), repeat=3))
    sequences = [(*s, END) for s in rng.sample(pool, 20)]
    model = Model(seed)
    wanted = exact(sequences, model)
    best = max(range(20), key=wanted.__getitem__)
    model.passes = 0
    alone = best_candidate(Tree(sequences), model)
    passes = model.passes
    for rival in range(20):
        model.passes = 0
        found = best_candidate(Tree(sequences), model, rival=rival)
        assert (found.index, found.probability) == (best, alone.probability)
        told = {best: found.probability, **dict(found.alternatives)}
        assert told[rival] == pytest.approx(wanted[rival], rel=1e-4)
        assert passes <= model.passes <= passes + 2
        assert found.margin <= found.probability - sorted(wanted)[-2] + 1e-6


@pytest.mark.parametrize("seed", range(10))
def test_every_probability_is_told_where_it_is_asked_for(seed: int) -> None:
    rng = random.Random(seed)
    pool = [*itertools.product(range(1, 5), repeat=2), (1,), (2, 3, 1)]
    sequences = [(*s, END) for s in rng.sample(pool, 12)]
    wanted = exact(sequences, Model(seed))
    found = best_candidate(Tree(sequences), Model(seed), every=True)
    order = sorted(range(12), key=wanted.__getitem__, reverse=True)
    assert [found.index, *(index for index, _ in found.alternatives)] == order
    told = [found.probability, *(p for _, p in found.alternatives)]
    assert told == pytest.approx([wanted[i] for i in order], rel=1e-4)
    assert found.margin == pytest.approx(told[0] - told[1])


@pytest.mark.parametrize("seed", range(40))
def test_the_winner_and_its_probability_are_exact(seed: int) -> None:
    rng = random.Random(seed)
    pool = list(itertools.product(range(1, 5), repeat=3)) + [(1,), (2, 3), (4, 4, 4, 4)]
    sequences = [(*s, END) for s in rng.sample(pool, 14)]
    model = Model(seed)
    found = best_candidate(Tree(sequences), model)
    wanted = exact(sequences, model)
    assert found.index == max(range(len(wanted)), key=wanted.__getitem__)
    assert math.isclose(found.probability, max(wanted), rel_tol=1e-4)
    assert 0 <= found.margin <= found.probability
    assert found.margin <= found.probability - sorted(wanted)[-2] + 1e-6
    assert 0 <= found.entropy <= -sum(p * math.log(p) for p in wanted) + 1e-6
    for index, probability in found.alternatives:
        assert math.isclose(probability, wanted[index], rel_tol=1e-4)


def test_a_shared_beginning_costs_no_pass_of_its_own() -> None:
    model = Model(1)
    best_candidate(Tree([(5, 6, 7, END), (5, 6, 8, END)]), model)
    assert model.passes == 1


def test_a_name_that_begins_another_can_win() -> None:
    sequences = [(3, END), (3, 4, END)]
    for seed in range(20):
        model = Model(seed)
        found = best_candidate(Tree(sequences), model)
        after = model.at((3,))
        assert found.index == (0 if after[END] >= after[4] else 1)


def test_a_single_candidate_needs_no_pass() -> None:
    model = Model(1)
    found = best_candidate(Tree([(5, END)]), model)
    assert (found.index, found.probability, found.margin, found.entropy) == (0, 1.0, 1.0, 0.0)
    assert model.passes == 0
