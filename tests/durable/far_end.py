"""A far end that is up or down, refuses jobs, holds answers back, and remembers what it got."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from relay.durable import DurableReader, durable_reader
from relay.events import Record
from relay.journal import Retention, SqliteJournal
from relay.queue import Retries
from relay.testing import ManualClock
from tests.journal.telling import Teller

__all__ = ["QUICK", "FarEnd", "House", "follows", "house"]

QUICK = Retries(within=1_000.0, base=1.0, cap=10.0)


class FarEnd:
    """Is a sink with `work`; *lanes*, *batch* and *retries* are those of the sink."""

    def __init__(
        self, *, lanes: int = 0, batch: tuple[int, float] | None = None, retries: Retries = QUICK, timeout: float = 15.0
    ) -> None:
        self.lanes = lanes
        self.batch = batch
        self.retries = retries
        self.timeout = timeout
        self.got: list[Record] = []
        self.batches: list[int] = []
        self.losses: list[tuple[int, int]] = []
        self.attempts: Counter[str] = Counter()
        self.down: BaseException | None = None
        self.refused: dict[str, BaseException] = {}
        self.held: asyncio.Event | None = None
        self.under_way: Counter[str] = Counter()
        self.most_under_way = 0

    async def work(self, given: Record | list[Record]) -> None:
        records = given if isinstance(given, list) else [given]
        for record in records:
            self.attempts[record.job] += 1
            self.under_way[record.job] += 1
            assert self.batch or self.under_way[record.job] == 1, "two deliveries of one job at once"
        self.most_under_way = max(self.most_under_way, self.under_way.total())
        try:
            await asyncio.sleep(0)
            if self.held is not None:
                await self.held.wait()
            if self.down is not None:
                raise self.down
            for record in records:
                if record.job in self.refused:
                    raise self.refused[record.job]
        finally:
            for record in records:
                self.under_way[record.job] -= 1
        self.got += records
        self.batches.append(len(records))

    async def lost(self, number: int) -> None:
        if self.down is not None:
            raise self.down
        self.losses.append((len(self.got), number))

    @property
    def offsets(self) -> list[int]:
        return [record.position.offset for record in self.got]

    def seqs(self, job: str) -> list[int]:
        return [record.seq for record in self.got if record.job == job]


class House:
    """A journal, and readers of it that run as tasks, as in a relay."""

    def __init__(self, path: Path, keep: Retention | None, clock: ManualClock) -> None:
        self.clock = clock
        self.notices: list[str] = []
        self.journal = SqliteJournal(path, keep, notify=self.notices.append)
        self.teller = Teller(self.journal)
        self.readers: list[DurableReader] = []

    def reader(self, sink: Any, name: str = "hook", start: int = 0) -> DurableReader:
        return durable_reader(
            name,
            sink,
            self.journal,
            clock=self.clock,
            notify=self.notices.append,
            wanted=lambda record: record.event.level != "warning",
            start=start,
        )

    @asynccontextmanager
    async def running(self, sink: Any, name: str = "hook", start: int = 0) -> AsyncGenerator[DurableReader]:
        """A reader that runs. In the end it is cancelled, and its cursor not saved, as if the process were killed."""
        reader = self.reader(sink, name, start)
        self.readers.append(reader)
        task = asyncio.create_task(reader.run())
        try:
            await self.settled()
            yield reader
            if task.done():
                task.result()  # it has died, and that is what the test is about
        finally:
            self.readers.remove(reader)
            task.cancel()
            await asyncio.wait([task])
            self.journal.cursors.release(name)

    async def tell(self, jobs: Iterable[str]) -> list[Record]:
        """Commit a record for each of *jobs*, and return once everybody has done with them what can be done now."""
        records = self.teller.tell(jobs)
        await self.settled()
        return records

    async def settled(self, seconds: float = 0.0) -> None:
        for reader in self.readers:
            reader.wake()
        await self.clock.advance(seconds)
        before = None
        # The clock waits for a number of turns at most, and that may be too few for all that there is to do.
        while before != (before := [(reader.cursor, reader.in_hand, reader.counts()) for reader in self.readers]):
            await self.clock.advance(0.0)

    def cursor(self, name: str = "hook") -> int:
        return next(cursor.offset for cursor in self.journal.cursors.all() if cursor.name == name)


@contextmanager
def house(path: Path, keep: Retention | None = None, clock: ManualClock | None = None) -> Generator[House]:
    opened = House(path, keep, clock or ManualClock())
    with closing(opened.journal):
        yield opened


def follows(seqs: Iterable[int], without: frozenset[int] = frozenset()) -> bool:
    """Whether *seqs*, all of one job, are in order, each at least once, and go back only to repeat from there on."""
    last, reached = 0, 0
    for seq in seqs:
        if any(skipped not in without for skipped in range(last + 1, seq)):
            return False
        last, reached = seq, max(reached, seq)
    return last == reached
