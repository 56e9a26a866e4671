"""Buses on nodes of one engine, each with the little that the rest of a node does for its bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from relay.bus.bus import Bus
from relay.bus.sharing import Sharing
from relay.clock import Clock
from relay.events import Accepted, Event, Log, Record
from relay.jobs.state import Job
from relay.journal.base import StoredJob
from relay.journal.shared import Command, Fence, SharedJournal
from relay.testing import ManualClock

__all__ = ["Node", "running"]


class Node:
    """A bus on *journal* whose node owns shard 0 once it has claimed it; every job is of that shard."""

    def __init__(self, journal: SharedJournal, clock: Clock | None = None) -> None:
        self.journal = journal
        self.clock: Clock = clock or ManualClock()
        self.notices: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.unattended: list[Job] = []
        self.commands: list[Command] = []
        self.carried_over: list[str] = []
        self.jobs: dict[str, Job] = {}
        self.held: Fence | None = None
        self.fences: dict[str, Fence] = {}
        """In place of `held`, for the jobs of these names."""
        self.records: list[tuple[bool, Record]] = []
        """Each record that was sent, and whether this node had appended it."""
        self.bus: Bus = Bus(
            journal,
            clock=self.clock,
            notify=self.notices.append,
            sharing=Sharing(
                fence=lambda job, _: self.fences.get(job, self.held),
                find=self.jobs.get,
                learn=self._learn,
                stored=lambda job: StoredJob(id=job.id, state=job.state, owner=job.owner),
                before_append=self._carry_over,
                refused=lambda job, reason: self.refused.append((job.id, reason)),
                unattended=self.unattended.append,
                command=self.commands.append,
            ),
        )
        self._changed = asyncio.Event()
        self.bus.subscribe(self._receive)
        self.begun: list[str] = []
        """The epochs that began while this node ran; `carried_over` has those in which it may append."""
        self.gaps: int = 0
        """How often the copy went on behind a gap in one epoch."""
        self._epoch = ""
        self.bus.when_begun_anew(self._begin_anew)

    async def open(self) -> None:
        for stored in await self.journal.open():
            self._learn(stored)
        self._epoch = self.journal.epoch

    async def claim(self) -> None:
        """Become the owner of shard 0, in place of any other."""
        claimed = await self.journal.leases.claim(0, (await self.journal.leases.view()).leases.get(0))
        assert claimed is not None
        self.held = Fence(0, claimed.token)

    def job(self, name: str, owner: str = "") -> Job:
        """The job called *name*, known to this node."""
        return self.jobs.setdefault(name, Job(name, owner=owner))

    def begin(self, name: str) -> Job:
        job = self.job(name)
        self.bus.publish(job, Accepted(upstream="u", task=name))
        return job

    def say(self, job: Job, *lines: str) -> None:
        for line in lines:
            self.bus.publish(job, Log(line=line))

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once *condition* holds; it is looked at with each record and each new epoch."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def received(self, count: int) -> list[Record]:
        """The records that were sent, once there are *count*."""
        await self.until(lambda: len(self.records) >= count)
        return [record for _, record in self.records]

    def events(self) -> list[tuple[str, int, Event]]:
        return [(record.job, record.seq, record.event) for _, record in self.records]

    def _begin_anew(self) -> None:
        if self.journal.epoch == self._epoch:
            self.gaps += 1
        else:
            self._epoch = self.journal.epoch
            self.begun.append(self._epoch)
        self._changed.set()

    def _receive(self, record: Record) -> None:
        self.records.append((self.bus.own, record))
        self._changed.set()

    def _learn(self, stored: StoredJob) -> Job:
        job = self.jobs[stored.id] = Job(stored.id, stored.state, stored.owner)
        return job

    async def _carry_over(self, epoch: str) -> None:
        """If this node is the owner, be it again, whatever lease was lost or has come back; append all states."""
        if self.held is not None:
            await self.claim()
            await self._carry_over_all(self.held)
        self.carried_over.append(epoch)
        self._changed.set()

    async def _carry_over_all(self, fence: Fence) -> None:
        jobs = [StoredJob(id=job.id, state=job.state, owner=job.owner) for job in self.jobs.values() if job.state.seq]
        if not await self.journal.carry_over(fence, jobs):
            self.held = None


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """Run the buses of *nodes*, which are open."""
    tasks = [asyncio.ensure_future(node.bus.run()) for node in nodes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for node in nodes:
            await node.bus.close()
