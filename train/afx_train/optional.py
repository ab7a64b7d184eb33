"""Train what tells whether a request gives an optional parameter of a tool.

See `agentflux.contracts.optional` for what it is. It learns from requests of one call for tools of
many servers, each optional parameter of the tool being an example.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from afx_train.corpus import Corpus
from agentflux.contracts.intents import surely_given
from agentflux.contracts.optional import Perceptron
from agentflux.contracts.retriever import BiEncoder

HIDDEN = 32
STEPS = 900
BATCH = 256
LEARNING_RATE, DECAY, DROPPED = 3e-3, 1e-2, 0.1
FEWEST = 200  # examples

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenReport:
    """How the perceptron does on dev requests: decisions that are sure, and right ones of them."""

    examples: int = 0
    sure: int = 0
    right: int = 0


def train_given(
    corpus: Corpus, encoder: BiEncoder, *, seed: int, one_catalog: int
) -> tuple[Perceptron | None, GivenReport]:
    """Train on requests of one call; None where there are too few.

    one_catalog: data folders of so many tool sets or fewer have a classifier of their own
    (`afx-train intents`) and are left out.
    """
    seen, gave = _examples(corpus, encoder, "train", one_catalog)
    if len(seen) < FEWEST or len({*gave}) == 1:
        return None, GivenReport()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _fit(np.stack(seen), np.array(gave, np.float32))
    asked, has = _examples(corpus, encoder, "dev", one_catalog)
    told = [
        (surely_given(found.log_odds(traits)), is_so)
        for traits, is_so in zip(asked, has, strict=True)
    ]
    sure = [given == is_so for given, is_so in told if given is not None]
    return found, GivenReport(examples=len(told), sure=len(sure), right=sum(sure))


def _examples(
    corpus: Corpus, encoder: BiEncoder, split: str, one_catalog: int
) -> tuple[list[Float32], list[bool]]:
    seen, gave = list[Float32](), list[bool]()
    for world in corpus.worlds:
        if len(world.catalog) <= one_catalog:
            continue
        for item in world.trajectories:
            if item.split != split or len(item.steps) != 1:
                continue
            tool = corpus.tool(item.steps[0]).spec
            for name, traits in encoder.traits(tool, item.request).items():
                seen.append(traits)
                gave.append(name in item.steps[0].arguments)
    return seen, gave


def _fit(seen: Float32, gave: Float32) -> Perceptron:
    middle, spread = seen.mean(axis=0), seen.std(axis=0) + 1e-6
    traits, right = torch.from_numpy((seen - middle) / spread), torch.from_numpy(gave)
    inner, outer = nn.Linear(traits.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)
    net = nn.Sequential(inner, nn.ReLU(), nn.Dropout(DROPPED), outer)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        batch = torch.randint(len(traits), (BATCH,))
        told = net(traits[batch])[:, 0]
        loss = functional.binary_cross_entropy_with_logits(told, right[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    weights = _arrays(inner.weight.T, inner.bias, outer.weight[0], outer.bias[0])
    return Perceptron(
        middle=middle,
        spread=spread,
        inner=weights[0],
        inner_bias=weights[1],
        outer=weights[2],
        outer_bias=weights[3],
    )


def _arrays(*weights: torch.Tensor) -> Sequence[Float32]:
    return [np.array(weight.detach().numpy(), np.float32) for weight in weights]
