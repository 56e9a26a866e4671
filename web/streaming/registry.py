"""The streams that are open now: how many there are, how each is renewed in time, and how all of them end."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import Final

__all__ = ["LiveStreams", "OpenStream"]

LAST_WORDS: Final = 1.0
"""Seconds a stream has to take its goodbye before its connection is cut."""

LOOKS_AN_AGE: Final = 100
"""How often within the age that a stream may reach it is looked who has reached it: one timer for all of them."""

LEAST_PAUSE: Final = 0.05


class OpenStream(ABC):
    """One client being served: can be asked to end, and can be cut off. Small, for there may be ten thousand."""

    __slots__ = ("_done", "_over", "closing", "expires", "peer")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.closing = False
        self.expires = 0.0
        self._over = False
        self._done: asyncio.Event | None = None

    @property
    def done(self) -> asyncio.Event:
        """Set when the stream has ended. Made for who asks: an event takes more memory than all else of a stream."""
        if self._done is None:
            self._done = asyncio.Event()
            if self._over:
                self._done.set()
        return self._done

    def ended(self) -> None:
        """The stream has ended: let those know who wait for it."""
        self._over = True
        if self._done is not None:
            self._done.set()

    @abstractmethod
    def close(self) -> None:
        """Ask the stream to say goodbye and end."""

    @abstractmethod
    def wake(self) -> None:
        """Have it look whether there is something to do for its client alone."""

    @abstractmethod
    def cut(self) -> None:
        """Break the connection, without another word."""


class LiveStreams:
    """Every open stream. Without an end in order, shutting down waits for every browser that is still there."""

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._open: set[OpenStream] = set()
        self._peers: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self.closing = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenStream]:
        return iter(tuple(self._open))

    def of(self, peer: str) -> int:
        """How many streams the client at this address has open."""
        return self._peers[peer]

    def add(self, stream: OpenStream) -> None:
        """Count *stream* in, until it is removed."""
        self._open.add(stream)
        self._peers[stream.peer] += 1
        age = self._max_age * random.uniform(0.8, 1.2)  # noqa: S311
        stream.expires = asyncio.get_running_loop().time() + age
        if self._timer is None:
            self._look_later()

    def remove(self, stream: OpenStream) -> None:
        """*stream* has ended. Removing it twice does nothing."""
        if stream not in self._open:
            return
        self._open.discard(stream)
        self._peers[stream.peer] -= 1
        if not self._peers[stream.peer]:
            del self._peers[stream.peer]
        stream.ended()
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """End every stream: the willing with a goodbye, the rest by cutting the connection after LAST_WORDS seconds."""
        self.closing = True
        for stream in self:
            stream.close()
        if not await self._all_ended():
            for stream in self:
                stream.cut()
            await self._all_ended()

    async def _all_ended(self) -> bool:
        try:
            async with asyncio.timeout(LAST_WORDS):
                while self._open:
                    await next(iter(self._open)).done.wait()
        except TimeoutError:
            return False
        return True

    def _look_later(self) -> None:
        pause = max(self._max_age / LOOKS_AN_AGE, LEAST_PAUSE)
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for stream in self:
            if stream.expires <= now:
                stream.wake()
        self._look_later()
