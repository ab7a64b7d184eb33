"""A run's journal: an append-only file of JSON lines, each on disk before the run goes on.

```
run_started    request, context, steps that the run began with
approval       a call and what a person (or a rule that stands for one) said to it
call_started   the call is about to leave; written before it does
call_finished  its observation
run_ended      answer and reason
```

A process can be killed at any moment: whoever opens the file next knows which calls answered, and
whether one was on its way. A torn last line is cut off. Every `call_started` reserves room for a
short answer, so a disk that is full afterwards cannot lose the fact that the call answered.
The file holds arguments and observations in clear text and is readable by its owner only.
"""

import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agentflux.contracts.prompts import Situation
from agentflux.contracts.tools import Step, ToolCall, ToolSpec
from agentflux.errors import JournalError
from agentflux.orchestration.results import Stopped

VERSION = 1
CUT_NOTE = "[the disk was full; the answer's text was not kept]"
OUTCOME_UNKNOWN = (
    "The program stopped while this call was on its way. Its outcome is unknown. "
    "It was not repeated."
)
_RESERVED_BYTES = 1024
_BEGINNING = b'{"type": "run_started"'  # of every journal


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Call(_Record):
    tool_set: str
    tool: str
    arguments: dict[str, Any]

    @classmethod
    def of(cls, call: ToolCall) -> Self:
        return cls(tool_set=call.tool_set, tool=call.tool, arguments=dict(call.arguments))

    def call(self) -> ToolCall:
        return ToolCall(tool_set=self.tool_set, tool=self.tool, arguments=self.arguments)


class _Step(_Record):
    call: _Call
    observation: str
    is_error: bool

    @classmethod
    def of(cls, step: Step) -> Self:
        return cls(call=_Call.of(step.call), observation=step.observation, is_error=step.is_error)

    def step(self) -> Step:
        return Step(call=self.call.call(), observation=self.observation, is_error=self.is_error)


class _RunStarted(_Record):
    type: Literal["run_started"] = "run_started"
    version: int = VERSION
    request: str
    context: str
    steps: tuple[_Step, ...]
    at: str


class _Approval(_Record):
    type: Literal["approval"] = "approval"
    call: _Call
    tool_sha256: str
    approved: bool
    at: str


class _CallStarted(_Record):
    type: Literal["call_started"] = "call_started"
    call: _Call
    tool_sha256: str
    repeatable: bool
    at: str


class _CallFinished(_Record):
    """call: only where no `call_started` precedes it (the call was never sent).

    written: false where the arguments could not be written.
    """

    type: Literal["call_finished"] = "call_finished"
    written: bool = True
    call: _Call | None = None
    observation: str
    is_error: bool
    at: str


class _RunEnded(_Record):
    type: Literal["run_ended"] = "run_ended"
    stopped: Stopped
    answer: str
    at: str


_AnyRecord = _RunStarted | _Approval | _CallStarted | _CallFinished | _RunEnded
_RECORD: TypeAdapter[_AnyRecord] = TypeAdapter(Annotated[_AnyRecord, Field(discriminator="type")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A call that left without an answer on record. repeatable: its tool said that it may be."""

    call: ToolCall
    tool_sha256: str
    repeatable: bool

    def may_repeat(self, tool: ToolSpec | None) -> bool:
        """Whether the tool is the one that was called, and both then and now says it is safe."""
        if tool is None or tool.sha256 != self.tool_sha256:
            return False
        return self.repeatable and tool.repeatable


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the run ended."""

    stopped: Stopped
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a journal says about its run.

    `start.steps`: all steps that are done. unwritten: those of them that lack arguments.
    """

    start: Situation
    unwritten: tuple[Step, ...] = ()
    unanswered: Unanswered | None = None
    ended: Ended | None = None


class Journal:
    """One run's journal, open for writing. Close it, or use it in a `with` block.

    Raises:
        JournalError: the file cannot be opened, is damaged before its last line, or another
            process writes to it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            records, self._end = _read(self.path, self._file.read())
            self._records = _checked(self.path, records)
        except BaseException:
            self._file.close()
            raise

    @property
    def recording(self) -> Recording | None:
        """The run so far; None where the file holds none yet."""
        return _replay(self._records)

    def begin(self, start: Situation) -> Recording:
        """Record a new run, or return the recording of the same, interrupted one.

        Raises:
            JournalError: the file holds another request, or cannot be written.
        """
        found = self.recording
        if found is None:
            steps = tuple(_Step.of(step) for step in start.steps)
            self._append(
                _RunStarted(request=start.request, context=start.context, steps=steps, at=_now())
            )
            return Recording(start=start)
        if (found.start.request, found.start.context) != (start.request, start.context):
            raise JournalError(self.path, "holds the run of another request or context")
        return found

    def approval(self, call: ToolCall, tool: ToolSpec) -> bool | None:
        """Return what was said to this very call of this very tool before; None: not asked yet."""
        for record in reversed(self._records):
            if not isinstance(record, _Approval):
                return None
            if record.call.call() == call and record.tool_sha256 == tool.sha256:
                return record.approved
        return None

    def approved(self, call: ToolCall, tool: ToolSpec, *, approved: bool) -> None:
        """Record what was said to a call. Raises JournalError."""
        self._append(
            _Approval(call=_Call.of(call), tool_sha256=tool.sha256, approved=approved, at=_now())
        )

    def started(self, call: ToolCall, tool: ToolSpec) -> None:
        """Record that the call is about to leave. Raises JournalError: then do not send it."""
        record = _CallStarted(
            call=_Call.of(call),
            tool_sha256=tool.sha256,
            repeatable=tool.repeatable,
            at=_now(),
        )
        self._append(record, reserve=_RESERVED_BYTES)

    def finished(self, step: Step, *, written: bool = True) -> None:
        """Record a step's end. On a full disk the observation's text gives way to a note.

        written: its arguments could be written.

        Raises:
            JournalError: it cannot be written at all.
        """
        sent = bool(self._records) and isinstance(self._records[-1], _CallStarted)
        record = _CallFinished(
            call=None if sent else _Call.of(step.call),
            written=written,
            observation=step.observation,
            is_error=step.is_error,
            at=_now(),
        )
        try:
            self._append(record, cut_on_failure=not sent)
        except JournalError:
            if not sent:
                raise
            self._append(record.model_copy(update={"observation": CUT_NOTE}))

    def ended(self, stopped: Stopped, answer: str) -> None:
        """Record the run's end. Raises JournalError."""
        self._append(_RunEnded(stopped=stopped, answer=answer, at=_now()))

    def close(self) -> None:
        """Close the file and give up its lock."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, record: _AnyRecord, *, reserve: int = 0, cut_on_failure: bool = True) -> None:
        """Write the record over the blank tail, on disk when this returns.

        cut_on_failure: give up the blank tail, too, so that nothing half-written stays.
        """
        line = (json.dumps(record.model_dump(mode="python")) + "\n").encode()
        try:
            size = self._file.seek(0, os.SEEK_END)
            blank = max(size - self._end - len(line), reserve)
            self._file.seek(self._end)
            _write(self._file, line + b" " * (blank - 1) + b"\n" * (blank > 0))
            os.fsync(self._file.fileno())
        except OSError as error:
            if cut_on_failure:
                os.ftruncate(self._file.fileno(), self._end)
            reason = f"cannot be written: {error.strerror or error}"
            raise JournalError(self.path, reason) from error
        self._end += len(line)
        self._records.append(record)


def _open(path: Path) -> FileIO:
    """Open for reading and writing, unbuffered, locked; the folder's entry is on disk, too."""
    try:
        fresh = not path.exists()
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        file = FileIO(os.open(path, flags, 0o600), "r+")
        try:
            _lock(path, file.fileno())
            if fresh and sys.platform != "win32":
                _sync_folder(path.parent)
        except BaseException:
            file.close()
            raise
        return file
    except OSError as error:
        raise JournalError(path, f"cannot be opened: {error.strerror or error}") from error


def _lock(path: Path, descriptor: int) -> None:
    """Keep a second writer away. Windows refuses nothing here: give each run its own file."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalError(path, "is being written by another run") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(file: FileIO, data: bytes) -> None:
    """Write all of it: an unbuffered file may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def _read(path: Path, data: bytes) -> tuple[list[_AnyRecord], int]:
    """Return the whole records and where they end. What follows is blank or torn."""
    records: list[_AnyRecord] = []
    end = position = 0
    lines = data.rstrip(b" \n\0").split(b"\n")
    for number, line in enumerate(lines, start=1):
        position += len(line) + 1
        last = number == len(lines)
        torn = last and data[position - 1 : position] != b"\n"
        if torn and not records and not line.startswith(_BEGINNING[: len(line)]):
            raise JournalError(path, "is no journal; it stays as it is")
        if not line or torn:
            break
        try:
            records.append(_RECORD.validate_python(json.loads(line)))
        except (ValueError, ValidationError) as error:
            if last and records:
                break
            raise JournalError(path, f"line {number} is damaged") from error
        end = position
    return records, end


def _checked(path: Path, records: list[_AnyRecord]) -> list[_AnyRecord]:
    if records and not isinstance(records[0], _RunStarted):
        raise JournalError(path, "does not begin with a run")
    if records and isinstance(records[0], _RunStarted) and records[0].version != VERSION:
        raise JournalError(path, f"was written by another version ({records[0].version})")
    return records


def _replay(records: list[_AnyRecord]) -> Recording | None:
    if not records or not isinstance(records[0], _RunStarted):
        return None
    first = records[0]
    steps = [step.step() for step in first.steps]
    unwritten: list[Step] = []
    unanswered: Unanswered | None = None
    ended: Ended | None = None
    for record in records[1:]:
        if isinstance(record, _CallStarted):
            unanswered = Unanswered(
                call=record.call.call(),
                tool_sha256=record.tool_sha256,
                repeatable=record.repeatable,
            )
        elif isinstance(record, _CallFinished):
            sent = unanswered.call if unanswered is not None else None
            call = record.call.call() if record.call is not None else sent
            if call is not None:
                steps.append(
                    Step(call=call, observation=record.observation, is_error=record.is_error)
                )
                unwritten += [] if record.written else steps[-1:]
            unanswered = None
        elif isinstance(record, _RunEnded):
            ended = Ended(stopped=record.stopped, answer=record.answer)
    start = Situation(request=first.request, context=first.context, steps=tuple(steps))
    return Recording(start=start, unwritten=tuple(unwritten), unanswered=unanswered, ended=ended)


def _now() -> str:
    """Return the wall clock for readers of the file; nothing is decided by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
