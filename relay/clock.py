"""Time, as it is handed to everything that needs it, and long work in slices of it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

__all__ = [
    "SLICE_SECONDS",
    "Clock",
    "SystemClock",
    "TimeLimit",
    "TimeLimits",
    "Timer",
    "call_later",
    "rest",
    "slices",
    "wait_within",
]

SLICE_SECONDS: Final = 0.002
"""How long a slice of work lasts, before others have their turn on the event loop."""

_T = TypeVar("_T")


class Clock(Protocol):
    """Two readings and one wait. Tests hand in `relay.testing.ManualClock`."""

    def now(self) -> datetime:
        """The time of day, in UTC: for people, and for nothing else, since it may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from some fixed point; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when *seconds* have passed on the monotonic reading."""
        ...


class SystemClock:
    """The machine's own clocks; with *speed*, a clock on which *speed* seconds pass in one."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._wall_start = time.time()
        self._start = time.monotonic()
        # Python's own, unless it is sped up: each record reads it some six times, and a function about it costs 0.1 us.
        self.monotonic: Callable[[], float] = time.monotonic if speed == 1.0 else self._sped_up

    def now(self) -> datetime:
        if self._speed == 1.0:
            return datetime.now(UTC)
        return datetime.fromtimestamp(self._wall_start + self.monotonic() - self._start, UTC)

    def _sped_up(self) -> float:
        return self._start + (time.monotonic() - self._start) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self._speed)

    def call_later(self, seconds: float, act: Callable[[], object]) -> asyncio.TimerHandle:
        """Call *act* once *seconds* have passed on the monotonic reading, unless the returned handle is cancelled."""
        return asyncio.get_running_loop().call_later(max(0.0, seconds) / self._speed, act)


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> object:
        """Make it not come."""
        ...


def call_later(clock: Clock, seconds: float, act: Callable[[], object]) -> Timer:
    """Call *act* once *seconds* have passed on *clock*, unless what this returns is cancelled.

    It is a task for a clock that can only be slept on, and a timer of the event loop for the machine's own.
    """
    if isinstance(clock, SystemClock):
        return clock.call_later(seconds, act)
    return asyncio.create_task(_act_in(clock, seconds, act))


async def rest(clock: Clock, seconds: float, news: asyncio.Event) -> None:
    """Return after *seconds*, or as soon as *news* is set."""
    slept = asyncio.ensure_future(clock.sleep(seconds))
    woken = asyncio.create_task(news.wait())
    try:
        await asyncio.wait((slept, woken), return_when=asyncio.FIRST_COMPLETED)
    finally:
        slept.cancel()
        woken.cancel()


async def wait_within(clock: Clock, seconds: float, future: "asyncio.Future[Any]") -> None:
    """Return when *future* is done, or after *seconds*; it is not cancelled then, and its error is not raised here."""
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((future, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()


async def _act_in(clock: Clock, seconds: float, act: Callable[[], object]) -> None:
    await clock.sleep(seconds)
    act()


class TimeLimits:
    """Bounds awaits to *seconds* of the event loop each, or does not where that is None.

    As `asyncio.timeout`, for very many awaits with one limit: all of them share one timer. `close` cancels it.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds: float | None = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        # In the order in which they are over, since all have the same seconds.
        self._over_at: dict[TimeLimit, float] = {}

    def limit(self) -> "TimeLimit":
        """The context to enter around one await. A task in it for too long is cancelled, and leaves a TimeoutError."""
        return TimeLimit(self)

    def close(self) -> None:
        """Leave no timer behind. Nothing is to be under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin(self, limit: "TimeLimit") -> None:
        """Let *limit* be over once the seconds have passed; `TimeLimit` does that."""
        if self.seconds is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + self.seconds
        if self._timer is None or self._loop is not loop:
            self._loop, self._timer = loop, loop.call_at(at, self._pass)
        self._over_at[limit] = at

    def end(self, limit: "TimeLimit") -> None:
        """Forget *limit*; `TimeLimit` does that."""
        self._over_at.pop(limit, None)

    def _pass(self) -> None:
        """Let those that are due be over, and wait for the next one."""
        loop, self._timer = asyncio.get_running_loop(), None
        while self._over_at:
            limit, at = next(iter(self._over_at.items()))
            if at > loop.time():
                self._timer = loop.call_at(at, self._pass)
                break
            del self._over_at[limit]
            limit.expire()


class TimeLimit:
    """One await within its limit."""

    __slots__ = ("_cancelling", "_limits", "expired", "task")

    def __init__(self, limits: TimeLimits) -> None:
        self._limits = limits
        self.task: asyncio.Task[Any] | None = None
        """The task that has entered it."""
        self._cancelling = 0
        self.expired: bool = False
        """Whether its time was over before the await was."""

    def __enter__(self) -> Self:
        self.task = task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit is entered within a task")
        self._cancelling = task.cancelling()
        self._limits.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limits.end(self)
        # As `asyncio.timeout` does: a cancellation of the task by somebody else stays one.
        if self.expired and self.task is not None:
            others = self.task.uncancel() > self._cancelling
            if not others and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task: its time is over."""
        self.expired = True
        if self.task is not None:
            self.task.cancel()


def slices(
    items: Iterable[_T],
    *,
    most: int,
    seconds: float = SLICE_SECONDS,
    now: Callable[[], float] = time.perf_counter,
) -> Iterator[Iterator[_T]]:
    """*items* in their order, in slices: each ends after *seconds*, or *most* items. Use one up before the next.

    A number of items alone is no measure of time: where the process had to wait for a processor within a slice, the
    rest of that slice would come on top.
    """
    left = iter(items)
    for first in left:
        yield _slice(first, left, most, now() + seconds, now)


def _slice(first: _T, left: Iterator[_T], most: int, end: float, now: Callable[[], float]) -> Iterator[_T]:
    yield first
    for _ in range(most - 1):
        if now() >= end:
            return
        try:
            item = next(left)
        except StopIteration:
            return
        yield item
