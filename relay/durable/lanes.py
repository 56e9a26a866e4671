"""A durable sink that delivers many jobs at once, each in order."""

import asyncio
import math
from random import Random
from typing import Any, Final

from relay.durable.endpoint import Endpoint
from relay.durable.lane import Lane, Lanes
from relay.durable.reader import DurableReader, Works
from relay.durable.tail import SLICE, Tail
from relay.events import Record
from relay.notices import describe
from relay.queue import Attempts, EndpointGone, RetryLater, Undeliverable
from relay.queue.counts import Breaker

__all__ = ["PARKED_AFTER", "LaneReader"]

PARKED_AFTER: Final = 60.0
"""Seconds for which a lane may fail until its records are parked, so that the cursor goes on without them."""

MOST_RECORDS: Final = 1_000
MOST_BYTES: Final = 8 * 1024 * 1024
"""How much is in memory for one sink at most, beside a slice."""

MOST_AHEAD: Final = 4_096
"""How many records may be read ahead of the cursor: a kill repeats so many of them at most."""

WOKEN_AT_ONCE: Final = 256


class LaneReader(DurableReader):
    """Up to *lanes* deliveries at once, no two of one job.

    The cursor is a low-water mark: all records up to it are delivered, or copied into the journal's parking. There go
    the records of a job that has failed for PARKED_AFTER seconds while others succeed. A parked job is tried again, by
    the back-off of the sink's retries, until their time is over: then its first record is a dead letter, and the next
    has its turn. While the far end as a whole seems to be down nothing is parked: the journal keeps it. After one
    success all that waits for the far end is due at once.
    """

    def __init__(self, name: str, sink: Works, *args: Any, **options: Any) -> None:
        super().__init__(name, sink, *args, **options)
        self._random = Random()  # noqa: S311 - it spreads retries, it protects nothing
        self._endpoint = Endpoint(sink.retries, self._random)
        self._lanes = Lanes()
        self._all_slots = [Attempts(sink.work, sink.timeout, self._clock) for _ in range(sink.lanes)]
        self._slots = list(self._all_slots)
        self._teller = None if sink.lost is None else Attempts(sink.lost, sink.timeout, self._clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._was_open = False
        self._has_changed = False
        self._to_wake = False

    @property
    def state(self) -> Breaker:
        return "open" if self.closed else self._endpoint.state

    @property
    def is_failing(self) -> bool:
        return self._endpoint.is_failing

    @property
    def in_hand(self) -> int:
        return len(self._lanes)

    async def run(self) -> None:
        self._lanes, self._slots, self._broken = Lanes(), list(self._all_slots), None
        self._endpoint, self._was_open = Endpoint(self._sink.retries, self._random), False
        tail = self._tail()
        try:
            while not (self.closed or self._is_drained(tail)):
                self._news.clear()
                self._read(tail)
                await self._report_lost()
                self._begin()
                self._advance(tail)
                await self._pause(self._until())
                if self._broken is not None:
                    raise self._broken
        finally:
            await self._end_deliveries()
            self._advance(tail)

    def _is_drained(self, tail: Tail) -> bool:
        if not self._draining:
            return False
        if self._endpoint.is_failing:
            return not self._tasks
        return tail.is_at_head and not self._lanes.by_job

    # In

    def _read(self, tail: Tail) -> None:
        """Read a slice, if there is room for it."""
        if tail.is_at_head:
            return
        if not self._has_room(tail):
            return self._make_room()
        apart: dict[str, list[Record]] = {}
        for record in self._note(tail.read()):
            lane = self._lanes.by_job.get(record.job)
            if lane.parked if lane is not None else self._parking.holds(self.name, record.job):
                apart.setdefault(record.job, []).append(record)
            else:
                self._lanes.add(record)
        for records in apart.values():
            self._owe(self._parking.park(self.name, records, due=self._now()), "parked")
        if not tail.is_at_head:
            self._news.set()

    def _has_room(self, tail: Tail) -> bool:
        lanes = self._lanes
        is_full = len(lanes) > MOST_RECORDS - SLICE or lanes.bytes > MOST_BYTES
        return not is_full and tail.after - self._cursor <= MOST_AHEAD - SLICE

    def _make_room(self) -> None:
        """Do not let the jobs that fail hold up the others."""
        if not self._endpoint.is_open:
            for lane in self._lanes.failing():
                self._park(lane)

    def _park(self, lane: Lane) -> None:
        due = self._now() + max(0.0, lane.due - self._clock.monotonic())
        records = list(lane.records)
        lost = self._parking.park(self.name, records, attempts=lane.attempts, since=lane.since, due=due)
        self._lanes.remove(lane)
        self._owe(lost, "parked")

    def _take_parked(self, due: float) -> None:
        """Take the heads of parked jobs whose time is *due*, as far as there are slots for them."""
        if self._to_wake:
            self._to_wake = self._parking.wake(self.name, self._now(), WOKEN_AT_ONCE) == WOKEN_AT_ONCE
        taken = self._lanes.parked
        if len(taken) >= self._sink.lanes:
            return
        for parked in self._parking.heads(self.name, due, self._sink.lanes - len(taken), taken):
            lane = Lane(parked.record.job, parked=True)
            lane.records.append(parked.record)
            lane.attempts, lane.since = parked.attempts, parked.since
            self._lanes.take_in(lane)

    # Out

    def _begin(self) -> None:
        """Begin as many deliveries as there are lanes ready and slots free, and as the far end admits."""
        now = self._clock.monotonic()
        self._lanes.wake(now)
        self._take_parked(self._now())
        if self._owed or (self._draining and self._endpoint.is_failing) or not self._endpoint.admits(now):
            return
        if self._endpoint.is_open and not self._lanes.has_ready and not self._lanes.hasten():
            self._take_parked(math.inf)
        while self._slots and self._lanes.has_ready and self._endpoint.admits(now):
            lane = self._lanes.take(fewest_attempts=self._endpoint.is_open)
            self._endpoint.begin()
            task = asyncio.create_task(self._deliver(lane, self._slots.pop()), name=f"delivery of {self.name}")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        self._news.set()

    async def _deliver(self, lane: Lane, slot: Attempts) -> None:
        lane.since = lane.since or self._now()
        error = await slot.make(lane.records[0])
        await slot.ended()  # before another delivery of the job begins
        self._slots.append(slot)
        self._has_changed = True
        match error:
            case None:
                self._succeeded(lane)
            case EndpointGone():
                self._give_up(error)
            case Undeliverable():
                self._answered()
                self._bury(lane, error)
            case _:
                self._failed(lane, error)

    def _give_up(self, error: EndpointGone) -> None:
        self._gone()
        self._notify(f"sink {self.name} is closed, for its far end wants nothing any more: {describe(error)}")

    def _succeeded(self, lane: Lane) -> None:
        self._count(delivered=1)
        self._answered()
        lane.failing_since = math.inf
        if lane.parked:
            self._parking.unpark(self.name, lane.records[0].position.offset, self._now())
        self._lanes.done(lane)

    def _answered(self) -> None:
        if self._endpoint.answered():
            self._lanes.wake(math.inf)
            self._to_wake = True
        if self._was_open:
            self._was_open = False
            self._notify(f"sink {self.name} works again")

    def _failed(self, lane: Lane, error: BaseException) -> None:
        """Try again later, or apart if the job has failed for a while and others have not, or no more after a time."""
        retries, now = self._sink.retries, self._clock.monotonic()
        delay = self._delay(error, lane.attempts + 1)
        self._note_failure(lane.job, error)
        lane.attempts += 1
        lane.failing_since = min(lane.failing_since, now)
        if retries.end(lane.attempts, self._now() - lane.since):
            self._bury(lane, error)
        elif lane.parked:
            self._parking.put_off(self.name, lane.records[0].position.offset, lane.attempts, self._now() + delay)
            self._lanes.remove(lane)
        else:
            self._lanes.put_off(lane, now + delay)
            if now - lane.failing_since >= PARKED_AFTER and not self._endpoint.is_open:
                self._park(lane)

    def _note_failure(self, job: str, error: BaseException) -> None:
        after = self._delay(error, 1) if isinstance(error, RetryLater) and error.after is not None else None
        self._endpoint.failed(job, self._clock.monotonic(), after)
        self._say(
            "failed", lambda number: f"sink {self.name} failed{_times(number)}: {describe(error)}; it is tried again"
        )
        if self._endpoint.is_open and not self._was_open:
            self._was_open = True
            self._notify(f"the far end of sink {self.name} seems to be down; one delivery at a time probes it")

    def _delay(self, error: BaseException, attempt: int) -> float:
        retries = self._sink.retries
        if isinstance(error, RetryLater) and error.after is not None:
            return min(max(0.0, error.after), retries.cap)
        return retries.delay(attempt, self._random)

    def _bury(self, lane: Lane, error: BaseException) -> None:
        """Make the first record of the lane a dead letter."""
        record = lane.records[0]
        self._parking.bury(self.name, [record], attempts=max(1, lane.attempts), since=lane.since, due=self._now())
        self._count(failed=1)
        self._say(
            "dead",
            lambda number: (
                f"sink {self.name} has given up on {number:,} records, which are kept as dead "
                f"letters; the last one is {record.job} seq {record.seq}: {describe(error)}"
            ),
        )
        self._lanes.done(lane)

    async def _report_lost(self) -> None:
        """Report its loss to the sink, behind all that came before it, and before it gets anything more."""
        if self._teller is None:
            self._owed = 0
        if not self._owed or self._teller is None or self._tasks or not self._endpoint.admits(self._clock.monotonic()):
            return
        owed = self._owed
        self._endpoint.begin()
        error = await self._teller.make(owed)
        if isinstance(error, EndpointGone):
            self._give_up(error)
        elif error is None or isinstance(error, Undeliverable):
            self._owed -= owed
            self._answered()
        else:
            self._note_failure("", error)
            self._endpoint.pause(self._clock.monotonic() + self._delay(error, 1))

    # The mark

    def _advance(self, tail: Tail) -> None:
        """Move the cursor to the low-water mark, and save it if a kill would cost a delivery otherwise."""
        first = self._lanes.first_offset
        mark = tail.after if first is None else first - 1
        if mark > self._cursor:
            self._move(mark)
            self._save(at_once=self._has_changed)
            self._has_changed = False

    def _until(self) -> float | None:
        """Seconds until something is due; None if only news can bring that."""
        now = self._clock.monotonic()
        due = self._lanes.next_due
        waits = self._owed or self._lanes.by_job or self._parking.waiting(self.name)
        if waits and self._endpoint.not_before > now:
            due = min(due, self._endpoint.not_before)
        if len(self._lanes.parked) < self._sink.lanes:
            head = self._parking.next_due(self.name, self._lanes.parked)
            due = min(due, math.inf if head is None else now + head - self._now())
        return None if due == math.inf else max(0.0, due - now)

    def _now(self) -> float:
        """The time of day, which a parked record keeps across restarts."""
        return self._clock.now().timestamp()

    async def _end_deliveries(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _times(number: int) -> str:
    return "" if number == 1 else f" {number:,} times"
