"""The open streams: their number, their renewal, and their end at shutdown."""

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, get_args

from relay.notices import apart
from web.access.access import ANYBODY, Access
from web.streaming.patience import ClientWaits

__all__ = ["STREAM_STATES", "OpenStream", "StreamCounts", "StreamRegistry", "StreamState"]

StreamState: TypeAlias = Literal["live", "catching-up", "slow"]
"""A stream is live once it is up to date, catching up until then, and slow while its client reads too little."""

STREAM_STATES: Final[tuple[StreamState, ...]] = get_args(StreamState)

CLOSE_WITHIN: Final = 1.0
"""Seconds a client has to read `bye` before its connection is aborted."""

EXPIRY_CHECKS: Final = 100
"""How many times per `max_age` expired streams are looked for; one timer serves all streams."""

LEAST_PAUSE: Final = 0.05

STEPS: Final = 10
"""How many times per check streams expire: each such time is one number in memory, however many streams it is for."""

EXPIRING_BEFORE: Final = 60.0
"""Seconds before the end of an access at which its client is notified, so that it may get another one."""

END_CHECK: Final = 1.0
CUT_AFTER: Final = 3.0
"""Seconds that a client has to read that its access has ended; with END_CHECK, nothing is sent after 5 s."""


class StreamCounts:
    """What happened to streams since the start."""

    def __init__(self) -> None:
        self.opened: int = 0
        self.refused: int = 0
        self.skipped: int = 0
        self.gaps: int = 0


class OpenStream(ABC):
    """One stream, which can be closed or cut. It is small, since there may be ten thousand."""

    __slots__ = ("_done", "_over", "_warned", "access", "access_ends", "closing", "expires", "peer", "why_denied")

    def __init__(self, peer: str, access: Access = ANYBODY, now: Callable[[], float] = time.time) -> None:
        """*now* is the time in seconds since 1970, in which *access* says when it ends."""
        self.peer: str = peer
        self.access: Access = access
        self.access_ends: float = math.inf
        self.why_denied: str = "the access to this stream has expired"
        if access.expires is not None:
            self.access_ends = asyncio.get_running_loop().time() + access.expires - now()
        self._warned = False
        self.closing: bool = False
        self.expires: float = 0.0
        self._over = False
        self._done: asyncio.Event | None = None

    @property
    def done(self) -> asyncio.Event:
        """Set when the stream has ended. Made on first use: an event needs more memory than the rest of a stream."""
        if self._done is None:
            self._done = asyncio.Event()
            if self._over:
                self._done.set()
        return self._done

    def ended(self) -> None:
        """Mark the stream as ended, and wake all that wait for it."""
        self._over = True
        if self._done is not None:
            self._done.set()

    @property
    def state(self) -> StreamState:
        """What the stream is doing."""
        return "catching-up"

    @property
    def access_ended(self) -> bool:
        """Whether nothing more may be sent, since the access has ended."""
        return self.access_ends < math.inf and asyncio.get_running_loop().time() >= self.access_ends

    def end_is_due(self, now: float) -> bool:
        """Whether there is something to be sent about the end of the access."""
        return now >= self.access_ends or (not self._warned and now >= self.access_ends - EXPIRING_BEFORE)

    def expiring(self) -> dict[str, Any] | None:
        """The content of the notice `expiring`, once, when it is due."""
        if self._warned or self.access_ends - asyncio.get_running_loop().time() > EXPIRING_BEFORE:
            return None
        self._warned = True
        end = self.access.expires
        return {"expires": datetime.fromtimestamp(end, UTC).isoformat().replace("+00:00", "Z") if end else None}

    def withdraw(self) -> None:
        """End the access at once: it was withdrawn."""
        self.access_ends = asyncio.get_running_loop().time()
        self.why_denied = "the access to this stream was withdrawn"

    @abstractmethod
    def close(self) -> None:
        """Send `bye` and end."""

    @abstractmethod
    def wake(self) -> None:
        """Wake the stream so that it checks for client-specific work."""

    @abstractmethod
    def cut(self) -> None:
        """Abort the connection without sending anything."""


class StreamRegistry:
    """Every open stream. Without an orderly end, shutdown waits for every browser that is still connected."""

    def __init__(self, max_age: float, waits: ClientWaits) -> None:
        self._max_age = max_age
        self._waits = waits
        self._open: dict[OpenStream, None] = {}  # half as large as a set
        self._expiries: dict[float, float] = {}
        self._peers: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[OpenStream] = set()
        self._denied: set[OpenStream] = set()
        self._ending_timer: asyncio.TimerHandle | None = None
        self.closing: bool = False
        self.counts: StreamCounts = StreamCounts()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenStream]:
        return iter(tuple(self._open))

    def of(self, peer: str) -> int:
        """The number of streams that this client has open."""
        return self._peers[peer]

    def add(self, stream: OpenStream) -> None:
        """Register *stream* until it is removed, and set when it expires."""
        self._open[stream] = None
        self._peers[stream.peer] += 1
        self.counts.opened += 1
        age = min(self._max_age, stream.access.renew or self._max_age) * random.uniform(0.8, 1.2)  # noqa: S311
        stream.expires = self._expiry(asyncio.get_running_loop().time() + age)
        if self._timer is None:
            self._schedule_expiry()
        if stream.access_ends < math.inf:
            self._watch_end(stream)

    def withdraw(self, withdrawn: Callable[[Access], bool]) -> None:
        """End the streams whose access was *withdrawn*."""
        for stream in self:
            if withdrawn(stream.access):
                stream.withdraw()
                self._watch_end(stream)
                apart(stream.wake, "the end of a stream")

    def remove(self, stream: OpenStream) -> None:
        """Unregister *stream*, which has ended. Idempotent."""
        if stream not in self._open:
            return
        del self._open[stream]
        self._peers[stream.peer] -= 1
        if not self._peers[stream.peer]:
            del self._peers[stream.peer]
        stream.ended()
        self._ending.discard(stream)
        self._denied.discard(stream)
        if not self._ending and self._ending_timer is not None:
            self._ending_timer.cancel()
            self._ending_timer = None
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """End every stream with `bye`; after CLOSE_WITHIN seconds of running, abort the connections that remain."""
        self.closing = True
        for stream in self:
            apart(stream.close, "the goodbye of a stream")
        if not await self._all_ended():
            for stream in self:
                apart(stream.cut, "the end of a stream")
            await self._all_ended()

    async def _all_ended(self) -> bool:
        try:
            async with self._waits.limit(CLOSE_WITHIN):
                while self._open:
                    await next(iter(self._open)).done.wait()
        except TimeoutError:
            return False
        return True

    def _watch_end(self, stream: OpenStream) -> None:
        self._ending.add(stream)
        if self._ending_timer is None:
            self._ending_timer = asyncio.get_running_loop().call_later(END_CHECK, self._end_accesses)

    def _end_accesses(self) -> None:
        """Wake the streams whose access ends, and cut those whose clients have not read that.

        A stream that was not woken after the end of its access, since this looks late, is cut at the next look.
        """
        self._ending_timer = None
        now = asyncio.get_running_loop().time()
        for stream in tuple(self._ending):
            if now >= stream.access_ends + CUT_AFTER and stream in self._denied:
                apart(stream.cut, "the end of a stream")
            elif stream.end_is_due(now):
                apart(stream.wake, "the end of a stream")
                if now >= stream.access_ends:
                    self._denied.add(stream)
        if self._ending and self._ending_timer is None:
            self._ending_timer = asyncio.get_running_loop().call_later(END_CHECK, self._end_accesses)

    def _expiry(self, time: float) -> float:
        """*time*, rounded up to a part of the interval between two checks: one object for all that expire in it."""
        step = abs(self._max_age) / EXPIRY_CHECKS / STEPS
        expiry = math.ceil(time / step) * step
        return self._expiries.setdefault(expiry, expiry)

    def _schedule_expiry(self) -> None:
        pause = max(self._max_age / EXPIRY_CHECKS, LEAST_PAUSE)
        self._timer = asyncio.get_running_loop().call_later(pause, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._expiries = {expiry: expiry for expiry in self._expiries if expiry > now}
        for stream in self:
            if stream.expires <= now:
                apart(stream.wake, "the renewal of a stream")
        self._schedule_expiry()
