"""Train the linear intent classifier that is exported beside the adapters.

See `agentflux.contracts.intents` for what it is. A multinomial logistic regression with an L2
penalty has one optimum, so equal data gives equal weights; nothing is drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from afx_train.corpus import Corpus, KnownTool
from afx_train.errors import DataError
from afx_train.trajectory import Trajectory
from agentflux.contracts.intents import BITS, Intents, features
from agentflux.contracts.prompts import NONE

# Weak, because the rows have length 1 or so; found on the sample's dev split.
INVERSE_PENALTY = 20.0
_STEPS = 200
_FEWEST_LABELS = 2
_SMALLEST = 1e-12
_NEVER = -30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A classifier, and of how many dev requests it tells the first call (or `none`) right."""

    intents: Intents
    learned: int
    right: int
    asked: int


def train_intents(corpus: Corpus) -> Learned:
    """Fit on the first decisions of the training split.

    A deprecated tool gets a label, too, which is never likely: it is known, and it is never right.

    Raises:
        DataError: they have fewer than two labels.
    """
    train, dev = (
        [(item.request, label(item)) for item in corpus.trajectories if item.split == split]
        for split in ("train", "dev")
    )
    if len({name for _, name in train}) < _FEWEST_LABELS:
        msg = "the train split needs requests for two tools at least, or for one and for none"
        raise DataError(msg)
    made = _with_deprecated(_fit(train), corpus)
    told = [(made.log_probabilities(request), name) for request, name in dev]
    right = sum(max(shares, key=shares.__getitem__) == name for shares, name in told)
    card = {
        "data_sha256": corpus.sha256,
        "learned": str(len(train)),
        "dev": f"{right} of {len(dev)}",
    }
    return Learned(
        intents=replace(made, card=card), learned=len(train), right=right, asked=len(dev)
    )


def label(item: Trajectory) -> str:
    """Return `tool_set/tool` of the first call, or `none`."""
    return f"{item.steps[0].tool_set}/{item.steps[0].tool}" if item.steps else NONE


def _with_deprecated(made: Intents, corpus: Corpus) -> Intents:
    tools = [KnownTool(spec) for found in corpus.catalog.values() for spec in found]
    names = {f"{t.spec.tool_set}/{t.spec.name}" for t in tools if t.deprecated}
    extra = sorted(names - set(made.labels))
    return replace(
        made,
        labels=(*made.labels, *extra),
        weights=np.pad(made.weights, ((0, 0), (0, len(extra)))),
        scale=np.pad(made.scale, (0, len(extra))),
        bias=np.pad(made.bias, (0, len(extra)), constant_values=_NEVER),
    )


def _fit(rows: Sequence[tuple[str, str]]) -> Intents:
    from scipy.sparse import csr_matrix, diags_array
    from sklearn.linear_model import LogisticRegression

    ends, buckets, values = [0], list[int](), list[float]()
    for request, _ in rows:
        at, value = features(request)
        buckets += at
        values += value
        ends.append(len(buckets))
    counts: Any = csr_matrix(
        (np.asarray(values, np.float32), buckets, ends), shape=(len(rows), 1 << BITS)
    )
    # Rare features say more: their inverse frequency, folded into the weights afterwards.
    rarity = (np.log((1 + len(rows)) / (1 + counts.getnnz(axis=0))) + 1).astype(np.float32) / 4
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=_STEPS)
    model.fit(counts @ diags_array(rarity), [name for _, name in rows])
    weights, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(weights) == 1:  # two labels have one row: the second against the first
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = (weights * rarity).T
    scale = np.maximum(np.abs(weights).max(axis=0) / 127, _SMALLEST)
    return Intents(
        labels=tuple(str(name) for name in model.classes_),
        weights=np.round(weights / scale).astype(np.int8),
        scale=scale.astype(np.float32),
        bias=bias.astype(np.float32),
    )
