"""A durable sink that gets its records one after the other, or in batches."""

import math
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from msgspec.structs import replace

from relay.durable.reader import SAVE_AFTER, DurableReader, Works
from relay.durable.tail import SLICE, Tail
from relay.events import Record
from relay.queue import Worker
from relay.queue.counts import Breaker

__all__ = ["SerialReader"]


class SerialReader(DurableReader):
    """One delivery at a time, in order over all jobs: a failure holds back what follows, which stays in the journal.

    It is tried again without an end in time, unless the retries of the sink have a number of attempts. A batch that the
    far end will never accept is kept as dead letters, and those behind it go on.
    """

    def __init__(self, name: str, sink: Works, *args: Any, **options: Any) -> None:
        super().__init__(name, sink, *args, **options)
        self._most, self._gather_for = sink.batch or (1, 0.0)
        self._read: deque[Record] = deque()
        retries = replace(sink.retries, within=math.inf)
        self._worker = Worker(sink.work, retries=retries, timeout=sink.timeout)
        self._teller = None if sink.lost is None else Worker(sink.lost, retries=retries, timeout=sink.timeout)
        for worker in filter(None, (self._worker, self._teller)):
            worker.what, worker.clock, worker.notify = f"sink {name}", self._clock, self._notify

    @property
    def state(self) -> Breaker:
        return "open" if self.closed else self._worker.breaker

    @property
    def is_failing(self) -> bool:
        return any(worker.is_failing for worker in (self._worker, self._teller) if worker is not None)

    @property
    def in_hand(self) -> int:
        return len(self._read)

    async def run(self) -> None:
        tail = self._tail()
        self._read.clear()
        while not self.closed:
            self._news.clear()
            while len(self._read) < max(self._most, SLICE) and not tail.is_at_head:
                self._read.extend(self._note(tail.read()))
            if not self._read:
                self._move(tail.after)
                if self._draining:
                    return
                await self._deliver_revived()
                await self._rest()
            elif len(self._read) < self._most and not self._draining:
                await self._gather(tail)
            if self._read and not self.closed:
                await self._deliver(tail)

    async def _rest(self) -> None:
        """Wait for news; save the cursor meanwhile, if no commit does."""
        await self._pause(SAVE_AFTER)
        if not self._news.is_set():
            self._save(at_once=True)
            await self._pause(None)

    async def _gather(self, tail: Tail) -> None:
        """Wait for a batch to fill."""
        until = self._clock.monotonic() + self._gather_for
        while len(self._read) < self._most and not (self._draining or self.closed):
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            self._news.clear()
            await self._pause(left)
            while len(self._read) < self._most and not tail.is_at_head:
                self._read.extend(self._note(tail.read()))

    async def _deliver(self, tail: Tail) -> None:
        """Deliver the next batch, however long that takes; the cursor moves behind it."""
        if not await self._report_lost():
            return
        records = list(islice(self._read, self._most))
        if not await self._work(records):
            return
        for _ in records:
            self._read.popleft()
        self._move(records[-1].position.offset if self._read else tail.after)
        self._save(at_once=self._sink.batch is not None)

    async def _report_lost(self) -> bool:
        """Report its loss to the sink, in the place of that; return whether it goes on."""
        teller, owed = self._teller, self._owed
        if owed and teller is not None and await teller.deliver(owed, records=0) == "gone":
            self._gone()
        self._owed = 0
        return not self.closed

    async def _work(self, records: Sequence[Record]) -> bool:
        """Await the work for *records*; return whether they are done with."""
        outcome = await self._worker.deliver(records if self._sink.batch else records[0], records=len(records))
        match outcome:
            case "delivered":
                self._count(delivered=len(records))
            case "failed":
                now = self._clock.now().timestamp()
                self._parking.bury(self.name, records, attempts=1, since=now, due=now)
                self._count(failed=len(records))
            case "gone":
                self._gone()
        return not self.closed

    async def _deliver_revived(self) -> None:
        """Deliver what was a dead letter and is queued again, one record at a time."""
        while not self.closed and (revived := self._parking.heads(self.name, math.inf, 1)):
            record = revived[0].record
            if await self._work([record]):
                self._parking.unpark(self.name, record.position.offset, 0.0)
