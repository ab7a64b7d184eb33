"""Classifiers of requests: which tool is asked for, what follows a call, what is given.

They are trained beside the adapters, on the same requests, in minutes; they know the tools of the
training by heart, read no catalog and write no arguments. What they are good for is a second
opinion (`agentflux.orchestration.hints`): they err on other requests than a small language model.
A linear one and a small convolutional network (`agentflux.contracts.textcnn`) err on different
requests, too; what they say is a product of both.

Features of the linear ones are words, pairs of words and letter n-grams, hashed (Weinberger et al.
2009, arXiv 0902.2206); the model is a multinomial logistic regression. After a call the words are
those of what is left of the request (`agentflux.contracts.clauses`), the calls made beside them.
Whether a request gives an optional parameter (a dry run, a branch to start from) is a logistic
regression for each.
"""

import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agentflux.contracts.arrays import Array, ArrayFile
from agentflux.contracts.clauses import clauses, left_over
from agentflux.contracts.logs import normalized
from agentflux.contracts.textcnn import TextCnn

INTENTS = "intents.npz"
# Written into the file: weights mean nothing under other features.
FEATURES = 2
BITS = 15
# Log-odds from which on a classifier is sure that a parameter is given (a probability of 0.73), and
# below which that it is not (0.05). Found on the sample's dev split, where 1 % of either are wrong:
# words that ask for a parameter say more than their lack.
GIVEN, NOT_GIVEN = 1.0, -3.0

Int8 = npt.NDArray[np.int8]
Float32 = npt.NDArray[np.float32]
Features = tuple[list[int], list[float]]

_PIECES = re.compile(r"\w+|[^\w\s]")
_WORDS = re.compile(r"\w+")
_DIGITS = re.compile(r"\d")
_LETTERS = range(2, 6)
_MOST = 4  # counts above are one
_SEVERAL = 2
# Found on the sample's dev requests beside the model: more says little more.
READ = 0.5
_FIRST_CLAUSE = 0.4  # found on the sample's dev split; more helps several clauses and harms one
_ARRAYS = ("labels", "weights", "scale", "bias")
_READER_ARRAYS = ("vectors", "scales", "marks", "out")
_READER_TEXTS = ("labels", "vocabulary", "calls")
_NEVER = -30.0  # of a label that the network does not have: a deprecated tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Weights [buckets, labels] as int8, their scale a label, a bias a label."""

    labels: tuple[str, ...]
    weights: Int8
    scale: Float32
    bias: Float32

    def logits(self, found: Features) -> Float32:
        """Return the logit of each label."""
        buckets, values = found
        sums = np.asarray(values, np.float32) @ self.weights[buckets].astype(np.float32)
        return np.asarray(sums * self.scale + self.bias, np.float32)

    def log_probabilities(self, found: Features) -> dict[str, float]:
        """Return the log-probability of each label."""
        logits = self.logits(found)
        logits -= logits.max()
        logits -= math.log(float(np.exp(logits).sum()))
        return dict(zip(self.labels, logits.tolist(), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Intents:
    """The classifiers.

    first: of requests; its labels are `tool_set/tool`, or `none`. later: of what is left of one
    after calls, with `finish` for nothing; None where training saw no request of several calls.
    given: its labels are `tool_set/tool parameter`, its logits the log-odds that a request which
    the tool serves gives that optional parameter. reader: tells what first and later do, and has
    the exponent `READ` in a product with them; None where the dev split was told no better with
    it. card: where they come from, for people to read.
    """

    first: Linear
    later: Linear | None = None
    given: Linear | None = None
    reader: TextCnn | None = None
    card: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def labels(self) -> tuple[str, ...]:
        """What a request can ask for."""
        return self.first.labels

    def log_probabilities(self, request: str) -> dict[str, float]:
        """Return the log-probability of each label of a request before any call."""
        return self._read_too(self._first(request), request, ())

    def _first(self, request: str) -> dict[str, float]:
        return self.first.log_probabilities(request_features(request))

    def _read_too(
        self, told: dict[str, float], request: str, calls: Sequence[str]
    ) -> dict[str, float]:
        if self.reader is None:
            return told
        read = self.reader.log_probabilities(request, calls)
        return normalized({name: log + READ * read.get(name, _NEVER) for name, log in told.items()})

    def after(self, request: str, calls: Sequence[str]) -> dict[str, float] | None:
        """Return the log-probability of each label after calls (`tool_set/tool`), and of `finish`.

        None where nothing was learned of it.
        """
        if self.later is None:
            return None
        told = self.later.log_probabilities(self.features_after(request, calls))
        return self._read_too(told, request, calls)

    def odds_given(self, tool: str, request: str) -> dict[str, float]:
        """Return the log-odds that the request gives each optional parameter that is known.

        tool: `tool_set/tool`, which is known to serve the request.
        """
        if self.given is None:
            return {}
        head, told = f"{tool} ", self.given.logits(request_features(request)).tolist()
        named = zip(self.given.labels, told, strict=True)
        return {name.removeprefix(head): odds for name, odds in named if name.startswith(head)}

    def features_after(self, request: str, calls: Sequence[str]) -> Features:
        """Return the features of what is left, with the calls and the counts of both beside it."""
        left, count = left_over(request, calls, self._first)
        marks = [
            *(f"\x00called {call}" for call in dict.fromkeys(calls)),
            f"\x00calls {min(len(calls), _MOST)}",
            f"\x00left {min(len(left), _MOST)}",
            f"\x00clauses {min(count, _MOST)}",
        ]
        buckets, values = features(" ; ".join(left)) if left else ([], [])
        found = dict(zip(buckets, values, strict=True))
        for mark in marks:
            found[_bucket(mark)] = found.get(_bucket(mark), 0.0) + 1.0
        return list(found), list(found.values())

    def save(self, path: Path) -> None:
        """Write the file, by a temporary name. Equal content gives equal bytes."""
        every = {"": self.first, "later_": self.later, "given_": self.given}
        held = {head: linear for head, linear in every.items() if linear is not None}
        arrays = {
            f"{head}{name}": np.array(getattr(linear, name))
            for head, linear in held.items()
            for name in _ARRAYS
        }
        if self.reader is not None:
            arrays |= _of_reader(self.reader)
        _FILE.save(path, self.card, **arrays)


def surely_given(odds: float) -> bool | None:
    """Return whether a parameter of these log-odds is given; None where that is not sure."""
    if odds > GIVEN:
        return True
    return False if odds < NOT_GIVEN else None


def features(request: str) -> Features:
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
            bucket = _bucket(feature)
            found[bucket] = found.get(bucket, 0.0) + 1 / math.sqrt(len(group))
    return list(found), list(found.values())


def request_features(request: str) -> Features:
    """Return a request's features, and those of its first clause apart, where it has several.

    What several clauses ask for first is mostly what the first one asks for.
    """
    buckets, values = features(request)
    parts = [part for part in clauses(request) if len(_WORDS.findall(part)) > 1]
    if len(parts) < _SEVERAL:
        return buckets, values
    found = dict(zip(buckets, values, strict=True))
    for bucket, value in zip(*features(parts[0]), strict=True):
        apart = _bucket(f"\x00first {bucket}")
        found[apart] = found.get(apart, 0.0) + _FIRST_CLAUSE * value
    return list(found), list(found.values())


def load_intents(path: Path) -> Intents:
    """Read the file.

    Raises:
        FileMismatch: it is no such file, or of other features than this version computes.
    """
    return _FILE.load(path, _read)


_FILE = ArrayFile(of="features", version=FEATURES, made_by="afx-train intents")


def _read(held: Mapping[str, Array], card: dict[str, str]) -> Intents:
    later, given = (
        _linear(held, head) if f"{head}labels" in held else None for head in ("later_", "given_")
    )
    return Intents(
        first=_linear(held, ""),
        later=later,
        given=given,
        reader=_reader(held) if "reader_labels" in held else None,
        card=card,
    )


def _of_reader(reader: TextCnn) -> dict[str, Array]:
    arrays = {name: np.array(getattr(reader, name)) for name in _READER_ARRAYS}
    texts = {name: np.array("\n".join(getattr(reader, name))) for name in _READER_TEXTS}
    made = {**arrays, **texts, "widths": np.array(sorted(reader.filters))}
    for width, (weight, bias) in reader.filters.items():
        made |= {f"weight_{width}": weight, f"bias_{width}": bias}
    return {f"reader_{name}": array for name, array in made.items()}


def _reader(held: Mapping[str, Array]) -> TextCnn:
    told = {name: str(held[f"reader_{name}"]) for name in _READER_TEXTS}
    texts = {name: tuple(text.split("\n")) if text else () for name, text in told.items()}
    return TextCnn(
        labels=texts["labels"],
        vocabulary=texts["vocabulary"],
        calls=texts["calls"],
        vectors=held["reader_vectors"],
        scales=held["reader_scales"],
        marks=held["reader_marks"],
        out=held["reader_out"],
        filters={
            int(width): (held[f"reader_weight_{width}"], held[f"reader_bias_{width}"])
            for width in held["reader_widths"]
        },
    )


def _linear(held: Mapping[str, Array], head: str) -> Linear:
    found = Linear(
        labels=tuple(str(label) for label in held[f"{head}labels"].tolist()),
        weights=held[f"{head}weights"],
        scale=held[f"{head}scale"].astype(np.float32),
        bias=held[f"{head}bias"].astype(np.float32),
    )
    count = len(set(found.labels))
    shapes = (found.weights.shape, found.scale.shape, found.bias.shape)
    if shapes != ((1 << BITS, count), (count,), (count,)) or found.weights.dtype != np.int8:
        msg = f"it has arrays of the shapes {shapes} for {count} labels"
        raise ValueError(msg)
    return found


def _bucket(feature: str) -> int:
    return zlib.crc32(feature.encode("utf-8", "replace")) & ((1 << BITS) - 1)


def _grams(word: str) -> Iterable[str]:
    return (f"#{word[i : i + n]}" for n in _LETTERS for i in range(len(word) - n + 1))
