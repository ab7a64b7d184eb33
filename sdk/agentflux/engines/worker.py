"""The runtime's own process: `python -m agentflux.engines.worker BUNDLE THREADS`.

Serves requests from stdin one after another; `cancel` and the end of stdin are heard at once.
"""

import contextlib
import json
import os
import queue
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from agentflux.contracts.bundle import read_manifest
from agentflux.engines import wire
from agentflux.errors import AgentFluxError
from agentflux.ports import CancelToken, Engine

SIGN_OF_LIFE_S = 1.0  # every message wakes two processes that share cores with the runtime


class _Worker:
    def __init__(self, engine: Engine, out: BinaryIO) -> None:
        self._engine, self._out = engine, out
        self._requests: queue.SimpleQueue[wire.Message | None] = queue.SimpleQueue()
        self._cancels: dict[int, CancelToken] = {}

    def listen(self, source: BinaryIO) -> None:
        """Queue requests; apply cancellations. The end of the stream ends the process."""
        for line in source:
            message = json.loads(line)
            if message["do"] == "cancel":
                if (cancel := self._cancels.get(message["id"])) is not None:
                    cancel.cancel()
                continue
            self._cancels[message["id"]] = CancelToken()
            self._requests.put(message)
        for cancel in list(self._cancels.values()):
            cancel.cancel()
        self._requests.put(None)

    def serve(self) -> None:
        while (message := self._requests.get()) is not None:
            number = message["id"]
            try:
                self._send(id=number, done=self._done(message))
            except AgentFluxError as error:
                self._send(id=number, error=wire.error_out(error))
            finally:
                self._cancels.pop(number, None)

    def _done(self, message: wire.Message) -> wire.Message:
        number, cancel = message["id"], self._cancels[message["id"]]
        if message["do"] == "choose":
            wanted = wire.choosing_in(message["request"])
            return asdict(self._engine.choose(wanted, cancel=cancel))
        request = wire.generation_in(message["request"])

        told = time.monotonic()

        def pass_on(text: str) -> None:
            nonlocal told
            if message["stream"] or time.monotonic() - told >= SIGN_OF_LIFE_S:
                told = time.monotonic()
                self._send(id=number, text=text)

        return asdict(self._engine.generate(request, on_text=pass_on, cancel=cancel))

    def _send(self, **message: object) -> None:
        self._out.write(wire.packed(message))
        self._out.flush()


def main(bundle: str, threads: str) -> None:
    """Load the bundle, say so, serve until stdin ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints must not stand between messages
    try:
        from agentflux.engines.ort import OrtEngine

        folder = Path(bundle)
        engine = OrtEngine(folder, read_manifest(folder), threads=int(threads) or None)
    except AgentFluxError as error:
        out.write(wire.packed({"error": wire.error_out(error)}))
        out.flush()
        return
    out.write(wire.packed({"ready": True}))
    out.flush()
    worker = _Worker(engine, out)
    threading.Thread(target=worker.listen, args=(sys.stdin.buffer,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        worker.serve()
    os._exit(0)  # native threads of the runtime may not end by themselves


if __name__ == "__main__":
    main(*sys.argv[1:])
