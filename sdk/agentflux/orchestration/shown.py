"""Which tools a stage shows: all of them, while that fits; else those whose words fit best."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

from agentflux.contracts import prompts
from agentflux.contracts.lengths import tokens_at_most
from agentflux.contracts.prompts import ChatFormat, Situation
from agentflux.contracts.retriever import BiEncoder
from agentflux.contracts.tools import Catalog, ToolSpec
from agentflux.orchestration.retrieval import Retriever

_FEWEST = 4


class ShownTools:
    """One catalog, cut to what half of the context holds.

    A set that fits is always shown whole: its prompt is the same for every request, so its KV
    cache is computed once, and no word decides what the selector gets to see.
    """

    def __init__(
        self,
        chat: ChatFormat,
        catalog: Catalog,
        *,
        context_tokens: int,
        encoder: BiEncoder | None = None,
    ) -> None:
        self._chat, self._catalog, self.encoder = chat, catalog, encoder
        self._limit = context_tokens // 2
        self._retrievers: dict[str, Retriever] = {}
        self._whole: dict[str, bool] = {}

    def fits(self, tool_set: str) -> bool:
        """Whether the whole set is shown."""
        if tool_set not in self._whole:
            self._whole[tool_set] = self._tokens(tool_set, self._catalog[tool_set]) <= self._limit
        return self._whole[tool_set]

    def tools(self, tool_set: str, situation: Situation) -> Sequence[ToolSpec]:
        """Return the tools of a set that the stages of this situation show."""
        tools = self._catalog[tool_set]
        if self.fits(tool_set):
            return tools
        retriever = self._index(tool_set, tools)
        ranking = retriever.ranking(_asked(situation))
        return _most(
            lambda count: retriever.first(ranking, count),
            lambda shown: self._tokens(tool_set, shown) <= self._limit,
            len(tools),
        )

    def sets(self, situation: Situation) -> Catalog:
        """Return the tool sets that the route stage of this situation shows."""
        if self.all_sets_fit:
            return self._catalog
        retriever = self._set_retriever
        ranking = retriever.ranking(_asked(situation))
        found = _most(
            lambda count: retriever.first(ranking, count),
            lambda shown: self._route_tokens(self._part(shown)) <= self._limit,
            len(self._catalog),
        )
        return self._part(found)

    def set_matches(self, sets: Catalog, situation: Situation) -> dict[str, float]:
        """Return how well the words fit the best tool of each set."""
        tools = [tool for found in sets.values() for tool in found]
        index = self._every_tool if sets is self._catalog else Retriever(tools, self.encoder)
        best = dict.fromkeys(sets, -math.inf)
        for tool, score in zip(tools, index.scores(_asked(situation)), strict=True):
            best[tool.tool_set] = max(best[tool.tool_set], score)
        return best

    def tool_matches(
        self, tool_set: str, tools: Sequence[ToolSpec], situation: Situation
    ) -> dict[str, float]:
        """Return how well the words fit each of the tools that are shown of a set."""
        whole = tools is self._catalog[tool_set]
        index = self._index(tool_set, tools) if whole else Retriever(tools, self.encoder)
        scores = index.scores(_asked(situation))
        return {tool.name: score for tool, score in zip(tools, scores, strict=True)}

    def _index(self, tool_set: str, tools: Sequence[ToolSpec]) -> Retriever:
        """The index over a whole set, built once."""
        if tool_set not in self._retrievers:
            self._retrievers[tool_set] = Retriever(tools, self.encoder)
        return self._retrievers[tool_set]

    @cached_property
    def _every_tool(self) -> Retriever:
        tools = [tool for found in self._catalog.values() for tool in found]
        return Retriever(tools, self.encoder)

    @cached_property
    def all_sets_fit(self) -> bool:
        """Whether the route stage shows every set."""
        return self._route_tokens(self._catalog) <= self._limit

    @cached_property
    def _set_retriever(self) -> Retriever:
        """Find a set by its tools: each set stands as one tool described by all of its own."""
        return Retriever(
            [
                ToolSpec(
                    tool_set=name,
                    name=name,
                    description=" ".join(f"{t.name} {t.description}" for t in tools),
                )
                for name, tools in self._catalog.items()
            ]
        )

    def _part(self, sets: Sequence[ToolSpec]) -> Catalog:
        return {one.tool_set: self._catalog[one.tool_set] for one in sets}

    def _tokens(self, tool_set: str, tools: Sequence[ToolSpec]) -> float:
        nothing = Situation(request="")
        return tokens_at_most(prompts.select_prompt(self._chat, tool_set, tools, nothing).static)

    def _route_tokens(self, catalog: Catalog) -> float:
        prompt = prompts.route_prompt(self._chat, catalog, Situation(request=""))
        return tokens_at_most(prompt.static)


def _most(
    best: Callable[[int], tuple[ToolSpec, ...]],
    fits: Callable[[Sequence[ToolSpec]], bool],
    total: int,
) -> tuple[ToolSpec, ...]:
    """Return as many of the best as fit, by halving the count."""
    low, high = _FEWEST, total
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(best(middle)) else (low, middle - 1)
    return best(low)


def _asked(situation: Situation) -> str:
    """What the tools are sought by: the request, and how the last result begins."""
    last = situation.steps[-1].observation.strip()[:200] if situation.steps else ""
    return f"{situation.request} {last}"
