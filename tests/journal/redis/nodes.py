"""Nodes of a cluster, in one process, over a real engine: what they append, and what each of them receives."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from relay.errors import JournalError
from relay.events import Accepted, Done, Event, Log, Position
from relay.jobs.state import JobState, evolve
from relay.journal import Retention
from relay.journal.base import StoredJob
from relay.journal.redis import RedisJournal
from relay.journal.shared import Command, Draft, Entry, Fence, Refusal
from relay.wire.record_json import stamp

__all__ = ["Node", "Story", "joined", "running"]

_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Story:
    """The drafts of one job, one after the other, as a bus makes them."""

    def __init__(
        self, job: str, fence: Fence, *, unique: str = "", key: str | None = None, digest: bytes = b"", owner: str = ""
    ) -> None:
        self.fence = fence
        self.unique = unique
        self.stored = StoredJob(id=job, state=JobState(), key=key, digest=digest, owner=owner)

    def next(self, event: Event | None = None) -> Draft:
        job, seq = self.stored, self.stored.state.seq + 1
        event = event or (Accepted(upstream="u", task="t") if seq == 1 else Log(line=f"line {seq}"))
        record = stamp(job.id, seq, _AT + timedelta(seconds=seq), event, Position("", 0))
        self.stored = StoredJob(
            id=job.id, state=evolve(job.state, record), key=job.key, digest=job.digest, owner=job.owner
        )
        unique = self.unique if seq == 1 else ""
        return Draft(seq=seq, body=record.json, fence=self.fence, stored=self.stored, unique=unique)

    def end(self) -> Draft:
        return self.next(Done(urls=("https://a/b.mp4",)))

    def take(self, count: int) -> list[Draft]:
        return [self.next() for _ in range(count)]


class Node:
    """A journal with its receiver, which keeps all that it gets; `run` has its tail read."""

    def __init__(self, journal: RedisJournal, url: str, notices: list[str]) -> None:
        self.journal = journal
        self.url = url
        self.notices = notices
        self.jobs: Sequence[StoredJob] = ()
        self.entries: list[Entry] = []
        self.commands: list[Command] = []
        self.begun: list[tuple[str, int]] = []
        self.number = 0
        self._changed = asyncio.Event()

    # A receiver.

    def receive(self, entries: Sequence[Entry]) -> None:
        self.entries += entries
        self._changed.set()

    def begin_anew(self) -> None:
        self.begun.append((self.journal.epoch, self.journal.head))
        self._changed.set()

    def command(self, command: Command) -> None:
        self.commands.append(command)
        self._changed.set()

    # What tests do with it.

    async def until(self, holds: Callable[[], object]) -> None:
        """Return once *holds* does, which is asked after each thing that is received."""
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def own(self, shard: int = 0) -> Fence:
        """Claim *shard*, whoever has it."""
        leases = self.journal.leases
        claimed = await leases.claim(shard, (await leases.view()).leases.get(shard))
        assert claimed is not None
        return Fence(shard, claimed.token)

    async def append(self, *drafts: Draft) -> Sequence[Refusal | None]:
        """Append *drafts* as a bus does: with one number until the outcome is known."""
        self.number += 1
        while True:
            try:
                return await self.journal.append(self.number, drafts)
            except JournalError:
                await asyncio.sleep(0.05)

    def offsets(self) -> list[int]:
        return [entry.offset for entry in self.entries]

    def seqs(self, job: str) -> list[int]:
        return [entry.record.seq for entry in self.entries if entry.record is not None and entry.record.job == job]


@asynccontextmanager
async def joined(
    url: str, name: str = "node", *, keep: Retention | None = None, run: bool = True, **options: Any
) -> AsyncIterator[Node]:
    """A node that is open; its tail reads, unless *run* is false."""
    notices: list[str] = []
    journal = RedisJournal(url, keep, node=name, notify=notices.append, **options)
    node = Node(journal, url, notices)
    try:
        node.jobs = await journal.open()
        if run:
            async with running(node):
                yield node
        else:
            yield node
    finally:
        await journal.close()


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[None]:
    """The tail of *node* reads meanwhile."""
    tail = asyncio.create_task(node.journal.run(node))
    try:
        yield
    finally:
        tail.cancel()
        await asyncio.wait([tail])
        assert tail.cancelled(), tail.exception()
