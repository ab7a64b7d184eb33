"""`afx chat`: a conversation on a terminal, with the stages visible and approvals asked."""

import json
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from agentflux.contracts.tools import Step, ToolCall, ToolSpec
from agentflux.errors import AgentFluxError, Cancelled, ContextOverflow
from agentflux.orchestration.memory import Memory
from agentflux.ports import CancelToken
from agentflux.report import StagePrinter
from agentflux.session import Agent

HELP = (
    "Type a request. /tools lists the tools, /held those that changed, /accept SET TOOL takes one "
    "of them as it is now, /forget drops what was said, /quit ends. Ctrl-C stops a request."
)
_YES = ("y", "yes")


class Conversation:
    """Reads requests from one stream and shows runs on others, until it ends or /quit.

    Each request is told what was said and done before, as far as there is room; the reply to a
    question of the agent belongs to the request that it was asked about.
    """

    def __init__(
        self, agent: Agent, read: Callable[[str], str], notes: TextIO, stream: TextIO
    ) -> None:
        """Connect it. read: prompts for a line and returns it; raises EOFError at the end."""
        self._agent, self._read, self._notes = agent, read, notes
        self._stream = stream
        self._memory = Memory(context_tokens=agent.manifest.runtime.context_tokens)
        self._printer = StagePrinter(notes, stream=stream)
        self._cancel = CancelToken()
        self._shown: dict[tuple[str, str], str] = {}

    def hold(self, *, context: str = "") -> None:
        """Talk until the input ends."""
        self._note(HELP)
        asked, steps = "", tuple[Step, ...]()
        while (line := self._line("> ")) is not None:
            if line.startswith("/"):
                if line == "/quit":
                    return
                self._command(line.split())
            elif line:
                request = f"{asked}\n{line}" if asked else line
                asked, steps = self._serve(request, steps, context)

    def approve(self, call: ToolCall, tool: ToolSpec) -> bool:
        """Let what only reads pass; show every other call and ask."""
        if tool.read_only is True and tool.destructive is not True:
            return True
        shown = json.dumps(call.arguments, ensure_ascii=False, indent=2)
        self._note(f"  {call.tool_set}.{call.tool} wants to run with\n{shown}")
        try:
            with _ctrl_c(signal.default_int_handler):  # else the line is read on
                answer = self._read("  allow it? [y/N] ")
        except EOFError:
            return False
        except KeyboardInterrupt:
            self._cancel.cancel()
            return False
        return answer.strip().lower() in _YES

    def _serve(
        self, request: str, steps: Sequence[Step], context: str
    ) -> tuple[str, tuple[Step, ...]]:
        """Run a request; return what a reply to it would go on from."""
        try:
            self._cancel = CancelToken()
            with _ctrl_c(self._stop):  # native code is left between tokens
                result = self._agent.run(
                    request,
                    context=self._memory.after(context),
                    steps=steps,
                    approve=self.approve,
                    on_event=self._printer,
                    cancel=self._cancel,
                )
        except Cancelled:
            self._note("\n  stopped")
            return "", ()
        except AgentFluxError as error:
            self._note(f"\n  {type(error).__name__}: {error}")
            if isinstance(error, ContextOverflow):
                self._memory.forget()
                self._note("  what was said before is forgotten, to make room")
            return "", ()
        self._stream.write("\n")
        self._stream.flush()
        self._printer.summary(result)
        if result.stopped == "needs_input":
            return request, result.steps
        self._memory.add(request, result.steps, result.answer)
        return "", ()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._cancel.cancel()

    def _command(self, words: Sequence[str]) -> None:
        match words:
            case ["/tools"]:
                for name, tools in self._agent.catalog.items():
                    self._note(f"  {name}: {', '.join(tool.name for tool in tools)}")
            case ["/forget"]:
                self._memory.forget()
            case ["/held"]:
                for held in self._agent.held:
                    tool = held.tool
                    self._shown[tool.tool_set, tool.name] = held.sha256
                    told = f"{tool.tool_set} {tool.name}: changed since {held.since}"
                    self._note(f"  {told}; {_hints(tool)}; {tool.description}")
            case ["/accept", tool_set, name]:
                try:
                    shown = self._shown.get((tool_set, name))
                    self._agent.accept(tool_set, name, sha256=shown)
                except AgentFluxError as error:
                    self._note(f"  {error}")
            case _:
                self._note(HELP)

    def _line(self, prompt: str) -> str | None:
        try:
            return self._read(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            return None

    def _note(self, text: str) -> None:
        self._notes.write(text + "\n")
        self._notes.flush()


def _hints(tool: ToolSpec) -> str:
    """Tell what a tool says of itself, so that a changed hint is seen."""
    hints = (
        (tool.read_only, "reads only", "changes things"),
        (tool.destructive, "may destroy", "destroys nothing"),
        (tool.idempotent, "a repetition changes nothing", "a repetition does more"),
    )
    told = ", ".join(yes if hint else no for hint, yes, no in hints if hint is not None)
    return f"it says: {told or 'nothing of whether it changes things'}"


@contextmanager
def _ctrl_c(handler: Callable[[int, FrameType | None], object]) -> Generator[None]:
    """Handle Ctrl-C so meanwhile; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
