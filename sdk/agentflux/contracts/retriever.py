"""A small bi-encoder: how well a request and a tool's description fit, by what their words mean.

Each word of a fixed vocabulary has a vector of unit length and two weights, one where it stands in
a request and one where it describes a tool. A text is the weighted mean of its words' vectors, and
two texts fit by their cosine (a bag of words with two towers that share their embeddings), and by
what each word of the request finds at best among the words of the description (late interaction,
Khattab and Zaharia 2020, arXiv 2004.12832). It is trained on many servers, starting from the base
model's own token embeddings, so it knows tools that it never saw better than shared words alone do;
a request is read and weighed against forty tools in about a millisecond. On the same vectors it
tells whether a request gives an optional parameter (`agentflux.contracts.optional`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agentflux.contracts.arrays import Array, ArrayFile
from agentflux.contracts.optional import (
    TRAITS,
    Found,
    Perceptron,
    Sought,
    alike,
    best_of,
    found,
    optional_parameters,
    read,
    texts_of,
    traits,
)
from agentflux.contracts.tools import ToolSpec

RETRIEVER = "retriever.npz"
# Written into the file: vectors mean nothing under another way to split and describe.
READING = 2

Float32 = npt.NDArray[np.float32]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+")
_SHORTEST = 4
_DESCRIBED = 300


@dataclass(frozen=True, slots=True)
class Described:
    """A tool's description: its unit vector [size], and its words' [words, size] with a gate each.

    A gate, from 0 to 1, is how much finding that word says.
    """

    vector: Float32
    words: Float32
    gates: Float32


@dataclass(frozen=True, kw_only=True)
class BiEncoder:
    """Vectors [words, size] as int8 (their length says nothing), weights [words] as float16.

    scale: makes a logit of the cosine and of what the words find, together. none: the logit of no
    tool at all, on that scale. given: tells of optional parameters; None where nothing was learned.
    card: where it comes from, for people to read.
    """

    vocabulary: tuple[str, ...]
    vectors: npt.NDArray[np.int8]
    request_weights: npt.NDArray[np.float16]
    tool_weights: npt.NDArray[np.float16]
    scale: float
    none: float
    given: Perceptron | None = None
    card: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Where each word stands."""
        return {word: at for at, word in enumerate(self.vocabulary)}

    def tool(self, tool: ToolSpec) -> Described:
        """Read a tool's description."""
        words = known_words(described(tool), self.index)
        once = list(dict.fromkeys(words))
        return Described(
            vector=self._mean(words, self.tool_weights),
            words=self._units(once),
            gates=self._gates(once),
        )

    def fits(self, text: str, tools: Sequence[Described]) -> list[float]:
        """Return the logit of each tool for a request; zeros where none of its words is known."""
        return self.fits_of(known_words(text, self.index), tools)

    def fits_of(self, words: Sequence[int], tools: Sequence[Described]) -> list[float]:
        """Do so for a request given by its words."""
        if not words:
            return [0.0] * len(tools)
        mean, units = self._mean(words, self.request_weights), self._units(words)
        weights = self.request_weights[words].astype(np.float32)
        share = weights / (weights.sum() + _TINY)
        return [
            self.scale * float(tool.vector @ mean + share @ _at_best(units, tool)) for tool in tools
        ]

    def odds_given(self, tool: ToolSpec, request: str) -> dict[str, float]:
        """Return the log-odds that a request gives each optional parameter of a tool."""
        if self.given is None:
            return {}
        told = self.traits(tool, request)
        return {name: self.given.log_odds(found) for name, found in told.items()}

    def traits(self, tool: ToolSpec, request: str) -> dict[str, Float32]:
        """Return what speaks for it that a request gives each optional parameter of a tool."""
        schema, asked = tool.input_schema, read(request)
        units = self._units(known_words(request, self.index))
        told: dict[str, Float32] = {}
        for name in optional_parameters(schema):
            of_name, described_as, values = texts_of(schema, name)
            sought = Sought(
                name=self._found(of_name, units),
                description=self._found(described_as, units),
                values=best_of([self._found(value, units) for value in values]),
            )
            told[name] = traits(asked, schema, name, sought)
        return told

    def _found(self, text: str, asked: Float32) -> Found:
        words = list(dict.fromkeys(known_words(text, self.index)))
        return found(self._units(words), self._gates(words), asked)

    def _gates(self, words: Sequence[int]) -> Float32:
        weights = self.tool_weights[words].astype(np.float32)
        gates: Float32 = weights / (weights + 1)
        return gates

    @property
    def _given_parts(self) -> tuple[str, ...]:
        return _GIVEN if self.given is not None else ()

    def _units(self, words: Sequence[int]) -> Float32:
        rows = self.vectors[words].astype(np.float32)
        return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + _TINY), np.float32)

    def _mean(self, words: Sequence[int], weights: npt.NDArray[np.float16]) -> Float32:
        if not words:
            return np.zeros(self.vectors.shape[1], np.float32)
        total = weights[words].astype(np.float32) @ self._units(words)
        return np.asarray(total / (np.linalg.norm(total) + _TINY), np.float32)

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
            **{f"given_{part}": np.array(getattr(self.given, part)) for part in self._given_parts},
        )


_TINY = 1e-6


def _at_best(units: Float32, tool: Described) -> Float32:
    """Return what each word [words, size] finds at best in a description, from 0 to 1."""
    if not len(tool.words):
        return np.zeros(len(units), np.float32)
    found: Float32 = (alike(units, tool.words) * tool.gates).max(axis=1)
    return found


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


_GIVEN = tuple(part.name for part in fields(Perceptron))


def _read(held: Mapping[str, Array], card: dict[str, str]) -> BiEncoder:
    scale, none = (float(number) for number in held["numbers"])
    found = BiEncoder(
        vocabulary=tuple(str(held["vocabulary"]).split("\n")),
        vectors=held["vectors"],
        request_weights=held["request_weights"],
        tool_weights=held["tool_weights"],
        scale=scale,
        none=none,
        given=_perceptron(held) if f"given_{_GIVEN[0]}" in held else None,
        card=card,
    )
    count = len(set(found.vocabulary))
    shapes = [a.shape for a in (found.vectors, found.request_weights, found.tool_weights)]
    if [shape[0] if shape else 0 for shape in shapes] != [count] * 3 or found.vectors.ndim != 2:
        msg = f"it has arrays of the shapes {shapes} for {count} words"
        raise ValueError(msg)
    return found


def _perceptron(held: Mapping[str, Array]) -> Perceptron:
    parts = {part: held[f"given_{part}"].astype(np.float32) for part in _GIVEN}
    hidden = parts["inner_bias"].size
    wanted = {"inner": (TRAITS, hidden), "outer": (hidden,), "outer_bias": ()}
    wanted |= {"middle": (TRAITS,), "spread": (TRAITS,), "inner_bias": (hidden,)}
    shapes = {part: array.shape for part, array in parts.items()}
    if shapes != wanted:
        msg = f"it has arrays of the shapes {shapes} for optional parameters, not {wanted}"
        raise ValueError(msg)
    return Perceptron(**parts)
