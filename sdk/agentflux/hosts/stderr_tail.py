"""The last bytes that a child process wrote to its standard error, kept in memory."""

import os
import threading
from typing import TextIO

_KEPT_BYTES = 8192


class StderrTail:
    """A pipe whose write end goes to the child and whose read end is drained on a thread."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._lock = threading.Lock()
        read_end, write_end = os.pipe()
        self.sink: TextIO = os.fdopen(write_end, "w", encoding="utf-8")
        self._thread = threading.Thread(
            target=self._drain, args=(read_end,), name="agentflux-stderr", daemon=True
        )
        self._thread.start()

    def lines(self, count: int, *, wait_s: float = 0.0) -> list[str]:
        """Return the last lines; wait so long for the child's end to be read."""
        self._thread.join(wait_s)
        with self._lock:
            text = self._kept.decode("utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()][-count:]

    def _drain(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb", buffering=0) as stream:
            while chunk := stream.read(4096):
                with self._lock:
                    self._kept += chunk
                    del self._kept[:-_KEPT_BYTES]
