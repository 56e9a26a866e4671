"""Appends what one node publishes to the journal that it shares: a batch at a time, each of them once."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from msgspec.structs import replace

from relay.bus.histogram import Histogram
from relay.bus.outbox import Outbox, Waiting
from relay.bus.pending import Key
from relay.bus.sharing import Sharing, TakenError
from relay.bus.writer import unavailable
from relay.clock import Clock
from relay.errors import JournalError
from relay.events import Event, Position, Record
from relay.jobs.state import Job, evolve
from relay.journal.shared import Draft, Fence, Refusal, SharedJournal
from relay.notices import Notify, apart, describe
from relay.wire.record_json import stamped

__all__ = ["SharedWriter"]

MOST_SECONDS: Final = 2.0
"""How long the oldest record may wait before polling pauses."""

SHORTEST, LONGEST = 0.1, 1.0
"""Seconds before a batch is sent again; the time doubles with each failure."""

APPEND_BOUNDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0)
"""Seconds: a batch takes 0.5 ms on an engine near by, and one that stands still is given up on after three seconds."""

FENCED: Final = Refusal("fenced")


class _Batch(NamedTuple):
    number: int
    waiting: Sequence[Waiting]
    drafts: Sequence[Draft]


class SharedWriter:
    """Sends the drafts of its *pending* outbox, oldest first, with one batch in flight, while `run` runs.

    A batch keeps its number until its outcome is known, also if `run` is cancelled and run again, so the journal has it
    once. An acknowledged draft waits on, until the tail of the journal has brought it; `begin_anew` lets all that wait
    be sent again. The drafts of a job that is refused are dropped, those of other jobs go on.
    """

    def __init__(self, journal: SharedJournal, sharing: Sharing, clock: Clock, notify: Notify, outbox: Outbox) -> None:
        self._journal = journal
        self._sharing = sharing
        self._clock = clock
        self._notify = notify
        self.pending: Outbox = outbox
        self.commit_times: Histogram = Histogram(APPEND_BOUNDS)
        """The seconds of each batch whose outcome became known at the first try."""
        self.problem: str | None = None
        """Why the journal cannot be written, while it cannot: one sentence that says what to do."""
        self.blocked: asyncio.Event = asyncio.Event()
        """Set while the journal cannot be written."""
        self.room: asyncio.Event = asyncio.Event()
        """Set while there is room for more drafts; polling waits for it."""
        self.room.set()
        self._work = asyncio.Event()
        self._batch: _Batch | None = None
        self._number = 0
        self._epochs = 0
        self._carried_over = 0
        self._failures = 0

    def append(
        self,
        job: Job,
        event: Event,
        *,
        key: Key | None = None,
        unique: str = "",
        answered: float | None = None,
        accepted: "asyncio.Future[Record] | None" = None,
    ) -> Record:
        """Make *event* the next record of *job*, to be appended by `run`; its offset is 0, as long as it waits."""
        before = self.pending.state(job)
        position = Position(self._journal.epoch, 0)
        record, text = stamped(job.id, before.seq + 1, self._clock.now(), event, position)
        state, now = evolve(before, record, text), self._clock.monotonic()
        self.pending.add(Waiting(job, record, state, now, key=key, unique=unique, answered=answered, accepted=accepted))
        self._work.set()
        self.review()
        return record

    def withdraw(self, job: str) -> None:
        """Drop what waits of *job*, which this node has let go; a caller that waits for its acceptance is refused."""
        self._dropped(self.pending.withdraw(job), unavailable())

    def begin_anew(self) -> None:
        """The journal has a new epoch: all drafts are sent again there, behind the states that are carried over."""
        self._epochs += 1
        self._batch = None
        self.pending.begin_anew()
        self._recovered()
        self.review()
        self._work.set()

    async def run(self) -> None:
        """Append what waits, until this is cancelled. A batch in flight is settled when this is run again."""
        while True:
            await self._work.wait()
            epochs = self._epochs
            try:
                await self._advance()
            except JournalError as error:
                reason = str(error)
            except Exception as error:
                reason = f"the journal cannot be used: {describe(error)}"
            else:
                continue
            if epochs == self._epochs:
                self._failed(reason)
                await self._clock.sleep(self._delay())

    def review(self) -> None:
        """Say whether there is room, after what waits has changed."""
        since, pending = self.pending.since, self.pending
        late = since is not None and self._clock.monotonic() - since > MOST_SECONDS
        if not self.room.is_set():
            if pending.half_empty and not late:
                self.room.set()
        elif late or pending.full:
            self.room.clear()
            self._notify(f"{len(pending):,} records wait for the journal; polling pauses until it can be written")

    async def _advance(self) -> None:
        """Take the next step: carry over, form a batch, or send it."""
        epochs = self._epochs
        if self._carried_over != epochs:
            await self._sharing.before_append(self._journal.epoch)
            self._carried_over = epochs
            return self._recovered()
        if self._batch is None:
            self._batch = self._next_batch()
        if self._batch is None:
            self._work.clear()
            return self._recovered()
        batch, first_try, began = self._batch, not self._failures, self._clock.monotonic()
        answers = await self._journal.append(batch.number, batch.drafts)
        if self._batch is not batch:
            return None  # a new epoch has begun meanwhile, where all of it is sent again
        self._batch = None
        if first_try:
            self.commit_times.observe(self._clock.monotonic() - began)
        self._recovered()
        return self._settle(batch, answers)

    def _next_batch(self) -> _Batch | None:
        while oldest := self.pending.next():
            fenced = [(waiting, self._sharing.fence(waiting.job.id, waiting.state.upstream)) for waiting in oldest]
            drafts = [self._draft(waiting, fence) for waiting, fence in fenced if fence is not None]
            batch = [waiting for waiting, fence in fenced if fence is not None]
            self.pending.sent(batch)
            self.refuse({waiting.job.id: FENCED for waiting, fence in fenced if fence is None})
            if batch:
                self._number += 1
                return _Batch(self._number, batch, drafts)
        return None

    def _draft(self, waiting: Waiting, fence: Fence) -> Draft:
        stored = replace(self._sharing.stored(waiting.job), state=waiting.state)
        if waiting.key is not None:
            stored = replace(stored, key=waiting.key[0], digest=waiting.key[1])
        record = waiting.record
        return Draft(seq=record.seq, body=record.json, fence=fence, stored=stored, unique=waiting.unique)

    def _settle(self, batch: _Batch, answers: Iterable[Refusal | None]) -> None:
        refused: dict[str, Refusal] = {}
        for waiting, refusal in zip(batch.waiting, answers, strict=True):
            if refusal is None:
                self.pending.acknowledged(waiting)
            elif self.pending.waits(waiting):
                refused.setdefault(waiting.job.id, refusal)
        self.refuse(refused)

    def _dropped(self, dropped: Iterable[Waiting], error: Exception) -> None:
        for waiting in dropped:
            if waiting.accepted is not None and not waiting.accepted.done():
                waiting.accepted.set_exception(error)
        self.review()

    def refuse(self, refused: dict[str, Refusal]) -> None:
        """Drop what waits of these jobs, and let the node know of those that it has: a new job has a caller instead."""
        lost, count = list[tuple[Job, str]](), 0
        for job, refusal in refused.items():
            dropped = self.pending.refuse(job)
            self._dropped(dropped, TakenError(refusal.job) if refusal.reason == "taken" else unavailable())
            if dropped := [waiting for waiting in dropped if waiting.accepted is None]:
                lost.append((dropped[0].job, refusal.reason))
                count += len(dropped)
        if lost:
            self._notify(
                f"{count:,} records of {len(lost):,} jobs are dropped: the journal has refused them, since another node"
                " polls these jobs by now"
            )
        for job_lost, reason in lost:
            apart(partial(self._sharing.refused, job_lost, reason), f"to let go of {job_lost.id}", self._notify)

    def _failed(self, reason: str) -> None:
        known, self.problem = self.problem, f"{reason}; records wait in memory until it can be written"
        if known is None:
            self._notify(self.problem)
        self._failures += 1
        self.blocked.set()
        self.review()

    def _recovered(self) -> None:
        self._failures = 0
        if self.problem is not None:
            self.problem = None
            self.blocked.clear()
            self._notify("the journal can be written again")
        self.review()

    def _delay(self) -> float:
        longest = min(LONGEST, SHORTEST * 2.0 ** (self._failures - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
