"""A stream that remembers how it ended."""

from types import TracebackType
from typing import Protocol, Self, TypeVar

import anyio

T_co = TypeVar("T_co", covariant=True)


class Receiving(Protocol[T_co]):
    """What is read of the stream inside."""

    async def receive(self) -> T_co: ...
    async def aclose(self) -> None: ...


class WatchedStream:
    """Passes messages on, and knows that the other side ended before anyone sends to it.

    not_json: whether a message could not be parsed (such a message is an exception as a value).
    """

    def __init__(self, inner: Receiving[object]) -> None:
        self._inner = inner
        self.ended = False
        self.not_json = False

    async def receive(self) -> object:
        """Return the next message."""
        try:
            message = await self._inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self.ended = True
            raise
        self.not_json = self.not_json or isinstance(message, ValueError)
        return message

    async def aclose(self) -> None:
        """Close the stream inside."""
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
