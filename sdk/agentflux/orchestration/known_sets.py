"""Which connected server is which trained tool set, whatever its user calls it.

Adapters, classifier and prompts know a tool set by its name, and the name of a server is its
user's choice (`fs`, `my-notes`). A server is the one whose tools it has: half of all tool names of
both, or only tools that are exactly those of the training (a part of them, as where a caller offers
one). One that has a trained set's name and other tools is a stranger under another name. So is a
server or a tool that is called as the stages' own answers are, `none` or `finish`.
"""

from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from agentflux.contracts.bundle import CatalogTool
from agentflux.contracts.prompts import FINISH, NONE, Situation
from agentflux.contracts.tools import Catalog, ToolCall, ToolSpec

# Share of all tool names of both that both have; a newer server may have a few more or less. Where
# it has the trained name, of those of the smaller.
ALIKE = 0.5
_STRANGER = "other_"
_ANSWERS = frozenset({NONE, FINISH})


class KnownSets:
    """The names that training knows connected tool sets by; others keep their own."""

    def __init__(self, catalog: Catalog, trained: Iterable[CatalogTool]) -> None:
        """trained: the tools of the bundle's catalog."""
        self._trained = _matched(catalog, trained)
        self._connected = {known: name for name, known in self._trained.items()}
        self._tools = {
            (name, tool.name): _free(tool.name, {other.name for other in tools})
            for name, tools in catalog.items()
            for tool in tools
            if tool.name in _ANSWERS
        }
        self._connected_tools = {(s, known): tool for (s, tool), known in self._tools.items()}

    def catalog(self, catalog: Catalog) -> Catalog:
        """Return the tool sets under the names that training knows."""
        if not self._trained and not self._tools:
            return catalog
        return {
            self.trained(name): tuple(self._tool(name, tool) for tool in tools)
            for name, tools in catalog.items()
        }

    def situation(self, situation: Situation) -> Situation:
        """Return the situation with past calls under the names that training knows."""
        if not (self._trained or self._tools) or not situation.steps:
            return situation
        steps = tuple(replace(step, call=self._call(step.call)) for step in situation.steps)
        forgotten = tuple(map(self._call, situation.forgotten))
        return replace(situation, steps=steps, forgotten=forgotten)

    def _call(self, call: ToolCall) -> ToolCall:
        tool = self._tools.get((call.tool_set, call.tool), call.tool)
        return replace(call, tool_set=self.trained(call.tool_set), tool=tool)

    def _tool(self, tool_set: str, tool: ToolSpec) -> ToolSpec:
        name = self._tools.get((tool_set, tool.name), tool.name)
        known = self.trained(tool_set)
        return (
            tool
            if known == tool_set and name == tool.name
            else replace(tool, tool_set=known, name=name)
        )

    def trained(self, name: str) -> str:
        """Return the name that training knows a connected set by."""
        return self._trained.get(name, name)

    def connected(self, name: str) -> str:
        """Return the name under which a set is connected."""
        return self._connected.get(name, name)

    def connected_tool(self, tool_set: str, tool: str) -> str:
        """Return the name that its server gives a tool, which a set of that connected name has."""
        return self._connected_tools.get((tool_set, tool), tool)


def _matched(catalog: Catalog, trained: Iterable[CatalogTool]) -> dict[str, str]:
    """Map connected names to trained ones, the closest pairs first, each name once."""
    by_name: dict[str, list[CatalogTool]] = defaultdict(list)
    for tool in trained:
        by_name[tool.tool_set].append(tool)
    known = {name: _Tools.of(tools) for name, tools in by_name.items()}
    pairs = sorted(
        (name != other, -alike, name, other)
        for name, own in ((name, _Tools.of(tools)) for name, tools in catalog.items())
        for other, theirs in known.items()
        if (alike := _alike(own, theirs, same_name=name == other)) >= ALIKE
    )
    found: dict[str, str] = {}
    for _, _, name, other in pairs:
        if name not in found and other not in found.values():
            found[name] = other
    reserved = known.keys() | _ANSWERS
    taken = {name: _free(name, catalog) for name in catalog.keys() & reserved - found.keys()}
    return {name: other for name, other in (found | taken).items() if name != other}


@dataclass(frozen=True, slots=True)
class _Tools:
    """A set's tool names, and the hashes of its tools (a hash takes reading the whole schema)."""

    names: frozenset[str]
    hashes: frozenset[str]

    @classmethod
    def of(cls, tools: Iterable[ToolSpec | CatalogTool]) -> "_Tools":
        pairs = [(tool.name, tool.sha256) for tool in tools]
        return cls(frozenset(name for name, _ in pairs), frozenset(found for _, found in pairs))


def _alike(own: _Tools, known: _Tools, *, same_name: bool) -> float:
    if own.names and own.hashes <= known.hashes:
        return 1.0
    smaller = min(len(own.names), len(known.names))
    all_of = smaller if same_name else len(own.names | known.names)
    return len(own.names & known.names) / max(1, all_of)


def _free(name: str, taken: Container[str]) -> str:
    while (name := f"{_STRANGER}{name}") in taken:
        pass
    return name
