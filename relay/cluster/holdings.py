"""The jobs of the shards that a node owns: it begins to poll them after a claim, and lets go of them after a loss."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

from relay.bus.bus import Bus
from relay.clock import Clock, rest
from relay.cluster.membership import Membership
from relay.errors import JournalError
from relay.jobs.registry import JobRegistry
from relay.jobs.state import Job
from relay.journal.base import StoredJob
from relay.journal.shared import Claimed, Fence, SharedJournal
from relay.notices import Notify, apart

__all__ = ["Holdings"]

CATCH_UP: Final = 0.02
"""Seconds between two looks whether the copy of the journal has reached the head of a claim."""

LOOKS: Final = 20
"""How many times in a lease it is looked whether this node may poll."""

PORTION: Final = 100
"""How many jobs are carried over with one script, and begun to be polled in one turn of the loop."""


class Holdings:
    """Which jobs this node polls: the running ones of the shards that its *membership* owns, while it may.

    The jobs of a claimed shard are polled once the copy of the journal has all that the previous owner appended. Those
    of a lost shard are let go at once, and their waiting records are dropped. Polling stops when the last renewal of
    the leases is so old that another node may claim them soon, and goes on when they are renewed. *take_up* and
    *let_go* begin and end the polls of one job; *busy* is what has to be over before a job is handed over.
    """

    def __init__(
        self,
        journal: SharedJournal,
        registry: JobRegistry,
        bus: Bus,
        membership: Membership,
        clock: Clock,
        notify: Notify,
        *,
        lease: float,
        take_up: Callable[[Job], object],
        let_go: Callable[[Job], object],
        busy: Callable[[Job], Awaitable[object] | None],
    ) -> None:
        self._journal = journal
        self._registry = registry
        self._bus = bus
        self._membership = membership
        self._clock = clock
        self._notify = notify
        self._lease = lease
        self._take_up = take_up
        self._let_go = let_go
        self._busy = busy
        self.caught_up: asyncio.Event = asyncio.Event()
        """Set while the jobs of all claimed shards are polled, or polling is paused."""
        self.caught_up.set()
        self._claims: dict[int, int] = {}
        self._taken: set[int] = set()
        self._again: set[Job] = set()
        self._paused = False
        self._epoch = ""
        self._before = 0
        self._news = asyncio.Event()
        self._shards: WeakKeyDictionary[Job, int] = WeakKeyDictionary()
        self._running: dict[int, dict[Job, None]] = {}
        self._counted_at = -math.inf
        self._seen: dict[int, tuple[str, Fence]] = {}

    def begin(self) -> None:
        """The journal is open, and its tail is about to be read."""
        self._epoch, self._before = self._journal.epoch, 0
        self._bus.when_begun_anew(self._note_epoch)

    def shard_of(self, job: Job) -> int:
        """The shard of *job*, which is on an upstream: it has a record, or is about to."""
        shard = self._shards.get(job)
        if shard is None:
            shard = self._membership.shards.of(job.id, self._bus.pending(job).upstream)
            self._shards[job] = shard
        return shard

    def has(self, shard: int) -> bool:
        """Whether this node polls the jobs of *shard* at present."""
        return not self._paused and shard in self._taken

    def polls(self, job: Job) -> bool:
        """Whether *job* is one of those that this node polls at present."""
        return self.has(self.shard_of(job))

    def note(self, job: Job) -> None:
        """A job has its first record, or its last: from now on it is one of the running ones of its shard, or not."""
        running = self._running.setdefault(self.shard_of(job), {})
        if job.ended:
            running.pop(job, None)
        else:
            running[job] = None

    def claimed(self, shard: int, claimed: Claimed) -> None:
        """This node owns *shard* from now on: its jobs are polled once the copy has reached the head of the claim."""
        self._claims[shard] = claimed.head
        self.caught_up.clear()
        self._news.set()

    def lost(self, shard: int) -> None:
        """This node does not own *shard* any more."""
        for job in self._drop({shard}):
            self._bus.withdraw(job)

    async def hand_over(self, shard: int) -> None:
        """Stop polling the jobs of *shard*, and return once all that was published of them is in the journal."""
        self._drop({shard})
        for job in [job for job in self._registry if not job.ended and self.shard_of(job) == shard]:
            if (work := self._busy(job)) is not None:
                await work
            await self._bus.settled(job)

    def refused(self, job: Job, reason: str) -> None:
        """The journal has refused records of *job*: what waited of it is dropped, and its state is as it was read."""
        apart(partial(self._let_go, job), f"letting go of {job.id}", self._notify)
        state = self._bus.pending(job)
        if reason == "fenced" and self._membership.fence(job.id, state.upstream) is not None:
            self._membership.lost(self.shard_of(job))
        else:
            self.take_up_soon(job)

    def take_up_soon(self, job: Job) -> None:
        """Poll *job*, if this node owns it, though its shard was polled before."""
        self._again.add(job)
        self._news.set()

    async def carry_over(self, epoch: str) -> None:  # noqa: ARG002 - the journal knows its epoch
        """Append to a new epoch what it lacks of the jobs of this node. Raises JournalError; it may be repeated."""
        await self._carry_over(self._membership.owned | self._claims.keys() | self._taken)

    async def run(self) -> None:
        """Take up and pause, until this is cancelled."""
        while True:
            self._news.clear()
            if self._count_anew():
                await self._carry_over_for_others()
            self._pause_or_go_on()
            soon = not self._paused and await self._take_up_what_is_due() and bool(self._claims)
            if self._paused or not self._claims:
                self.caught_up.set()
            await rest(self._clock, CATCH_UP if soon else self._lease / LOOKS, self._news)

    def _count_anew(self) -> bool:
        """Look at all jobs once in a lease, and return whether this was it: a new epoch may have set the state of one
        back, behind its end.
        """
        if (now := self._clock.monotonic()) < self._counted_at + self._lease:
            return False
        self._counted_at, self._running = now, {}
        for job in self._registry:
            if job.state.seq and not job.ended:
                self.note(job)
        return True

    def _pause_or_go_on(self) -> None:
        pause = self._membership.problem is not None
        if pause and not self._paused:
            self._paused = True
            for job in self._jobs_of(self._taken):
                self._let_go(job)
        elif self._paused and not pause:
            self._paused = False
            self._claims |= dict.fromkeys(self._taken, 0)

    async def _take_up_what_is_due(self) -> bool:
        """Take up the shards whose claim the copy has reached; return whether the journal could be used for that."""
        head = self._journal.head
        due = {shard for shard, claimed in self._claims.items() if claimed <= head}
        again, self._again = {job for job in self._again if self.shard_of(job) in self._taken}, set[Job]()
        if not due and not again:
            return True
        try:
            await self._carry_over(due | set(map(self.shard_of, again)))
        except JournalError:
            self._again |= again
            return False
        due &= self._claims.keys()  # shards that were lost meanwhile are left out
        for shard in due:
            del self._claims[shard]
        self._taken |= due
        for number, job in enumerate([*self._jobs_of(due), *again], 1):
            if self.polls(job) and not job.ended:
                apart(partial(self._take_up, job), f"taking up {job.id}", self._notify)
            if number % PORTION == 0:
                await self._clock.sleep(0)
        return True

    def _note_epoch(self) -> None:
        """All offsets up to the head at which an epoch begins are of an earlier one."""
        if self._journal.epoch != self._epoch:
            self._epoch, self._before = self._journal.epoch, self._journal.head

    async def _carry_over(self, shards: Collection[int]) -> None:
        """In a new epoch, append the states that it lacks. The journal keeps the first state of each job."""
        for jobs in self._lacking(shards).values():
            for start in range(0, len(jobs), PORTION):
                fence = self._membership.fence(jobs[0].id, jobs[0].state.upstream)
                if fence is None or not await self._journal.carry_over(fence, jobs[start : start + PORTION]):
                    break

    async def _carry_over_for_others(self) -> None:
        """Append what the epoch still lacks of other nodes' shards, whose owners have had a lease's time for it.

        An owner that began behind the loss knows no job of before, so nobody would go on with those of a node that
        ended with the data.
        """
        if not self._before:
            return
        epoch, shards = self._epoch, range(self._membership.shards.count)
        fences = {shard: fence for shard in shards if (fence := self._membership.fence_of_another(shard)) is not None}
        before, self._seen = self._seen, {shard: (epoch, fence) for shard, fence in fences.items()}
        unchanged = {shard for shard, seen in self._seen.items() if before.get(shard) == seen}
        try:
            for shard, jobs in self._lacking(unchanged).items():
                for start in range(0, len(jobs), PORTION):
                    if self._journal.epoch != epoch:
                        return  # a new one meanwhile: its owners have had no time yet
                    if not await self._journal.carry_over(fences[shard], jobs[start : start + PORTION]):
                        break
        except JournalError:
            """The journal reports why; the next look comes within a lease."""

    def _lacking(self, shards: Collection[int]) -> dict[int, list[StoredJob]]:
        """What the epoch lacks of the jobs of *shards*, by shard.

        Jobs that ended in an earlier epoch are among them, and come last in their shard: another node may not have read
        that end, and every node forgets an ended job of which the journal has neither a record nor a state.
        """
        lacking: dict[int, list[StoredJob]] = {}
        for job in sorted(self._registry, key=lambda job: job.ended):
            lost = job.state.offset <= self._before if job.ended else job.state.seq > 0
            if lost and self.shard_of(job) in shards and not self._journal.states(job.id):
                lacking.setdefault(self.shard_of(job), []).append(self.stored(job))
        return lacking

    def stored(self, job: Job) -> StoredJob:
        """*job* as the journal keeps it."""
        key, digest = self._registry.key_of(job)
        return StoredJob(id=job.id, state=job.state, key=key, digest=digest, owner=job.owner)

    def _drop(self, shards: Collection[int]) -> list[Job]:
        """Poll the jobs of *shards* no longer, and return them."""
        for shard in shards:
            self._claims.pop(shard, None)
            self._taken.discard(shard)
        jobs = self._jobs_of(shards)
        for job in jobs:
            apart(partial(self._let_go, job), f"letting go of {job.id}", self._notify)
        return jobs

    def _jobs_of(self, shards: Collection[int]) -> list[Job]:
        """The running jobs of *shards*, without those whose first record waits: their caller does."""
        return [job for shard in shards for job in self._running.get(shard, ()) if job.state.seq and not job.ended]
