"""The records of one job on their way to one sink."""

import math
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count

from relay.events import Record

__all__ = ["Lane", "Lanes"]


class Lane:
    """Records of *job*, the first of which is next. If it is *parked*, that one alone, whose copy is in the journal."""

    __slots__ = ("attempts", "due", "failing_since", "job", "parked", "records", "since")

    def __init__(self, job: str, *, parked: bool = False) -> None:
        self.job: str = job
        self.parked: bool = parked
        self.records: deque[Record] = deque()
        self.attempts: int = 0
        self.since: float = 0.0
        """When the first attempt at the first record began, by the time of day."""
        self.due: float = 0.0
        self.failing_since: float = math.inf
        """Since when no record of the lane was delivered, by the monotonic clock."""

    def begin_next(self) -> None:
        """The first record is done with."""
        self.records.popleft()
        self.attempts = 0
        self.since = self.due = 0.0


class Lanes:
    """The lanes in memory: those that are ready, in turn, those that wait for a time, and those under way."""

    def __init__(self) -> None:
        self.by_job: dict[str, Lane] = {}
        self.parked: set[str] = set()
        """The jobs whose parked head is in memory."""
        self.under_way: set[Lane] = set()
        self._ready: dict[Lane, None] = {}
        self._waiting: list[tuple[float, int, Lane]] = []
        self._numbers = count()
        self._offsets: dict[int, None] = {}
        self.bytes: int = 0

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def first_offset(self) -> int | None:
        """The offset of the oldest record that is not done with; copies of parked records do not count."""
        return next(iter(self._offsets), None)

    @property
    def next_due(self) -> float:
        """The time of the lane that waits for the earliest one."""
        while self._waiting and not self._is_current(*self._waiting[0]):
            heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else math.inf

    @property
    def has_ready(self) -> bool:
        """Whether a lane needs no more than its turn."""
        return bool(self._ready)

    def add(self, record: Record) -> None:
        """Put *record* behind the others of its job."""
        lane = self.by_job.get(record.job)
        if lane is None:
            lane = self.by_job[record.job] = Lane(record.job)
            self._ready[lane] = None
        lane.records.append(record)
        self._offsets[record.position.offset] = None
        self.bytes += len(record.json)

    def take_in(self, lane: Lane) -> None:
        """Let a parked lane, of a job without one in memory, wait for its turn."""
        self.by_job[lane.job] = lane
        self.parked.add(lane.job)
        self._ready[lane] = None

    def take(self, *, fewest_attempts: bool) -> Lane:
        """The lane whose turn it is, or of the ready ones that with the fewest attempts; it is under way from now."""
        ready = self._ready
        lane = min(ready, key=_attempts) if fewest_attempts else next(iter(ready))
        del ready[lane]
        self.under_way.add(lane)
        return lane

    def done(self, lane: Lane) -> None:
        """The first record of a lane that was under way is done with."""
        self._forget(lane.records[0], lane)
        lane.begin_next()
        self.under_way.discard(lane)
        if lane.records:
            self._ready[lane] = None
        else:
            self._drop(lane)

    def put_off(self, lane: Lane, due: float) -> None:
        """A lane that was under way waits until *due*."""
        lane.due = due
        self.under_way.discard(lane)
        if len(self._waiting) > 2 * len(self.by_job) + 64:
            self._waiting = [entry for entry in self._waiting if self._is_current(*entry)]
            heapify(self._waiting)
        heappush(self._waiting, (due, next(self._numbers), lane))

    def remove(self, lane: Lane) -> None:
        """All that is in the lane is done with."""
        for record in lane.records:
            self._forget(record, lane)
        self.under_way.discard(lane)
        self._ready.pop(lane, None)
        self._drop(lane)

    def wake(self, now: float) -> None:
        """Lanes that wait for a time up to *now* are ready."""
        while (due := self.next_due) <= now and due < math.inf:
            _, _, lane = heappop(self._waiting)
            lane.due = 0.0
            self._ready[lane] = None

    def hasten(self) -> bool:
        """Make the lane that waits for the earliest time ready; return whether there was one."""
        due = self.next_due
        if due < math.inf:
            self.wake(due)
        return due < math.inf

    def failing(self) -> list[Lane]:
        """The lanes that have failed, are not parked, and are not under way."""
        lanes = self.by_job.values()
        return [lane for lane in lanes if lane.attempts and not lane.parked and lane not in self.under_way]

    def _drop(self, lane: Lane) -> None:
        lane.records.clear()
        del self.by_job[lane.job]
        self.parked.discard(lane.job)

    def _is_current(self, due: float, _: int, lane: Lane) -> bool:
        return self.by_job.get(lane.job) is lane and lane.due == due and lane not in self.under_way

    def _forget(self, record: Record, lane: Lane) -> None:
        if not lane.parked:
            del self._offsets[record.position.offset]
            self.bytes -= len(record.json)


def _attempts(lane: Lane) -> int:
    return lane.attempts
