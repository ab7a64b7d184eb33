"""How well tools fit a request: by the words that they share, and by what words mean.

BM25 over each tool's name, description and parameter names (Robertson and Zaragoza 2009,
doi:10.1561/1500000019, with k1 = 1.2 and b = 0.75). A name's words count three times. Words are
split at case changes and underscores and cut to their stems, roughly. A bundle's bi-encoder adds
what words mean (`agentflux.contracts.retriever`). So tools are sought where a tool set is too large
for one prompt, and weighed where no adapter was trained for them.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from agentflux.contracts.retriever import BiEncoder
from agentflux.contracts.tools import ToolSpec

# What a point of BM25 counts beside the bi-encoder, found on servers that it was not trained on.
SHARED = 0.7
_K1, _B = 1.2, 0.75
_NAME_WEIGHT = 3
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_SUFFIXES = ("ations", "ation", "ings", "ing", "ies", "ied", "ers", "ed", "er", "es", "s", "e", "y")
_SHORTEST_STEM = 3
_COMMON = frozenset(
    "a an the of in on at to for from with by and or is are be it its this that these those as "
    "i me my you your we our please can could would will what which who how do does did".split()
)


class Retriever:
    """An index over one tool set. Build it once a catalog; searching takes well under 1 ms."""

    def __init__(self, tools: Sequence[ToolSpec], encoder: BiEncoder | None = None) -> None:
        self._tools, self._encoder = tuple(tools), encoder
        if encoder:
            self._read = [encoder.tool(tool) for tool in self._tools]
        self._counts = [Counter(_described(tool)) for tool in self._tools]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / max(len(self._lengths), 1) or 1.0
        self._in = Counter(word for counts in self._counts for word in counts)

    def best(self, text: str, limit: int) -> tuple[ToolSpec, ...]:
        """Return the `limit` tools whose words fit the text best, in the tool set's own order.

        In one order the same tools make the same prompt, so its KV cache can be used again.
        """
        return self.first(self.ranking(text), limit)

    def ranking(self, text: str) -> list[int]:
        """Return the tools' places, best first."""
        scores = self.scores(text)
        return sorted(range(len(scores)), key=lambda index: (-scores[index], index))

    def first(self, ranking: Sequence[int], limit: int) -> tuple[ToolSpec, ...]:
        """Return the `limit` best of a ranking, in the tool set's own order."""
        return tuple(self._tools[index] for index in sorted(ranking[:limit]))

    def scores(self, text: str) -> list[float]:
        """Return how well each tool fits the text.

        Without a bi-encoder BM25, 0 where they share no word; with one a logit, of which the
        encoder's `none` is that of no tool.
        """
        shared = self._shared(text)
        if not self._encoder:
            return shared
        meant = self._encoder.fits(text, self._read)
        return [fit + SHARED * score for fit, score in zip(meant, shared, strict=True)]

    def _shared(self, text: str) -> list[float]:
        query = set(words(text))
        return [self._score(index, query) for index in range(len(self._tools))]

    def _score(self, index: int, query: set[str]) -> float:
        counts, length = self._counts[index], self._lengths[index]
        norm = _K1 * (1 - _B + _B * length / self._mean)
        return sum(
            self._weight(word) * counts[word] * (_K1 + 1) / (counts[word] + norm)
            for word in query & counts.keys()
        )

    def _weight(self, word: str) -> float:
        having = self._in[word]
        return math.log(1 + (len(self._tools) - having + 0.5) / (having + 0.5))


def words(text: str) -> list[str]:
    """Split text into stems; words that say nothing are left out."""
    found = (match.lower() for match in _WORD.findall(text))
    return [_stem(word) for word in found if word not in _COMMON]


def _described(tool: ToolSpec) -> list[str]:
    properties = tool.input_schema.get("properties")
    names = " ".join(properties) if isinstance(properties, Mapping) else ""
    return [*words(tool.name) * _NAME_WEIGHT, *words(tool.description), *words(names)]


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word[: -len(suffix)]
    return word
