"""A host that answers from a script, for tests of code that uses tools.

```python
host = ScriptedHost({"mail.send": "sent", "files.read": ["first", failed("no such file")]})
agent = agentflux.open_bundle(path, tools=[host])
agent.run("Send it")
assert host.calls[0].arguments == {"to": "Ada"}
```
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agentflux.contracts.tools import Arguments, ToolCall, ToolResult, ToolSpec
from agentflux.errors import AgentFluxError, ConfigError
from agentflux.hosts.results import failed, timed_out, unknown_tool, unknown_tool_set


@dataclass(frozen=True, slots=True)
class Slow:
    """An answer that would take this long. Nothing waits: a shorter limit gives a time-out."""

    seconds: float
    text: str = ""


OneAnswer = str | ToolResult | Slow | AgentFluxError | Callable[[Arguments], str | ToolResult]
Answer = OneAnswer | list[OneAnswer]


class ScriptedHost:
    """Gives canned answers and records every call in `calls`.

    answers: by "tool_set.tool". Text or a result is returned, an error raised, a function called
    with the arguments. A list is used up from its start, one answer a call.
    tools: what `list_tools` returns; without it, one tool without description for each answer.
    """

    def __init__(
        self, answers: Mapping[str, Answer], *, tools: Sequence[ToolSpec] | None = None
    ) -> None:
        self.calls: list[ToolCall] = []
        self.closed = False
        self._single: dict[str, OneAnswer] = {}
        self._lists: dict[str, list[OneAnswer]] = {}
        for key, answer in answers.items():
            if isinstance(answer, list):
                self._lists[key] = answer.copy()
            else:
                self._single[key] = answer
        self._tools = tuple(tools if tools is not None else map(_bare_tool, answers))

    def list_tools(self) -> Sequence[ToolSpec]:
        """Return the tools of the script."""
        return self._tools

    def call(self, call: ToolCall, *, timeout_s: float) -> ToolResult:
        """Record the call and return its next answer.

        Raises:
            AgentFluxError: the script holds an error as the answer.
        """
        self.calls.append(call)
        names = [tool.name for tool in self._tools if tool.tool_set == call.tool_set]
        if not names:
            return unknown_tool_set(call, available={tool.tool_set for tool in self._tools})
        if call.tool not in names:
            return unknown_tool(call, available=names)
        return self._play(call, timeout_s)

    def close(self) -> None:
        """Remember that it was closed, in `closed`."""
        self.closed = True

    def _play(self, call: ToolCall, timeout_s: float) -> ToolResult:
        answer = self._next(f"{call.tool_set}.{call.tool}")
        if isinstance(answer, AgentFluxError):
            raise answer
        if isinstance(answer, Slow):
            late = answer.seconds > timeout_s
            return timed_out(call, timeout_s=timeout_s) if late else ToolResult(text=answer.text)
        given = answer if isinstance(answer, str | ToolResult) else answer(call.arguments)
        return given if isinstance(given, ToolResult) else ToolResult(text=given)

    def _next(self, key: str) -> OneAnswer:
        if key in self._single:
            return self._single[key]
        left = self._lists.get(key)
        return left.pop(0) if left else failed(f"the script has no more answers for {key!r}")


def _bare_tool(key: str) -> ToolSpec:
    tool_set, dot, name = key.partition(".")
    if not (tool_set and dot and name):
        raise ConfigError(f"a script's key is 'tool_set.tool', not {key!r}", where="ScriptedHost")
    return ToolSpec(tool_set=tool_set, name=name, input_schema={"type": "object"})
