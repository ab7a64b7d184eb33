"""A small convolutional network that tells what a request asks for next, by words in their order.

TextCNN (Kim 2014, arXiv 1408.5882): each word has a vector, filters of one to a few words slide
over them, and what each filter finds at best anywhere is what the labels are weighed by. The
vectors start from the base model's own token embeddings, so it knows words that training never saw
by those that it did see; the linear classifiers beside it (`agentflux.contracts.intents`) know
letters and pairs of words. The calls made stand before the request, as marks of their own. A
request takes about a millisecond.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import numpy.typing as npt

from agentflux.contracts.logs import normalized
from agentflux.contracts.prompts import FINISH, NONE

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]

MOST_PIECES, MOST_CALLS = 70, 6
# What is no word: marks of one character, by themselves; any other; numbers; unknown words; and
# where the request begins.
PUNCTUATION = "\"'.,?!/-:;_()@#`"
OTHER, NUMBER, UNKNOWN, START = "<other>", "<number>", "<unknown>", "<start>"
SIGNS = (START, UNKNOWN, NUMBER, OTHER, *PUNCTUATION)
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+|\d+|[^\w\s]|_")
_SHORTEST, _LONGEST = 4, 40


@dataclass(frozen=True, kw_only=True)
class TextCnn:
    """The network. What it reads is numbered: the words, then `SIGNS`, then the calls made.

    labels: `tool_set/tool`, `none` and `finish`. vectors [words, size] as int8, each of the scale
    beside it [words]; marks [signs + calls, size]. filters: of each width a weight
    [width · size, filters] and a bias [filters]; out: [filters of all widths + 1, labels], the last
    row being the bias.
    """

    labels: tuple[str, ...]
    vocabulary: tuple[str, ...]
    vectors: npt.NDArray[np.int8]
    scales: Float16
    calls: tuple[str, ...]
    marks: Float16
    filters: Mapping[int, tuple[Float16, Float16]]
    out: Float16

    def __post_init__(self) -> None:
        """Refuse arrays that do not go together.

        Raises:
            ValueError: with what does not.
        """
        words, size = len(set(self.vocabulary)), self.marks.shape[-1]
        found = sum(bias.size for _, bias in self.filters.values())
        wanted = {
            "vectors": (self.vectors.shape, (words, size)),
            "scales": (self.scales.shape, (words,)),
            "marks": (self.marks.shape, (len(SIGNS) + len(set(self.calls)), size)),
            "out": (self.out.shape, (found + 1, len(set(self.labels)))),
            **{
                f"filters of {width}": (weight.shape, (width * size, bias.size))
                for width, (weight, bias) in self.filters.items()
            },
        }
        for name, (shape, right) in wanted.items():
            if shape != right:
                msg = f"its {name} have the shape {shape}, not {right}"
                raise ValueError(msg)

    @cached_property
    def pieces(self) -> "Pieces":
        """What numbers it reads."""
        return Pieces(self.vocabulary, self.calls)

    @cached_property
    def _table(self) -> Float32:
        words = self.vectors.astype(np.float32) * self.scales.astype(np.float32)[:, None]
        return np.concatenate([words, self.marks.astype(np.float32)])

    @cached_property
    def _filters(self) -> dict[int, tuple[Float32, Float32]]:
        parts = self.filters.items()
        return {k: (w.astype(np.float32), b.astype(np.float32)) for k, (w, b) in parts}

    @cached_property
    def _out(self) -> Float32:
        return self.out.astype(np.float32)

    def log_probabilities(self, request: str, calls: Sequence[str] = ()) -> dict[str, float]:
        """Return the log-probability of each label: without `finish` first, without `none` later.

        calls: those made, as `tool_set/tool`.
        """
        rows = self._table[self.pieces.of(request, calls)]
        found = [self._at_best(rows, width) for width in sorted(self.filters)]
        logits = np.concatenate([*found, np.ones(1, np.float32)]) @ self._out
        told = dict(zip(self.labels, logits.tolist(), strict=True))
        told.pop(NONE if calls else FINISH, None)
        return normalized(told)

    def _at_best(self, rows: Float32, width: int) -> Float32:
        weight, bias = self._filters[width]
        padded = np.pad(rows, ((width, width), (0, 0)))  # one window has no word at all
        windows = np.concatenate(
            [padded[at : len(padded) - width + 1 + at] for at in range(width)], axis=1
        )
        return np.asarray(np.maximum((windows @ weight).max(axis=0) + bias, 0.0), np.float32)


class Pieces:
    """Numbers of what a request consists of: its words, `SIGNS` and calls."""

    def __init__(self, vocabulary: Sequence[str], calls: Sequence[str]) -> None:
        self._words = {word: at for at, word in enumerate(vocabulary)}
        self._signs = {sign: len(vocabulary) + at for at, sign in enumerate(SIGNS)}
        first = len(vocabulary) + len(SIGNS)
        self._calls = {call: first + at for at, call in enumerate(calls)}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._words) + len(self._signs) + len(self._calls)

    def of(self, request: str, calls: Sequence[str] = ()) -> list[int]:
        """Return the numbers of the calls made, the start, and the request's pieces.

        An unknown word is its longest beginning that is known, of four letters or more.
        """
        made = [self._calls[call] for call in calls if call in self._calls]
        pieces = [match[0] for match in islice(_PIECE.finditer(request), MOST_PIECES)]
        return [*made[-MOST_CALLS:], self._signs[START], *map(self._number, pieces)]

    def _number(self, piece: str) -> int:
        word = piece[:_LONGEST].lower()
        if word in self._signs:
            return self._signs[word]
        if word.isdigit():
            return self._signs[NUMBER]
        if not word[0].isalnum():
            return self._signs[OTHER]
        while word not in self._words and len(word) > _SHORTEST:
            word = word[:-1]
        return self._words.get(word, self._signs[UNKNOWN])
