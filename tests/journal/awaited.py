"""A journal across the network, played synchronously: each commit runs until the engine has it and the tail brought it.

The contract of journals is synchronous, and an awaited commit is not. What the two have in common is that nobody reads
a record before it is committed, and everybody afterwards; the tests of the contract see no more of it than that.
"""

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from relay.events import Level, Record
from relay.jobs.state import JobState, evolve
from relay.journal import Retention
from relay.journal.base import Kept, StoredJob
from relay.journal.redis import RedisJournal
from relay.journal.redis.journal import BATCH
from relay.journal.shared import Command, Draft, Entry, Fence

__all__ = ["AwaitedJournal"]

T = TypeVar("T")


class AwaitedJournal:
    """The journal *name* at *url*, of one node, which owns all of it. It has an event loop of its own."""

    commit_delay = 0.0

    def __init__(self, url: str, keep: Retention | None = None, *, name: str = "relay") -> None:
        self._loop = asyncio.new_event_loop()
        self._journal = RedisJournal(url, keep, name=name)
        self._received = asyncio.Event()
        self._pending: list[Record] = []
        self._jobs: dict[str, StoredJob] = {}
        self._number = 0
        self._closed = False
        self._recovered = self._run(self._open())

    async def _open(self) -> Sequence[StoredJob]:
        jobs = await self._journal.open()
        self._jobs = {job.id: job for job in jobs}
        leases = self._journal.leases
        claimed = await leases.claim(0, (await leases.view()).leases.get(0))
        assert claimed is not None
        self._fence = Fence(0, claimed.token)
        self._tail = asyncio.create_task(self._journal.run(self))
        return jobs

    # A receiver.

    def receive(self, entries: Sequence[Entry]) -> None:
        self._received.set()

    def begin_anew(self) -> None:
        raise AssertionError("the engine has lost nothing")

    def command(self, command: Command) -> None:
        raise AssertionError("nobody sends commands")

    # A journal.

    @property
    def epoch(self) -> str:
        return self._journal.epoch

    @property
    def head(self) -> int:
        return self._journal.head

    @property
    def kept(self) -> Kept:
        return self._journal.kept

    def append(self, record: Record, state: JobState | None = None) -> None:
        self._pending.append(record)

    def remember(self, job: str, key: str | None, digest: bytes) -> None:
        self._known(job, key=key, digest=digest)

    def remember_owner(self, job: str, owner: str) -> None:
        self._known(job, owner=owner)

    def commit(self) -> None:
        drafts = list(map(self._draft, self._pending))
        self._pending = []
        self._run(self._commit(drafts))

    def discard(self) -> None:
        self._pending.clear()

    def check(self) -> None:
        pass

    def recover(self) -> Sequence[StoredJob]:
        return self._recovered

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._run(self._close())
            self._loop.close()

    def read(
        self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512, level: Level = "debug"
    ) -> Sequence[Record]:
        return self._journal.read(after, jobs, limit=limit, level=level)

    def has_all_since(self, offset: int, jobs: Collection[str] | None = None) -> bool:
        return self._journal.has_all_since(offset, jobs)

    def keeps(self, job: str) -> bool:
        return self._journal.keeps(job) or any(record.job == job for record in self._pending)

    # Behind it.

    def _known(self, job: str, **what: Any) -> StoredJob:
        known = self._jobs.get(job) or StoredJob(id=job, state=JobState())
        self._jobs[job] = known = replace(known, **what)
        return known

    def _draft(self, record: Record) -> Draft:
        known = self._known(record.job)
        stored = self._known(record.job, state=evolve(known.state, record))
        return Draft(seq=record.seq, body=record.json, fence=self._fence, stored=stored)

    async def _commit(self, drafts: Sequence[Draft]) -> None:
        wanted = self.head + len(drafts)
        for start in range(0, len(drafts), BATCH):
            self._number += 1
            refused = await self._journal.append(self._number, drafts[start : start + BATCH])
            assert not any(refused), refused
        while self.head < wanted:
            self._received.clear()
            received = asyncio.ensure_future(self._received.wait())
            await asyncio.wait([received, self._tail], return_when=asyncio.FIRST_COMPLETED)
            received.cancel()
            assert not self._tail.done(), self._tail.exception()

    async def _close(self) -> None:
        self._tail.cancel()
        await asyncio.wait([self._tail])
        await self._journal.tidy()
        await self._journal.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)
