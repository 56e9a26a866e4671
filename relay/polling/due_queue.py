"""When each of many items has its turn, and an alarm for the next turn."""

import asyncio
import math
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar, cast

from relay.clock import Clock, Timer, call_later

__all__ = ["Alarm", "DueQueue"]

T = TypeVar("T")


class DueQueue(Generic[T]):
    """Items in the order of their due times, each with one turn at most. It reads no clock: times are handed in.

    All times are seconds on one clock. *fit* is given an item and a due time and returns the time that the item gets,
    so that it may bring a turn forward. Items are hashable, and equal to themselves alone.
    """

    def __init__(self, fit: Callable[[T, float], float] = lambda _, due: due) -> None:
        self._fit = fit
        self._turns: dict[T, tuple[float, int]] = {}
        # Entries that are no item's turn any more stay in the heap until they are first in it.
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = count()
        self._newcomers: dict[T, None] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, item: T) -> bool:
        """Whether *item* has a turn; a newcomer has none yet."""
        return item in self._turns

    def due(self, item: T) -> float:
        """When *item* has its turn; minus infinity for one that has none."""
        return self._turns.get(item, (-math.inf, 0))[0]

    @property
    def next_at(self) -> float:
        """When the first turn is; infinity if there is none."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else math.inf

    def put(self, item: T, due: float) -> None:
        """Give *item* a turn at *due*, in place of the one it has. Equal times go by the order of `put`."""
        turn = (self._fit(item, due), next(self._numbers))
        self._turns[item] = turn
        heappush(self._heap, (*turn, item))

    def discard(self, item: T) -> None:
        """Take the turn of *item* away, if it has one; a newcomer gets none."""
        self._turns.pop(item, None)
        self._newcomers.pop(item, None)

    def join(self, item: T) -> None:
        """Add *item* to the newcomers, which get their first turns with the next `welcome`."""
        self._newcomers[item] = None

    def welcome(self, start: float, over: float) -> None:
        """Spread the first turns of the newcomers over *over* seconds from *start* on; a lone one is at *start*."""
        newcomers, self._newcomers = self._newcomers, {}
        for number, item in enumerate(newcomers):
            self.put(item, start + over * number / len(newcomers))

    def spread(
        self, items: Iterable[T], start: float, over: float, *, not_before: Callable[[T], float] = lambda _: -math.inf
    ) -> None:
        """Drop all turns and newcomers, and spread *items*, in their order, over *over* seconds from *start* on.

        No item has its turn before its own *not_before*.
        """
        waiting = list(items)
        self._turns.clear()
        self._heap.clear()
        self._newcomers.clear()
        for number, item in enumerate(waiting):
            self.put(item, max(start + over * number / len(waiting), not_before(item)))

    def first_due(self, now: float) -> T | None:
        """The item whose turn came first, if it has come by *now*. It keeps its turn until `discard` or `put`."""
        return self._heap[0][2] if self.next_at <= now and self._heap else None

    def all_due(self, now: float) -> list[T]:
        """All items whose turn has come by *now*, in order."""
        return [item for *_, item in sorted((*turn, item) for item, turn in self._turns.items() if turn[0] <= now)]

    def _drop_stale(self) -> None:
        while self._heap and self._turns.get(self._heap[0][2]) != self._heap[0][:2]:
            heappop(self._heap)


class Alarm:
    """Lets one task wait until a time that others may bring forward. However often that happens, it has one timer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()
        self._timer: Timer | None = None
        self._at = math.inf

    def ring(self) -> None:
        """Let the task that waits go on now, or the next `wait` return at once."""
        self._rung.set()

    def ring_by(self, at: float) -> None:
        """Ring at *at*, unless the alarm rings before that anyway. Infinity is never."""
        if self._timer is not None:
            task = _task(self._timer)
            if self._at <= at and not (task and task.done()):
                return
            self._timer.cancel()
        self._timer, self._at = None, at
        if at < math.inf:
            self._timer = call_later(self._clock, at - self._clock.monotonic(), self._ring_in_time)

    async def wait(self, at: float) -> None:
        """Return at *at*, or as soon as the alarm rings."""
        if not self._rung.is_set():
            self.ring_by(at)
            await self._rung.wait()
        self._rung.clear()

    async def stop(self) -> None:
        """Leave no timer behind."""
        timer, self._timer, self._at = self._timer, None, math.inf
        if timer is not None:
            timer.cancel()
        if (task := _task(timer)) is not None:
            await asyncio.gather(task, return_exceptions=True)

    def _ring_in_time(self) -> None:
        self._timer = None
        self._rung.set()


def _task(timer: Timer | None) -> "asyncio.Task[None] | None":
    """The task that *timer* is, on a clock that can only be slept on."""
    return cast("asyncio.Task[None]", timer) if isinstance(timer, asyncio.Task) else None
