"""The native runtime in a process of its own: what it breaks costs one request.

A process that dies, or does not move on for `hang_s`, is ended; the request that it served raises
EngineDied, and the next one starts another process and computes the prefixes again that requests
had shared. Requests wait here for their turn, in the parent, so a queue survives a crash.
"""

import collections
import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from agentflux.engines import wire
from agentflux.engines.turns import Turns
from agentflux.errors import EngineDied, EngineError
from agentflux.ports import (
    CancelToken,
    Choosing,
    Completion,
    Generation,
    Scores,
    Segment,
)

HANG_S = 120.0
START_S = 120.0
_CANCEL_S = 10.0
_POLL_S = 0.05
_MOST_PREFIXES = 32
_STDERR_LINES = 5

OnText = Callable[[str], None]


class ProcessEngine:
    """Serves one bundle from a child process. See `agentflux.ports.Engine`."""

    def __init__(
        self,
        bundle: Path,
        *,
        threads: int | None = None,
        hang_s: float = HANG_S,
    ) -> None:
        """Start the process, which checks the bundle's files and loads the model.

        hang_s: how long the runtime may be silent within one request. Prefilling a full context
        takes seconds on a slow device, loading the model too.

        Raises:
            FileMismatch: a file is not the one that was exported.
            EngineError: the runtime cannot load the model.
        """
        self._command = [sys.executable, "-P", "-m", "agentflux.engines.worker"]
        self._command += [str(bundle.resolve()), str(threads or 0)]
        self.hang_s = hang_s
        self._turns = Turns()
        self._kept: collections.OrderedDict[tuple[Segment, ...], None] = collections.OrderedDict()
        self._number = 0
        self._closed = False
        self._child: _Child | None = _Child(self._command)

    def generate(
        self,
        request: Generation,
        *,
        on_text: OnText | None = None,
        cancel: CancelToken | None = None,
    ) -> Completion:
        """See `agentflux.ports.Engine`. Raises EngineDied, too."""
        return wire.completion_in(self._ask("generate", request, on_text, cancel))

    def choose(self, request: Choosing, *, cancel: CancelToken | None = None) -> Scores:
        """See `agentflux.ports.Engine`. Raises EngineDied, too."""
        return wire.scores_in(self._ask("choose", request, None, cancel))

    def close(self) -> None:
        """See `agentflux.ports.Engine`."""
        with self._turns.take():
            self._closed = True
            if self._child is not None:
                self._child.end()
            self._child = None

    @property
    def pid(self) -> int | None:
        """The process that serves now; None between a crash and the next request."""
        return self._child.pid if self._child is not None else None

    def _ask(
        self,
        what: str,
        request: Generation | Choosing,
        on_text: OnText | None,
        cancel: CancelToken | None,
    ) -> wire.Message:
        with self._turns.take(cancel):
            if self._closed:
                raise EngineError("the engine is closed")
            self._alive()
            done = self._exchange(what, request, on_text, cancel)
            self._remember(request.segments)
            return done

    def _alive(self) -> "_Child":
        """Return the process; start another in place of a dead one, with the prefixes of before."""
        if self._child is not None and self._child.running:
            return self._child
        self._child = _Child(self._command)
        for segments in list(self._kept):
            del self._kept[segments]  # one that breaks the runtime is not tried again
            self._exchange("generate", Generation(segments=segments, max_tokens=1), None, None)
            self._kept[segments] = None
        return self._child

    def _exchange(
        self,
        what: str,
        request: Generation | Choosing,
        on_text: OnText | None,
        cancel: CancelToken | None,
    ) -> wire.Message:
        child = self._child
        assert child is not None
        self._number += 1
        settled = False
        try:
            asked = {"request": wire.request_out(request), "stream": on_text is not None}
            child.send({"id": self._number, "do": what, **asked})
            message = self._answer(child, on_text, cancel)
            settled = True
        except EngineDied:
            child.kill()
            self._child, settled = None, True
            threading.Thread(target=self._revive, name="agentflux revive", daemon=True).start()
            raise
        finally:
            if not settled:  # the caller was interrupted: nobody wants the answer any more
                with contextlib.suppress(EngineDied):
                    child.send({"id": self._number, "do": "cancel"})
        if "error" in message:
            raise wire.error_in(message["error"])
        return dict(message["done"])

    def _revive(self) -> None:
        """Have another process ready before the next request comes."""
        with contextlib.suppress(EngineError), self._turns.take():
            if not self._closed:
                self._alive()

    def _answer(
        self, child: "_Child", on_text: OnText | None, cancel: CancelToken | None
    ) -> wire.Message:
        """Wait for the end of the request, within the limits of silence."""
        silent, limit, told = 0.0, self.hang_s, False
        while True:
            message = child.receive(_POLL_S)
            if message is None:
                silent += _POLL_S
                if silent >= limit:
                    raise EngineDied(f"the runtime's process did not move for {limit:g} s")
            elif message.get("id") == self._number:
                silent = 0.0
                if "text" not in message:
                    return message
                if on_text is not None and not told:
                    on_text(message["text"])
            if cancel is not None and cancel.cancelled and not told:
                child.send({"id": self._number, "do": "cancel"})
                told, silent, limit = True, 0.0, min(limit, _CANCEL_S)

    def _remember(self, segments: Sequence[Segment]) -> None:
        last = max((i for i, segment in enumerate(segments) if segment.keep), default=-1)
        if last < 0:
            return
        kept = tuple(segments[: last + 1])
        self._kept[kept] = None
        self._kept.move_to_end(kept)
        while len(self._kept) > _MOST_PREFIXES:
            self._kept.popitem(last=False)


class _Child:
    """One process and its pipes."""

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=sys.platform != "win32",  # Ctrl-C is for the parent
            )
        except OSError as error:
            raise EngineError("the runtime's process cannot start", native=str(error)) from error
        self._messages: queue.SimpleQueue[wire.Message | None] = queue.SimpleQueue()
        self._said: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self._start(self._read, self._process.stdout)
        self._start(self._listen, self._process.stderr)
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, message: wire.Message) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(wire.packed(message))
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def receive(self, timeout_s: float) -> wire.Message | None:
        """Return the next message, or None when there is none in time.

        Raises:
            EngineDied: the process has ended.
        """
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if message is None:
            raise self._died()
        return message

    def end(self) -> None:
        """Let it end by itself, then kill it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _await_ready(self) -> None:
        message = self.receive(START_S)
        if message is None:
            raise EngineDied(f"the runtime's process was not ready within {START_S:g} s")
        if "error" in message:
            raise wire.error_in(message["error"])

    def _died(self) -> EngineDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        how = self._process.returncode
        told = f"signal {-how}" if how is not None and how < 0 else f"exit status {how}"
        return EngineDied(
            f"the runtime's process ended ({told}) during a request; another one is started",
            native="\n".join(self._said),
        )

    def _start(self, work: Callable[[IO[bytes]], None], stream: IO[bytes] | None) -> None:
        threading.Thread(target=work, args=(stream,), name="agentflux runtime", daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                try:
                    message: Any = json.loads(line)
                except ValueError:
                    break
                self._messages.put(message)
        self._messages.put(None)

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._said.append(line.decode("utf-8", "replace").rstrip())
