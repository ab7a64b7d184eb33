"""Functions of a request as tools of tool sets, and back.

OpenAI's functions have flat names. The set is read from the name (`set__tool`, as MCP clients
write it), or known from the bundle's own catalog; what is left is the set `functions`. So tools
that the bundle was trained for get their adapters, and unknown ones the nearest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agentflux import ToolSpec, errors
from edge_service.openai_api.schema import AllowedToolsChoice, NamedTool, Tool, ToolChoice
from edge_service.problems import Problem

OTHERS = "functions"


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tools that may be called now. required: one of them must be."""

    specs: tuple[ToolSpec, ...]
    required: bool
    wire: Mapping[tuple[str, str], str]

    def wire_name(self, tool_set: str, tool: str) -> str:
        """Return the function's name in the request."""
        return self.wire[(tool_set, tool)]


class ToolNames:
    """Knows which tool set a function belongs to."""

    def __init__(self, catalog: Iterable[tuple[str, str]]) -> None:
        """catalog: (tool_set, tool) of the bundle. Names of two sets say nothing."""
        pairs = list(catalog)
        count = Counter(tool for _, tool in pairs)
        self._sets = {tool: tool_set for tool_set, tool in pairs if count[tool] == 1}
        self._pairs = frozenset(pairs)

    def split(self, name: str) -> tuple[str, str]:
        """Return (tool set, tool) of a function's name."""
        if name in self._sets:
            return self._sets[name], name
        left, mark, tool = name.rpartition("__")
        if mark and left and tool:
            return left.rpartition("__")[2] or left, tool
        for tool_set, tool in self._pairs:
            if name in (f"{tool_set}_{tool}", f"{tool_set}-{tool}", f"{tool_set}.{tool}"):
                return tool_set, tool
        return OTHERS, name

    def candidates(self, tools: Sequence[Tool], choice: ToolChoice | None) -> Candidates | None:
        """Read `tools` and `tool_choice`. None: no tool is to be called.

        Raises:
            Problem: a name stands twice, the choice names a function that is not there, or a
                function's parameters are no schema of an object.
        """
        names = [tool.function.name for tool in tools]
        if doubled := [name for name, times in Counter(names).items() if times > 1]:
            raise Problem(
                400, f"the function {doubled[0]!r} stands twice", "invalid_value", "tools"
            )
        wanted, required = _chosen(choice, names)
        if not wanted:
            return None
        wire: dict[tuple[str, str], str] = {}
        specs: list[ToolSpec] = []
        for tool in tools:
            if tool.function.name not in wanted:
                continue
            pair = self.split(tool.function.name)
            if pair in wire:
                pair = (OTHERS, tool.function.name)
            if pair in wire:
                text = f"{wire[pair]!r} and {tool.function.name!r} are one tool's names"
                raise Problem(400, text, "invalid_value", "tools")
            wire[pair] = tool.function.name
            specs.append(_spec(pair, tool))
        return Candidates(tuple(specs), required, wire)


def _spec(pair: tuple[str, str], tool: Tool) -> ToolSpec:
    given = tool.function.parameters or {"type": "object", "properties": {}}
    # Typed clients write what they leave out as null, which the grammar would not take.
    schema = {key: value for key, value in given.items() if value is not None}
    text = f"parameters of {tool.function.name!r} must be a schema of an object"
    refused = Problem(400, text, "invalid_value", "tools")
    if schema.get("type", "object") != "object":
        raise refused
    try:
        return ToolSpec(
            tool_set=pair[0],
            name=pair[1],
            description=tool.function.description or "",
            input_schema=schema,
        )
    except errors.ConfigError as error:
        raise refused from error


def _chosen(choice: ToolChoice | None, names: Sequence[str]) -> tuple[set[str], bool]:
    """Return the functions that may be called, and whether one must be."""
    if isinstance(choice, NamedTool):
        return _known({choice.function.name}, names), True
    if isinstance(choice, AllowedToolsChoice):
        allowed = {tool.function.name for tool in choice.allowed_tools.tools}
        return _known(allowed, names), choice.allowed_tools.mode == "required"
    if choice == "required" and not names:
        raise Problem(400, "tool_choice needs tools", "invalid_value", "tool_choice")
    return (set() if choice == "none" else set(names)), choice == "required"


def _known(wanted: set[str], names: Sequence[str]) -> set[str]:
    if missing := sorted(wanted - set(names)):
        text = f"tool_choice names {missing[0]!r}, which is not in tools"
        raise Problem(400, text, "invalid_value", "tool_choice")
    return wanted
