"""Slow or asynchronous work as a sink."""

import asyncio
from types import TracebackType
from typing import Final, Self

from relay.clock import Clock, wait_within
from relay.errors import UsageError
from relay.events import Record
from relay.notices import Notify
from relay.queue.attempts import ATTEMPT_TIMEOUT, Work
from relay.queue.buffer import OnFull, RecordBuffer
from relay.queue.counts import Breaker, Counts
from relay.queue.retries import Retries
from relay.queue.worker import Worker

__all__ = ["CAPACITY", "DRAIN_WITHIN", "Queued"]

CAPACITY: Final = 10_000
DRAIN_WITHIN: Final = 3.0


class Queued:
    """A sink that awaits *work* for each record behind a bounded queue, one after the other and in order.

    Calling it never waits and never raises. At most *capacity* records and 16 MiB wait; *on_full* says what happens to
    those beyond (`OnFull`). With *batch*, `(number, seconds)`, the work gets a list of up to *number* records, at most
    *seconds* after the first of them. Each attempt has *timeout* seconds; what fails is tried again as *retries* say
    (`Retries`), and counts as failed then. Work may raise RetryLater, Undeliverable and EndpointGone.

    *lost* is awaited with the number of records that are missing, in their place: before the record that follows them.

    It is an async context manager. Leaving it waits *drain_within* seconds for what is queued, and reports the rest to
    the operator. Raises UsageError for a figure that makes no sense.
    """

    def __init__(
        self,
        work: Work,
        *,
        capacity: int = CAPACITY,
        on_full: OnFull = "drop-oldest",
        batch: tuple[int, float] | None = None,
        retries: Retries | None = None,
        timeout: float = ATTEMPT_TIMEOUT,
        drain_within: float = DRAIN_WITHIN,
        lost: Work | None = None,
        name: str | None = None,
    ) -> None:
        if batch is not None and (batch[0] < 1 or batch[1] < 0):
            raise UsageError("a batch has at least one record, and waits no negative time")
        self.work: Work = work
        self.lost: Work | None = lost
        self.batch: tuple[int, float] | None = batch
        self.retries: Retries = retries or Retries()
        self.timeout: float = timeout
        self.name: str | None = name
        self.__qualname__ = name or getattr(work, "__qualname__", type(self).__qualname__)
        self._buffer = RecordBuffer(capacity, on_full)
        self._worker = Worker(work, retries=self.retries, timeout=timeout)
        self._teller = None if lost is None else Worker(lost, retries=self.retries, timeout=timeout)
        self._drain_within = drain_within
        self._delivered = 0
        self._failed = 0
        self._under_way = 0
        self._news = asyncio.Event()
        self._dropped_before = 0
        self._behind = False
        self._draining = False
        self._task: asyncio.Task[None] | None = None

    def bind(self, clock: Clock, notify: Notify, name: str) -> None:
        """Use this clock, and report to this operator under *name*; the relay calls it for a sink that is added."""
        for worker in self._workers():
            worker.clock, worker.notify, worker.what = clock, notify, f"sink {name}"

    def __call__(self, record: Record) -> None:
        was_closed = self._buffer.closed
        self._buffer.put(record)
        if self._buffer.closed and not was_closed:
            self._behind = True
            self._worker.notify(f"{self._worker.what} was full, so it is closed: it misses every record from now on")
        if self._buffer.dropped > self._dropped_before and not self._behind and not self._buffer.closed:
            self._behind = True
            self._worker.notify(f"{self._worker.what} is behind and has no room: it misses records until it catches up")
        self._news.set()

    def counts(self) -> Counts:
        """What became of the records so far."""
        return Counts(
            delivered=self._delivered,
            coalesced=self._buffer.coalesced,
            dropped=self._buffer.dropped,
            failed=self._failed,
            waiting=len(self._buffer) + self._under_way,
        )

    @property
    def missed(self) -> int:
        """How many records the far end will never get."""
        return self._buffer.coalesced + self._buffer.dropped + self._failed

    @property
    def breaker(self) -> Breaker:
        """Whether the work is tried for each record (closed), or has kept failing and is only probed."""
        return self._worker.breaker

    async def __aenter__(self) -> Self:
        self._draining = False
        for worker in self._workers():
            worker.hurry.clear()
        self._task = asyncio.create_task(self._run(), name=f"queue of {self.__qualname__}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        self._draining = True
        self._news.set()
        for worker in self._workers():
            worker.hurry.set()
        try:
            await wait_within(self._worker.clock, self._drain_within, task)
        finally:
            task.cancel()
            self._report_rest()
        await asyncio.wait((task,))

    def _workers(self) -> list[Worker]:
        return [self._worker] if self._teller is None else [self._worker, self._teller]

    async def _run(self) -> None:
        """Deliver what is queued, until there is nothing left at the end."""
        while True:
            if not self._buffer:
                await self._tell_lost(self._buffer.take_lost_behind())
                self._caught_up()
                if self._draining:
                    return
                if not self._buffer:
                    self._news.clear()
                    await self._news.wait()
                continue
            await self._gather()
            await self._deliver_next()

    def _caught_up(self) -> None:
        missed, self._dropped_before = self._buffer.dropped - self._dropped_before, self._buffer.dropped
        if missed and self._behind:
            number = "1 record" if missed == 1 else f"{missed:,} records"
            self._worker.notify(f"{self._worker.what} has caught up; it has missed {number} since it was behind")
        self._behind = False

    async def _gather(self) -> None:
        """Wait for a batch to fill."""
        if self.batch is None or self._has_batch(self.batch[0]):
            return
        timer = asyncio.ensure_future(self._worker.clock.sleep(self.batch[1]))
        try:
            while not (timer.done() or self._has_batch(self.batch[0])):
                self._news.clear()
                news = asyncio.ensure_future(self._news.wait())
                try:
                    await asyncio.wait((timer, news), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
        finally:
            timer.cancel()

    def _has_batch(self, size: int) -> bool:
        return self._draining or len(self._buffer) >= size

    async def _deliver_next(self) -> None:
        lost, records = self._buffer.take(1 if self.batch is None else self.batch[0])
        self._under_way = len(records)
        await self._tell_lost(lost)
        outcome = await self._worker.deliver(records[0] if self.batch is None else records, records=len(records))
        self._under_way = 0
        if outcome == "delivered":
            self._delivered += len(records)
        else:
            self._failed += len(records)
        if outcome == "gone":
            self._buffer.close()
            self._drop_rest()

    async def _tell_lost(self, number: int) -> None:
        """Report a loss to the far end. Once the sink is closed, nothing follows that could be missed in between."""
        if number and self._teller is not None and not self._buffer.closed:
            await self._teller.deliver(number, records=0)

    def _drop_rest(self) -> int:
        rest = self._under_way
        while self._buffer:
            rest += len(self._buffer.take(CAPACITY).records)
        self._buffer.dropped += rest
        self._under_way = 0
        return rest

    def _report_rest(self) -> None:
        if rest := self._drop_rest():
            number = "1 record" if rest == 1 else f"{rest:,} records"
            self._worker.notify(f"{self._worker.what} has ended before it delivered {number}")
