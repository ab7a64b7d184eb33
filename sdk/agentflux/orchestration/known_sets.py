"""Which connected server is which trained tool set, whatever its user calls it.

Adapters, classifier and prompts know a tool set by its name, and the name of a server is its
user's choice (`fs`, `my-notes`). A server is the one whose tools it has.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Catalog

# Share of all tool names of both that both have; a newer server may have a few more or less.
ALIKE = 0.5


class KnownSets:
    """The names that training knows connected tool sets by; others keep their own."""

    def __init__(self, catalog: Catalog, trained: Iterable[CatalogTool]) -> None:
        """trained: the tools of the bundle's catalog."""
        self._trained = _matched(catalog, trained)
        self._connected = {known: name for name, known in self._trained.items()}

    def catalog(self, catalog: Catalog) -> Catalog:
        """Return the tool sets under the names that training knows."""
        if not self._trained:
            return catalog
        return {
            self.trained(name): tuple(replace(tool, tool_set=self.trained(name)) for tool in tools)
            if name in self._trained
            else tools
            for name, tools in catalog.items()
        }

    def situation(self, situation: Situation) -> Situation:
        """Return the situation with past calls under the names that training knows."""
        if not self._trained or not situation.steps:
            return situation
        steps = tuple(
            replace(step, call=replace(step.call, tool_set=self.trained(step.call.tool_set)))
            for step in situation.steps
        )
        return replace(situation, steps=steps)

    def trained(self, name: str) -> str:
        """Return the name that training knows a connected set by."""
        return self._trained.get(name, name)

    def connected(self, name: str) -> str:
        """Return the name under which a set is connected."""
        return self._connected.get(name, name)


def _matched(catalog: Catalog, trained: Iterable[CatalogTool]) -> dict[str, str]:
    """Map connected names to trained ones, the closest pairs first, each name once."""
    known: dict[str, set[str]] = defaultdict(set)
    for tool in trained:
        known[tool.tool_set].add(tool.name)
    free = {name: names for name, names in known.items() if name not in catalog}
    pairs = sorted(
        (-alike, name, other)
        for name, tools in catalog.items()
        if name not in known
        for other, names in free.items()
        if (alike := _jaccard({tool.name for tool in tools}, names)) >= ALIKE
    )
    found: dict[str, str] = {}
    for _, name, other in pairs:
        if name not in found and other not in found.values():
            found[name] = other
    return found


def _jaccard(left: set[str], right: set[str]) -> float:
    return len(left & right) / max(1, len(left | right))
