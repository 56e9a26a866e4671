"""The streams that are open now: how many there are, and how all of them end."""

import asyncio
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

__all__ = ["LiveStreams", "OpenStream"]

LAST_WORDS = 1.0
"""Seconds a stream has to take its goodbye before its connection is cut."""


class OpenStream:
    """One client being served: can be asked to end, and can be cut off."""

    def __init__(self, *, peer: str, wake: Callable[[], None], cut: Callable[[], None]) -> None:
        self.peer = peer
        self.closing = False
        self.done = asyncio.Event()
        self._wake = wake
        self.cut = cut

    def close(self) -> None:
        """Ask the stream to say goodbye and end."""
        self.closing = True
        self._wake()


class LiveStreams:
    """Every open stream. Without an end in order, shutting down waits for every browser that is still there."""

    def __init__(self) -> None:
        self._open: set[OpenStream] = set()
        self._peers: Counter[str] = Counter()
        self.closing = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenStream]:
        return iter(tuple(self._open))

    def of(self, peer: str) -> int:
        """How many streams the client at this address has open."""
        return self._peers[peer]

    @contextmanager
    def opened(self, stream: OpenStream) -> Generator[None]:
        """Count *stream* in until it has ended."""
        self._open.add(stream)
        self._peers[stream.peer] += 1
        try:
            yield
        finally:
            self._open.discard(stream)
            self._peers[stream.peer] -= 1
            if not self._peers[stream.peer]:
                del self._peers[stream.peer]
            stream.done.set()

    async def close(self) -> None:
        """End every stream: the willing with a goodbye, the rest by cutting the connection after LAST_WORDS seconds."""
        self.closing = True
        streams = list(self)
        for stream in streams:
            stream.close()
        try:
            async with asyncio.timeout(LAST_WORDS):
                for stream in streams:
                    await stream.done.wait()
        except TimeoutError:
            for stream in self:
                stream.cut()
