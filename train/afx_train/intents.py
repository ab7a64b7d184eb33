"""Train the intent classifiers that are exported beside the adapters.

See `agentflux.contracts.intents` for what they are. A multinomial logistic regression with an L2
penalty has one optimum, so equal data gives equal weights; what the convolutional network
(`afx_train.textcnn`) draws at random follows from a seed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from afx_train.corpus import Corpus, KnownTool
from afx_train.errors import DataError
from afx_train.textcnn import Asked, train_textcnn
from afx_train.trajectory import Trajectory
from agentflux.contracts.intents import (
    BITS,
    Features,
    Intents,
    Linear,
    request_features,
    surely_given,
)
from agentflux.contracts.prompts import FINISH, NONE

# Weak, because the rows have length 1 or so; found on the sample's dev split.
INVERSE_PENALTY = 20.0
_STEPS = 200
# An optional parameter is learned from so many calls with it, and without it.
_FEWEST_CALLS = 30
# It is kept if of the dev calls that it is sure of at most such a share is wrong.
_MOST_WRONG = 0.03
_FEWEST_LABELS = 2
_SMALLEST = 1e-12
_NEVER = -30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The classifiers, and how many decisions of the dev split they tell right by themselves.

    right, asked: first calls, or `none`. The later ones: what follows a call, or `finish`.
    """

    intents: Intents
    learned: int
    right: int
    asked: int
    right_later: int
    asked_later: int


def train_intents(corpus: Corpus, base: Path, *, seed: int) -> Learned:
    """Fit on the first decisions of the training split, and on those after a call.

    A deprecated tool gets a label, too, which is never likely: it is known, and it is never right.
    base: the folder of the model whose tokenizer and embeddings the convolutional network starts
    from; where the dev split is told no better with it, it is left out.

    Raises:
        DataError: the first ones have fewer than two labels.
    """
    train, dev = (
        [item for item in corpus.trajectories if item.split == split] for split in ("train", "dev")
    )
    if len({label(item) for item in train}) < _FEWEST_LABELS:
        msg = "the train split needs requests for two tools at least, or for one and for none"
        raise DataError(msg)
    first = _fit([(request_features(item.request), label(item)) for item in train])
    made = Intents(first=_with_deprecated(first, corpus))
    later = _later(train)
    if len({row.right for row in later}) >= _FEWEST_LABELS:
        rows = [(made.features_after(row.request, row.calls), row.right) for row in later]
        made = replace(made, later=_fit(rows))
    made = replace(made, given=_fit_given(corpus, train, dev))
    network = train_textcnn([*_firsts(train), *later], base, seed=seed)
    firsts, laters = _firsts(dev), _later(dev) if made.later else []
    alone, both = (_counted(replace(made, reader=r), firsts, laters) for r in (None, network))
    right, right_later = alone
    if sum(both) > sum(alone):
        made, (right, right_later) = replace(made, reader=network), both
    card = {
        "data_sha256": corpus.sha256,
        "learned": str(len(train)),
        "dev": f"{right} of {len(dev)}",
        "dev, after a call": f"{right_later} of {len(laters)}",
        "dev, the linear ones alone": f"{alone[0]} of {len(dev)}, {alone[1]} of {len(laters)}",
        "optional parameters": str(len(made.given.labels) if made.given else 0),
    }
    return Learned(
        intents=replace(made, card=card),
        learned=len(train),
        right=right,
        asked=len(dev),
        right_later=right_later,
        asked_later=len(laters),
    )


def _counted(intents: Intents, firsts: Sequence[Asked], laters: Sequence[Asked]) -> tuple[int, int]:
    """Return how many first and how many later decisions are told right."""
    first, later = (sum(map(partial(_is_right, intents), rows)) for rows in (firsts, laters))
    return first, later


def _is_right(intents: Intents, row: Asked) -> bool:
    told = intents.after(row.request, row.calls) if row.calls else None
    return _best(told or intents.log_probabilities(row.request)) == row.right


def _firsts(items: Sequence[Trajectory]) -> list[Asked]:
    """Return what is asked before any call."""
    return [Asked(item.request, (), label(item)) for item in items]


def _later(items: Sequence[Trajectory]) -> list[Asked]:
    """Return each moment after a call.

    Only where the calls were executed: what follows on results that nobody has seen is not known.
    """
    found = list[Asked]()
    for item in items:
        calls = [f"{step.tool_set}/{step.tool}" for step in item.steps] if item.verified else []
        found += [
            Asked(item.request, calls[: at + 1], right)
            for at, right in enumerate([*calls[1:], FINISH][: len(calls)])
        ]
    return found


_Calls = dict[str, list[tuple[Features, bool]]]


def _fit_given(
    corpus: Corpus, train: Sequence[Trajectory], dev: Sequence[Trajectory]
) -> Linear | None:
    """Fit a logistic regression for each optional parameter that calls have and others lack."""
    asked, told = _optional_calls(corpus, train), _optional_calls(corpus, dev)
    found: dict[str, Linear] = {}
    for name, calls in sorted(asked.items()):
        having = sum(has for _, has in calls)
        if min(having, len(calls) - having) < _FEWEST_CALLS:
            continue
        made = _fit([(seen, "yes" if has else "no") for seen, has in calls])
        one = replace(
            made,
            labels=(name,),
            weights=made.weights[:, 1:],
            scale=2 * made.scale[1:],
            bias=made.bias[1:] - made.bias[:1],
        )
        said = [(surely_given(one.logits(seen)[0]), has) for seen, has in told.get(name, ())]
        sure = [(given, has) for given, has in said if given is not None]
        if sum(given != has for given, has in sure) <= _MOST_WRONG * len(sure):
            found[name] = one
    if not found:
        return None
    return Linear(
        labels=tuple(found),
        weights=np.concatenate([one.weights for one in found.values()], axis=1),
        scale=np.concatenate([one.scale for one in found.values()]),
        bias=np.concatenate([one.bias for one in found.values()]),
    )


def _optional_calls(corpus: Corpus, items: Sequence[Trajectory]) -> _Calls:
    """Return, for each `tool_set/tool parameter`, each call's request and whether it has it.

    Of several calls of one tool only the first: a preview's request asks for the real call, too.
    """
    found: _Calls = defaultdict(list)
    for item in items:
        seen = request_features(item.request)
        firsts = {(step.tool_set, step.tool): step for step in reversed(item.steps)}
        for step in firsts.values() if item.verified else ():
            schema = corpus.tool(step).spec.input_schema
            for name in {*(schema.get("properties") or {})} - {*(schema.get("required") or ())}:
                label = f"{step.tool_set}/{step.tool} {name}"
                found[label].append((seen, name in step.arguments))
    return found


def _best(told: Mapping[str, float]) -> str:
    return max(told, key=told.__getitem__)


def label(item: Trajectory) -> str:
    """Return `tool_set/tool` of the first call, or `none`."""
    return f"{item.steps[0].tool_set}/{item.steps[0].tool}" if item.steps else NONE


def _with_deprecated(made: Linear, corpus: Corpus) -> Linear:
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


def _fit(rows: Sequence[tuple[Features, str]]) -> Linear:
    from scipy.sparse import csr_matrix, diags_array
    from sklearn.linear_model import LogisticRegression

    ends, buckets, values = [0], list[int](), list[float]()
    for (at, value), _ in rows:
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
    return Linear(
        labels=tuple(str(name) for name in model.classes_),
        weights=np.round(weights / scale).astype(np.int8),
        scale=scale.astype(np.float32),
        bias=bias.astype(np.float32),
    )
