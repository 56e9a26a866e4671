"""The records that one node has published and not received back yet from the journal that it shares. No I/O."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from itertools import islice
from typing import Final

from relay.bus.pending import MOST_BYTES, Key
from relay.events import Record
from relay.jobs.state import Job, JobState

__all__ = ["BATCH", "MOST_WAITING", "Outbox", "Stage", "Waiting"]

BATCH: Final = 100
"""The most drafts of one batch: the engine serves nobody else meanwhile, for 3 ms with 200 of them."""

BATCH_BYTES: Final = 1024 * 1024
"""The most bytes of their records; a single one may be longer."""

MOST_WAITING: Final = 2_000
"""How many records may wait before polling pauses; those of the polls that are under way then are extra."""


class Stage(Enum):
    """How far a draft has got; the tail of the journal is what ends its wait."""

    UNSENT = auto()
    SENT = auto()
    """The journal may have it, or not: the outcome is not known."""
    ACKNOWLEDGED = auto()
    GONE = auto()
    """It waits no more."""


class Waiting:
    """A draft of *record*, whose position is not known; *state* is that of its job after it, without an offset.

    *key* and *unique* come with the first record of a job, *accepted* where a caller waits for that. *since* is when it
    was published, and *answered* when the upstream's answer came that it follows from, both on the monotonic clock.
    """

    __slots__ = ("accepted", "answered", "ends", "job", "key", "record", "since", "stage", "state", "unique")

    def __init__(
        self,
        job: Job,
        record: Record,
        state: JobState,
        since: float,
        *,
        key: Key | None = None,
        unique: str = "",
        answered: float | None = None,
        accepted: "asyncio.Future[Record] | None" = None,
    ) -> None:
        self.job: Job = job
        self.record: Record = record
        self.state: JobState = state
        self.since: float = since
        self.key: Key | None = key
        self.unique: str = unique
        self.answered: float | None = answered
        self.accepted: asyncio.Future[Record] | None = accepted
        self.stage: Stage = Stage.UNSENT
        self.ends: bool = False
        """Whether its caller has given up on it: if it turns up, its job ends, unless it follows a task."""


class Outbox:
    """The waiting drafts, in the order of publication. *settled* is called with the id of a job that has none left.

    Unsent drafts are always the newest ones: batches are formed from the front, one at a time.
    """

    def __init__(self, settled: Callable[[str], object] = id) -> None:
        self._all: dict[Waiting, None] = {}
        self._unsent: deque[Waiting] = deque()
        self._of_jobs: dict[str, deque[Waiting]] = {}
        self._bytes = 0
        self._settled = settled

    def __len__(self) -> int:
        return len(self._all)

    @property
    def unknown(self) -> int:
        """How many of these the journal has not acknowledged."""
        return sum(waiting.stage is not Stage.ACKNOWLEDGED for waiting in self._all)

    @property
    def full(self) -> bool:
        """Whether as much waits as may."""
        return len(self._all) >= MOST_WAITING or self._bytes >= MOST_BYTES

    @property
    def half_empty(self) -> bool:
        """Whether there is room again: half of what may wait, or more."""
        return len(self._all) <= MOST_WAITING // 2 and self._bytes <= MOST_BYTES // 2

    @property
    def since(self) -> float | None:
        """When the oldest of all was published; None if nothing waits."""
        return next(iter(self._all)).since if self._all else None

    def state(self, job: Job) -> JobState:
        """The state of *job* once all that waits of it is in the journal."""
        waiting = self._of_jobs.get(job.id)
        return waiting[-1].state if waiting else job.state

    def oldest(self, job: str) -> Waiting | None:
        """The oldest draft of *job* that waits."""
        waiting = self._of_jobs.get(job)
        return waiting[0] if waiting else None

    def add(self, waiting: Waiting) -> None:
        """Let a draft wait behind all others."""
        self._all[waiting] = None
        self._unsent.append(waiting)
        self._of_jobs.setdefault(waiting.job.id, deque()).append(waiting)
        self._bytes += len(waiting.record.json)

    def next(self) -> list[Waiting]:
        """The oldest unsent drafts, as many as fit into one batch."""
        while self._unsent and self._unsent[0].stage is not Stage.UNSENT:
            self._unsent.popleft()
        batch, size = list[Waiting](), 0
        for waiting in islice(self._unsent, BATCH):
            size += len(waiting.record.json)
            if batch and size > BATCH_BYTES:
                break
            if waiting.stage is Stage.UNSENT:
                batch.append(waiting)
        return batch

    def sent(self, batch: Iterable[Waiting]) -> None:
        """These are under way: their outcome is not known from now on."""
        for waiting in batch:
            waiting.stage = Stage.SENT

    def acknowledged(self, waiting: Waiting) -> None:
        """The journal has it; the tail has not brought it yet."""
        if waiting.stage is Stage.SENT:
            waiting.stage = Stage.ACKNOWLEDGED

    def delivered(self, waiting: Waiting) -> None:
        """The tail has brought it, whatever is known of its batch; it is the oldest of its job."""
        job = waiting.job.id
        self._of_jobs[job].popleft()
        self._forget(waiting)
        self._clear(job)

    def waits(self, waiting: Waiting) -> bool:
        """Whether it is still one of these."""
        return waiting.stage is not Stage.GONE

    def refuse(self, job: str) -> list[Waiting]:
        """Remove what waits of *job*, and return it; the tail still brings what the journal has acknowledged."""
        return self._drop(job, lambda waiting: waiting.stage is not Stage.ACKNOWLEDGED)

    def withdraw(self, job: str) -> list[Waiting]:
        """Remove what waits of *job*, and return it, but for a draft that ends its job if it turns up."""
        return self._drop(job, lambda waiting: not waiting.ends)

    def begin_anew(self) -> list[Waiting]:
        """In a new epoch nothing was sent; return those, now removed, whose callers have given up on them."""
        given_up = [one for one in self._all if one.ends]
        for one in given_up:
            self.delivered(one)
        for one in self._all:
            one.stage = Stage.UNSENT
        self._unsent = deque(self._all)
        return given_up

    def _drop(self, job: str, which: Callable[[Waiting], bool]) -> list[Waiting]:
        waiting = self._of_jobs.get(job, ())
        dropped, kept = [one for one in waiting if which(one)], deque(one for one in waiting if not which(one))
        for one in dropped:
            self._forget(one)
        if dropped:
            self._of_jobs[job] = kept
            self._clear(job)
        return dropped

    def _forget(self, waiting: Waiting) -> None:
        del self._all[waiting]
        self._bytes -= len(waiting.record.json)
        waiting.stage = Stage.GONE

    def _clear(self, job: str) -> None:
        if not self._of_jobs[job]:
            del self._of_jobs[job]
            self._settled(job)
