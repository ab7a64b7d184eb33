"""Connections that say nothing, or say it slowly, are closed.

uvicorn itself has a limit only for the silence between two requests.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def patient(seconds: float) -> type[H11Protocol]:
    """Return a protocol that closes a connection whose request takes longer than that to begin.

    Counted from the connection's begin, or from the request's first byte, to the end of its
    headers. The gate limits the body. What follows an early refusal counts as the next request.
    """

    class PatientProtocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._begin()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._end()
            elif self._deadline is None:
                self._begin()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end()
            super().connection_lost(exc)

        def _begin(self) -> None:
            self._deadline = self.loop.call_later(seconds, self._give_up)

        def _end(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self.transport.close()

    return PatientProtocol
