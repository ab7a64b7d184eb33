"""A linear intent classifier: which tool a request asks for, by its words alone.

It is trained beside the adapters, on the same requests, in a minute; it knows the tools of the
training by heart, reads no catalog and writes no arguments. What it is good for is a second opinion
(`agentflux.orchestration.hints`): it errs on other requests than a small language model does.

Features are words, pairs of words and letter n-grams, hashed (Weinberger et al. 2009,
arXiv 0902.2206); the model is a multinomial logistic regression. It is for the first decision about
a request: what has to follow a call, words alone do not tell.
"""

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agentflux.contracts.arrays import Array, ArrayFile

INTENTS = "intents.npz"
# Written into the file: weights mean nothing under other features.
FEATURES = 1
BITS = 15

Int8 = npt.NDArray[np.int8]
Float32 = npt.NDArray[np.float32]

_PIECES = re.compile(r"\w+|[^\w\s]")
_WORDS = re.compile(r"\w+")
_DIGITS = re.compile(r"\d")
_LETTERS = range(2, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intents:
    """Weights [buckets, labels] as int8, their scale a label, a bias a label.

    labels: `tool_set/tool`, or `none`. card: where it comes from, for people to read.
    """

    labels: tuple[str, ...]
    weights: Int8
    scale: Float32
    bias: Float32
    card: Mapping[str, str] = field(default_factory=dict[str, str])

    def log_probabilities(self, request: str) -> dict[str, float]:
        """Return the log-probability of each label."""
        buckets, values = features(request)
        sums = np.asarray(values, np.float32) @ self.weights[buckets].astype(np.float32)
        logits = sums * self.scale + self.bias
        logits -= logits.max()
        logits -= math.log(float(np.exp(logits).sum()))
        return dict(zip(self.labels, logits.tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write the file, by a temporary name. Equal content gives equal bytes."""
        _FILE.save(
            path,
            self.card,
            labels=np.array(self.labels),
            weights=self.weights,
            scale=self.scale,
            bias=self.bias,
        )


def features(request: str) -> tuple[list[int], list[float]]:
    """Return the buckets of a request's features and their values, the same in training and use.

    Digits count as one. Words and letters have the length 1 each, so that long requests weigh no
    more than short ones.
    """
    text = _DIGITS.sub("0", request.lower())
    pieces = _PIECES.findall(text)
    words = {
        *pieces,
        *(f"{a} {b}" for a, b in zip(["^", *pieces], [*pieces, "$"], strict=True)),
        *(f"{a} _ {b}" for a, b in zip(pieces, pieces[2:], strict=False)),
    }
    letters = {gram for word in set(_WORDS.findall(text)) for gram in _grams(f"<{word}>")}
    found: dict[int, float] = {}
    for group in (words, letters):
        for feature in sorted(group):
            bucket = zlib.crc32(feature.encode("utf-8", "replace")) & ((1 << BITS) - 1)
            found[bucket] = found.get(bucket, 0.0) + 1 / math.sqrt(len(group))
    return list(found), list(found.values())


def load_intents(path: Path) -> Intents:
    """Read the file.

    Raises:
        FileMismatch: it is no such file, or of other features than this version computes.
    """
    return _FILE.load(path, _read)


_FILE = ArrayFile(of="features", version=FEATURES, made_by="afx-train intents")


def _read(held: Mapping[str, Array], card: dict[str, str]) -> Intents:
    found = Intents(
        labels=tuple(str(label) for label in held["labels"].tolist()),
        weights=held["weights"],
        scale=held["scale"].astype(np.float32),
        bias=held["bias"].astype(np.float32),
        card=card,
    )
    count = len(set(found.labels))
    shapes = (found.weights.shape, found.scale.shape, found.bias.shape)
    if shapes != ((1 << BITS, count), (count,), (count,)) or found.weights.dtype != np.int8:
        msg = f"it has arrays of the shapes {shapes} for {count} labels"
        raise ValueError(msg)
    return found


def _grams(word: str) -> Iterable[str]:
    return (f"#{word[i : i + n]}" for n in _LETTERS for i in range(len(word) - n + 1))
