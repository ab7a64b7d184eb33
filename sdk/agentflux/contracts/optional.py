"""Whether a request gives an optional parameter of a tool that nobody trained for.

An adapter that reads a schema it never saw leaves out what it should not (`dry_run`, `since`) and
fills what it should not (a limit that nobody named). Of any parameter of any tool a few signals
tell: what its name, its description and its listed values find among the words of the request
(`agentflux.contracts.retriever`), and which numbers, dates and quotes the request has. A small
perceptron, trained on many servers, makes log-odds of them, for each kind of parameter with weights
of its own. Numbers and negations in words are told of English alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

KINDS = ("boolean", "number", "string", "array", "enum")
SIGNALS = 21
TRAITS = SIGNALS * (1 + len(KINDS))
_DESCRIBED = 160
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PIECE = re.compile(rf"{_WORD.pattern}|\d+")
_SHORT = 2
_DIGITS = re.compile(r"\d+(?:[.,]\d+)?")
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(rf"\d{{4}}-\d\d-\d\d|\d{{1,2}} (?:{_MONTHS})", re.IGNORECASE)
_QUOTE, _MARK = re.compile(r"[\"'“«`]"), re.compile("[,;:]")
_CAPITAL = re.compile(r"(?<=\s)[A-Z]\w+")
_OF_TIME = re.compile("date|since|until|from|start|end|after|before|day|when|time", re.IGNORECASE)
_NUMBERS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty "
    "fifty sixty hundred thousand dozen half quarter first second third fourth fifth double twice "
    "once".split()
)
_NEGATIONS = frozenset("no not don't without never only nothing".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Perceptron:
    """Two layers over traits: `inner` [traits, hidden], `outer` [hidden], their biases.

    Traits are shifted by `middle` and divided by `spread` first.
    """

    middle: Float32
    spread: Float32
    inner: Float32
    inner_bias: Float32
    outer: Float32
    outer_bias: Float32

    def log_odds(self, traits: Float32) -> float:
        """Return the log-odds of traits [traits]."""
        hidden = np.maximum((traits - self.middle) / self.spread @ self.inner + self.inner_bias, 0)
        return float(hidden @ self.outer + self.outer_bias)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says to every parameter: its words, how many numbers, and signals."""

    words: frozenset[str]
    numbers: int
    signals: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What the words of a text find in a request: on average and at best, and at best ungated."""

    mean: float = 0.0
    best: float = 0.0
    nearest: float = 0.0


@dataclass(frozen=True, slots=True)
class Sought:
    """What a parameter's name, description and listed values find in a request."""

    name: Found
    description: Found
    values: Found


def optional_parameters(schema: Mapping[str, Any]) -> list[str]:
    """Return the names of the properties that a call may leave out."""
    properties, required = schema.get("properties"), schema.get("required") or ()
    return [n for n in properties if n not in required] if isinstance(properties, Mapping) else []


def texts_of(schema: Mapping[str, Any], name: str) -> tuple[str, str, list[str]]:
    """Return a parameter's name, the beginning of its description, and its listed values."""
    node = _node(schema, name)
    described = str(node.get("description") or "")[:_DESCRIBED]
    return name, described, [str(value) for value in node.get("enum") or ()]


def named_values(schema: Mapping[str, Any], request: str) -> dict[str, str]:
    """Return, by property, the listed value that a request names, where it names one alone.

    All words of the value stand in the request, and one of them is longer than an article.
    """
    said, named = _pieces(request), dict[str, str]()
    for name in schema.get("properties") or ():
        listed = _node(schema, name).get("enum") or ()
        standing = [v for v in listed if isinstance(v, str) and _is_named(_pieces(v), said)]
        if len(standing) == 1:
            named[name] = standing[0]
    return named


def read(request: str) -> Asked:
    """Read a request once for all parameters."""
    pieces, lower = request.split(), request.lower()
    return Asked(
        words=frozenset(_words(request)),
        numbers=len(_DIGITS.findall(request)) + sum(w in _NUMBERS for w in lower.split()),
        signals=(
            min(len(_DATE.findall(request)), 2) / 2,
            min(len(pieces), 30) / 30,
            float(bool(_NEGATIONS & {*re.findall(r"[a-z']+", lower)})),
            min(len(_QUOTE.findall(request)), 4) / 4,
            min(len(_CAPITAL.findall(request)), 5) / 5,
            min(len(_MARK.findall(request)), 4) / 4,
        ),
    )


def traits(asked: Asked, schema: Mapping[str, Any], name: str, sought: Sought) -> Float32:
    """Return the traits [traits] of a request and one optional parameter of a schema."""
    node, said = _node(schema, name), asked.words
    kind, (_, described, values) = _kind(node), texts_of(schema, name)
    properties, required = schema["properties"], schema.get("required") or ()
    numeric = [n for n in properties if _kind(_node(schema, n)) == "number"]
    free = asked.numbers - sum(n in required for n in numeric)
    signals = [
        sought.name.mean,
        sought.name.best,
        sought.name.nearest,
        sought.description.mean,
        sought.description.best,
        _share(_words(name), said),
        min(len(_words(described) & said), 4) / 4,
        sought.values.best,
        max((_share(_words(value), said) for value in values), default=0.0),
        min(max(free, 0), 4) / 4,
        *asked.signals,
        float("default" in node),
        min(len(required), 4) / 4,
        min(len(properties) - len(required), 6) / 6,
        min(sum(n not in required for n in numeric), 4) / 4,
        float(_OF_TIME.search(name) is not None),
    ]
    apart = [signal * (kind == one) for one in KINDS for signal in signals]
    return np.array([*signals, *apart], np.float32)


def _node(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A property's schema, with what its first branch that is not `null` says."""
    node = schema["properties"].get(name)
    if not isinstance(node, Mapping):
        return {}
    branches = [b for key in ("anyOf", "oneOf") for b in node.get(key) or ()]
    told = [b for b in branches if isinstance(b, Mapping) and b.get("type") != "null"]
    return {**told[0], **node} if told else node


def _kind(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return "enum"
    given = node.get("type")
    named = [given] if isinstance(given, str) else [t for t in given or () if t != "null"]
    kind = named[0] if named else "string"
    if kind == "integer":
        return "number"
    return kind if kind in KINDS else "string"


def _words(text: str) -> set[str]:
    return {word.lower().removesuffix("s") for word in _WORD.findall(text)}


def _pieces(text: str) -> frozenset[str]:
    """The words, longer ones without the plural's s, and the numbers of a text."""
    found = (piece.lower() for piece in _PIECE.findall(text))
    return frozenset(p.removesuffix("s") if len(p) > _SHORT + 1 else p for p in found)


def _is_named(value: frozenset[str], said: frozenset[str]) -> bool:
    telling = any(len(piece) > _SHORT or piece.isdecimal() for piece in value)
    return telling and value <= said


def _share(words: set[str], said: frozenset[str]) -> float:
    return len(words & said) / len(words) if words else 0.0


def alike(units: Float32, others: Float32) -> Float32:
    """Return how alike words [words, size] and others [others, size] are, from 0 to 1."""
    squared: Float32 = np.square(np.maximum(units @ others.T, 0))
    return squared


def found(units: Float32, gates: Float32, request: Float32) -> Found:
    """Return what words [words, size] with gates find among a request's words [words, size]."""
    if not len(units) or not len(request):
        return Found()
    nearest = alike(units, request).max(axis=1)
    gated = nearest * gates
    return Found(
        mean=float(gated.sum() / (gates.sum() + 1e-6)),
        best=float(gated.max()),
        nearest=float(nearest.max()),
    )


def best_of(several: Sequence[Found]) -> Found:
    """Return the one that finds most."""
    return max(several, key=lambda one: one.best, default=Found())
