"""A small bi-encoder: how well a request and a tool's description fit, by what their words mean.

Each word of a fixed vocabulary has a vector of unit length and two weights, one where it stands in
a request and one where it describes a tool; a text is the weighted mean of its words' vectors, and
a fit is the cosine of two texts (a bag of words with two towers that share their embeddings).
It is trained on many servers, starting from the base model's own token embeddings, so it knows
tools that it never saw better than shared words alone do; reading takes well under a millisecond.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agentflux.contracts.arrays import Array, ArrayFile
from agentflux.contracts.tools import ToolSpec

RETRIEVER = "retriever.npz"
# Written into the file: vectors mean nothing under another way to split and describe.
READING = 1

Float32 = npt.NDArray[np.float32]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+")
_SHORTEST = 4
_DESCRIBED = 300


@dataclass(frozen=True, kw_only=True)
class BiEncoder:
    """Vectors [words, size] as int8 (their length says nothing), weights [words] as float16.

    scale: of the cosine, which makes it a logit. none: the logit of no tool at all, on that scale.
    card: where it comes from, for people to read.
    """

    vocabulary: tuple[str, ...]
    vectors: npt.NDArray[np.int8]
    request_weights: npt.NDArray[np.float16]
    tool_weights: npt.NDArray[np.float16]
    scale: float
    none: float
    card: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Where each word stands."""
        return {word: at for at, word in enumerate(self.vocabulary)}

    def request(self, text: str) -> Float32:
        """Return the unit vector [size] of a request; zeros where no word is known."""
        return self.words(known_words(text, self.index))

    def words(self, words: Sequence[int]) -> Float32:
        """Return the unit vector [size] of a request given by its words."""
        return self._text(words, self.request_weights)

    def tool(self, tool: ToolSpec) -> Float32:
        """Return the unit vector [size] of a tool's description."""
        return self._text(known_words(described(tool), self.index), self.tool_weights)

    def _text(self, words: Sequence[int], weights: npt.NDArray[np.float16]) -> Float32:
        if not words:
            return np.zeros(self.vectors.shape[1], np.float32)
        rows = self.vectors[words].astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True) + _TINY
        total = weights[words].astype(np.float32) @ (rows / lengths)
        found: Float32 = total / (np.linalg.norm(total) + _TINY)
        return found

    def save(self, path: Path) -> None:
        """Write the file, by a temporary name. Equal content gives equal bytes."""
        _FILE.save(
            path,
            self.card,
            vocabulary=np.array("\n".join(self.vocabulary)),
            vectors=self.vectors,
            request_weights=self.request_weights,
            tool_weights=self.tool_weights,
            numbers=np.array([self.scale, self.none]),
        )


_TINY = 1e-6


def known_words(text: str, index: Mapping[str, int]) -> list[int]:
    """Split text at case changes and look its words up; of an unknown one, its longest beginning.

    The beginning has four letters or more; a word without such a one is left out.
    """
    found: list[int] = []
    for match in _WORD.findall(text):
        word = match.lower()
        while word not in index and len(word) > _SHORTEST:
            word = word[:-1]
        if word in index:
            found.append(index[word])
    return found


def described(tool: ToolSpec) -> str:
    """Return the text that stands for a tool: set, name, description, names of parameters."""
    properties = tool.input_schema.get("properties")
    names = " ".join(properties) if isinstance(properties, Mapping) else ""
    return f"{tool.tool_set} {tool.name} {tool.name} {tool.description[:_DESCRIBED]} {names}"


def load_retriever(path: Path) -> BiEncoder:
    """Read the file.

    Raises:
        FileMismatch: it is no such file, or made for another version's reading of words.
    """
    return _FILE.load(path, _read)


_FILE = ArrayFile(of="reading", version=READING, made_by="afx-train retriever")


def _read(held: Mapping[str, Array], card: dict[str, str]) -> BiEncoder:
    scale, none = (float(number) for number in held["numbers"])
    found = BiEncoder(
        vocabulary=tuple(str(held["vocabulary"]).split("\n")),
        vectors=held["vectors"],
        request_weights=held["request_weights"],
        tool_weights=held["tool_weights"],
        scale=scale,
        none=none,
        card=card,
    )
    count = len(set(found.vocabulary))
    shapes = [a.shape for a in (found.vectors, found.request_weights, found.tool_weights)]
    if [shape[0] if shape else 0 for shape in shapes] != [count] * 3 or found.vectors.ndim != 2:
        msg = f"it has arrays of the shapes {shapes} for {count} words"
        raise ValueError(msg)
    return found
