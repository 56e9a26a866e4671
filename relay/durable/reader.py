"""A durable sink, which gets the records behind its cursor: across restarts, at least once, in order per job."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from relay.clock import Clock, rest
from relay.durable.seldom import Seldom
from relay.durable.tail import Portion, Tail
from relay.errors import JournalError, UsageError
from relay.events import Record
from relay.journal import JournalReader, KeepsCursors
from relay.notices import Notify, describe
from relay.queue import Counts, Retries, Work
from relay.queue.counts import Breaker
from relay.supervision.supervisor import Supervise

__all__ = ["DRAIN_WITHIN", "SAVE_AFTER", "DurableReader", "Works"]

SAVE_AFTER: Final = 0.25
"""Seconds for which a move of the cursor may wait for the next commit: a kill repeats what was delivered meanwhile."""

DRAIN_WITHIN: Final = 3.0


class Works(NamedTuple):
    """What a durable sink has: `work` and the rest of `relay.queue.Queued`. With *lanes*, many jobs at once."""

    work: Work
    batch: tuple[int, float] | None
    retries: Retries
    timeout: float
    lost: Work | None
    lanes: int


class DurableReader(ABC):
    """Gives the sink *name* the records of *journal* behind its cursor, which is *start* the first time.

    `run` is the task of the reader; it may be run again after it has failed. `wake` says that there are new records.
    Records are repeated after a kill, from the last cursor that was saved. Raises UsageError for a journal that keeps
    no cursors, and for a name that another durable sink has.
    """

    durable: bool = True
    slowest: float = 0.0

    def __init__(
        self,
        name: str,
        sink: Works,
        journal: JournalReader,
        *,
        clock: Clock,
        notify: Notify,
        wanted: Callable[[Record], bool],
        start: int,
    ) -> None:
        if not isinstance(journal, KeepsCursors):
            raise UsageError(
                f"sink {name} cannot be durable: this journal ends with the process and keeps no cursors; use one in a"
                ' file, such as url = "sqlite:relay.db"'
            )
        self.name: str = name
        self.dropped: int = 0
        self.delivered: int = 0
        self.failed: int = 0
        self.closed: bool = False
        """Whether the far end wants nothing any more, or the sink was removed."""
        self._sink = sink
        self._cursors, self._parking = journal.cursors, journal.parking
        self._clock = clock
        self._notify = notify
        self._wanted = wanted
        self._journal = journal
        self._news = asyncio.Event()
        self._draining = False
        self._owed = 0
        self._task: asyncio.Task[None] | None = None
        self._say = Seldom(notify, clock)
        self._cursor = self._cursors.claim(name, start)
        self._saved_at = clock.monotonic()

    @property
    def cursor(self) -> int:
        """The offset up to which the sink is done with all records, or has copies of them parked."""
        return self._cursor

    @property
    @abstractmethod
    def state(self) -> Breaker:
        """`closed` while the sink works, `open` while it does not or gets nothing any more, `half-open` in a probe."""

    @property
    @abstractmethod
    def is_failing(self) -> bool:
        """Whether the latest delivery failed."""

    @property
    @abstractmethod
    def in_hand(self) -> int:
        """The number of records that are read, and not done with."""

    @abstractmethod
    async def run(self) -> None:
        """Deliver, until the reader is closed, or stopped and done."""

    def _count(self, *, delivered: int = 0, failed: int = 0) -> None:
        self.delivered += delivered
        self.failed += failed

    def counts(self) -> Counts:
        """What became of the records since the start."""
        return Counts(
            delivered=self.delivered,
            dropped=self.dropped,
            failed=self.failed,
            waiting=self.in_hand + self._parking.waiting(self.name),
        )

    def start(self, supervise: Supervise) -> None:
        """Run, and run again after a failure, until `end`."""
        self._task = supervise(f"the reader of sink {self.name}", self.run)

    async def end(self, *, drain: bool) -> None:
        """Let the cursor go. With *drain*, deliver what is committed before, while that succeeds, for DRAIN_WITHIN."""
        task, self._task = self._task, None
        if task is None:
            return
        if drain:
            self.drain()
            await asyncio.wait((task,), timeout=0.0 if self.is_failing else DRAIN_WITHIN)
        task.cancel()
        await asyncio.wait((task,))
        self.leave()

    def wake(self, _: object = None) -> None:
        """There are new records."""
        self._news.set()

    def drain(self) -> None:
        """Return from `run` once all that is committed is delivered; while deliveries fail, at once."""
        self._draining = True
        self._news.set()

    def close(self) -> None:
        """Begin no further delivery, from this call on."""
        self.closed = True
        self._news.set()

    def leave(self) -> None:
        """Save the cursor and let another sink have it. Twice does nothing. Call it once `run` has ended."""
        self._save(at_once=True)
        with suppress(KeyError):
            self._cursors.release(self.name, pins=not self.closed)

    def _tail(self) -> Tail:
        return Tail(self._journal, self._cursor, self._is_wanted)

    def _note(self, portion: Portion) -> list[Record]:
        """The records of *portion*; those that are lost are counted, and owed to the sink as a number."""
        self._owe(portion.lost, "kept")
        return portion.records

    def _owe(self, lost: int, where: str) -> None:
        """That many records are lost, which were *kept* in the journal, or *parked*; the sink gets their number."""
        if lost:
            self.dropped += lost
            self._owed += lost
            self._say(
                f"lost {where}",
                lambda number: (
                    f"sink {self.name} has lost {number:,} records, which were {where} in the journal for it"
                    " until the bound keep.pin_bytes was reached"
                ),
                lost,
            )

    def _is_wanted(self, record: Record) -> bool:
        try:
            return self._wanted(record)
        except Exception as error:
            self.failed += 1
            text = f"sink {self.name} cannot say whether it wants a record: {describe(error)}; it misses it"
            self._say("filter", lambda number: f"{text} ({number:,} so far)")
            return False

    def _move(self, offset: int) -> None:
        if offset > self._cursor:
            self._cursor = offset
            self._cursors.move(self.name, offset)

    def _save(self, *, at_once: bool) -> None:
        """Save the cursor, unless that was done just now. While the file cannot be written, that waits."""
        if at_once or self._clock.monotonic() >= self._saved_at + SAVE_AFTER:
            with suppress(JournalError):
                self._cursors.save()
                self._saved_at = self._clock.monotonic()

    def _gone(self) -> None:
        """Stop: the far end wants nothing any more, so that nothing waits for it either."""
        self.closed = True
        self._cursors.release(self.name, pins=False)

    async def _pause(self, seconds: float | None) -> None:
        """Return when there is news, or when *seconds* have passed. It is for the caller to clear the news before."""
        if seconds is None:
            await self._news.wait()
        elif not self._news.is_set():
            await rest(self._clock, seconds, self._news)
