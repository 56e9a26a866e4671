"""A bus on a journal that several nodes share: a record is published when the tail of the journal brings it."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Final

from msgspec.structs import replace

from relay.bus.outbox import Outbox, Stage, Waiting
from relay.bus.pending import Key, PendingRecord
from relay.bus.shared_writer import SharedWriter
from relay.bus.sharing import Sharing
from relay.bus.writer import unavailable
from relay.clock import Clock, wait_within
from relay.events import Accepted, Event, Failed, Record
from relay.jobs.state import Job, JobState, evolve
from relay.journal.base import StoredJob
from relay.journal.shared import Command, Entry, Refusal, SharedJournal
from relay.notices import Notify, apart

__all__ = ["ACCEPT_WITHIN", "SharedSide"]

ACCEPT_WITHIN: Final = 5.0
"""Seconds after which a caller with new work gets UnavailableError, while it is not known what became of it."""

SETTLE_WITHIN: Final = 5.0
ONE_MORE_TRY: Final = 1.0
"""Seconds that an orderly end waits for what is under way: in ordinary times, and while the journal has a problem."""

CANCEL_AGAIN: Final = 0.05
"""Seconds after which a task that goes on is cancelled again."""

LOST: Final = (
    f"the journal did not confirm this job within {ACCEPT_WITHIN:g} s, so its caller was refused; nothing was submitted"
)


class _Arrivals:
    """The outcome of some entries: records to send, each with whether this node appended it, and their consequences.

    *broken*: some job has another state than the one here, so that its next record does not follow on what was sent.
    """

    def __init__(self) -> None:
        self.records: list[tuple[bool, PendingRecord]] = []
        self.refused: dict[str, Refusal] = {}
        self.ending: list[Job] = []
        self.unattended: list[Job] = []
        self.broken: bool = False


class SharedSide:
    """Publishes through *journal*, and receives from it; the `relay.journal.shared.Receiver` of a bus.

    The tail brings the records of all nodes, this one's too, in the order of their offsets. `Job.state` follows it, and
    *send* is called with what it brings. Nothing else reaches a sink.
    """

    def __init__(
        self,
        journal: SharedJournal,
        sharing: Sharing,
        clock: Clock,
        notify: Notify,
        send: Callable[[Sequence[PendingRecord], bool], None],
        sent: Callable[[bool], object],
    ) -> None:
        """*sent* is called behind all that the tail brings at once: see `Distributor.when_sent`."""
        self.journal = journal
        self._sharing = sharing
        self._clock = clock
        self._notify = notify
        self._send = send
        self._sent = sent
        self._settling: dict[str, asyncio.Event] = {}
        self._empty = asyncio.Event()
        self.writer: SharedWriter = SharedWriter(journal, sharing, clock, notify, Outbox(self._settled))
        self._listeners: dict[Callable[[], object], None] = {}
        self._running = False
        self.sent: int = 0
        """How many records of all nodes were sent here."""
        self.breaks: int = 0
        """How often the listeners were called."""
        self._epoch = ""

    # Publishing.

    def begin(self) -> None:
        """A batch begins: nothing is sent before its end, since sending takes another turn of the loop."""

    def end(self, *, deferrable: bool, linger: float = 0.0) -> None:
        """A batch ends."""

    def appended(self) -> None:
        """A record waits: the writer knows."""

    def check(self) -> None:
        """Do nothing: the engine looks after its data."""

    async def accept(self, job: Job, event: Event, key: Key | None, unique: str) -> Record:
        """Append the first record of *job*; return it once it was sent here. Raises as `Bus.accept` does."""
        if self.problem is not None:
            raise unavailable()
        accepted: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        accepted.add_done_callback(_looked_at)
        self.writer.append(job, event, key=key, unique=unique, accepted=accepted)
        await wait_within(self._clock, ACCEPT_WITHIN, accepted)
        if not accepted.done():
            self._give_up(job)
            raise unavailable()
        return accepted.result()

    async def settled(self, job: Job) -> None:
        """Return once nothing of *job* waits: the tail has brought it, or it was dropped."""
        while self.writer.pending.oldest(job.id) is not None:
            await self._settling.setdefault(job.id, asyncio.Event()).wait()

    async def drained(self) -> None:
        """Return once nothing waits, or cannot be had soon: at once where `run` does not run."""
        if self._running and self.writer.pending:
            self._empty.clear()
            within = SETTLE_WITHIN if self.problem is None else ONE_MORE_TRY
            empty = asyncio.ensure_future(self._empty.wait())
            try:
                await wait_within(self._clock, within, empty)
            finally:
                empty.cancel()

    def withdraw(self, job: Job) -> None:
        """Drop the waiting records of *job*. The tail may still bring those that are in flight."""
        self.writer.withdraw(job.id)

    @property
    def problem(self) -> str | None:
        """Why the journal cannot be written or read at present."""
        return self.writer.problem or self.journal.problem

    async def run(self) -> None:
        """Append and receive, until this is cancelled."""
        self._epoch = self._epoch or self.journal.epoch
        appending = asyncio.create_task(self.writer.run(), name="append to the journal")
        reading = asyncio.create_task(self.journal.run(self), name="read the tail of the journal")
        self._running = True
        try:
            ended, _ = await asyncio.wait([appending, reading], return_when=asyncio.FIRST_COMPLETED)
            ended.pop().result()
        finally:
            self._running = False
            await _end(appending, reading)

    async def close(self) -> None:
        """Close the journal, and notify the operator of records that it does not have as far as is known."""
        if lost := self.writer.pending.unknown:
            self._notify(f"{lost:,} records that waited for the journal were not appended, as far as is known")
        await self.journal.close()

    def when_begun_anew(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call *listener* whenever readers may have missed entries, until the returned function is called.

        So they have in a new epoch, behind entries that could not be read, and where an owner has carried over another
        state of its job than the one here. The journal lacks something since every cursor before that.
        """
        self._listeners[listener] = None

        def leave() -> None:
            self._listeners.pop(listener, None)

        return leave

    # What the journal passes on.

    def receive(self, entries: Sequence[Entry]) -> None:
        """Fold the records of *entries* into their jobs, and send them."""
        arrivals = _Arrivals()
        for entry in entries:
            apart(partial(self._take, entry, arrivals), f"entry {entry.offset} of the journal", self._notify)
        self.writer.refuse(arrivals.refused)
        self.writer.review()
        if arrivals.broken:  # before anything behind it is sent, or a reader might pass over it
            self._notify_listeners()
        self.sent += len(arrivals.records)
        try:
            for own, records in groupby(arrivals.records, itemgetter(0)):
                self._send([record for _, record in records], own)
        finally:
            self._sent(True)
        for job in arrivals.unattended:
            apart(partial(self._sharing.unattended, job), f"taking up {job.id}", self._notify)
        for job in arrivals.ending:
            if not job.ended:
                self.writer.append(job, Failed(kind="lost", message=LOST))

    def begin_anew(self) -> None:
        """Readers may have missed entries. In a new epoch all that waits is sent again."""
        if self._epoch != self.journal.epoch:
            self._epoch = self.journal.epoch
            self.writer.begin_anew()
        self._notify_listeners()

    def command(self, command: Command) -> None:
        """Pass a command on."""
        apart(lambda: self._sharing.command(command), f"command {command.op!r}", self._notify)

    def _take(self, entry: Entry, arrivals: _Arrivals) -> None:
        record = entry.record
        if record is None:
            if entry.stored is not None:
                self._carry_over(entry, entry.stored, arrivals)
            return
        job = self._sharing.find(record.job) or self._sharing.learn(_begun(record.job, entry.stored))
        if is_news := entry.offset > job.state.offset:
            job.state = evolve(job.state, record)
        own, answered, waiting = entry.node == self.journal.node, None, self.writer.pending.oldest(record.job)
        if waiting is not None and own and waiting.record.json == record.json:
            answered = waiting.answered
            self._arrived(waiting, job, record, arrivals)
        elif waiting is not None and is_news:
            arrivals.refused[record.job] = Refusal("fenced")
        arrivals.records.append((own, PendingRecord(job, record, job.state, answered=answered)))

    def _arrived(self, waiting: Waiting, job: Job, record: Record, arrivals: _Arrivals) -> None:
        """A draft of this node is in the journal, also if the outcome of its batch is not known yet."""
        self.writer.pending.delivered(waiting)
        if waiting.ends:
            # A task exists, whatever its caller was answered; a submission was never begun.
            follows = isinstance(record.event, Accepted) and record.event.task is not None
            (arrivals.unattended if follows else arrivals.ending).append(job)
        if waiting.accepted is not None and not waiting.accepted.done():
            waiting.accepted.set_result(record)

    def _carry_over(self, entry: Entry, stored: StoredJob, arrivals: _Arrivals) -> None:
        """Take over the state of a job, as a node has carried it over, or as it is behind entries that are gone.

        In a new epoch it may be older than what was read here: the difference is lost. One of no node comes behind a
        gap, of which the listeners know, and may be newer than the next entries.
        """
        offset = entry.offset if entry.node else stored.state.offset
        known = self._sharing.find(stored.id)
        job, outbox = known or self._sharing.learn(stored), self.writer.pending
        if known is None or offset > known.state.offset:
            state = replace(stored.state, offset=offset)
            if entry.node and (known is None or replace(known.state, offset=offset) != state):
                arrivals.broken = True
                arrivals.unattended.append(job)  # another node may have carried it over for this one
            job.state = state
        waiting = outbox.oldest(stored.id)
        while waiting is not None and waiting.stage is not Stage.UNSENT and waiting.record.seq <= job.state.seq:
            self._arrived(waiting, job, waiting.record, arrivals)
            waiting = outbox.oldest(stored.id)
        if waiting is not None and waiting.record.seq != job.state.seq + 1:
            arrivals.refused[stored.id] = Refusal("hole")

    def _notify_listeners(self) -> None:
        self.breaks += 1
        for listener in tuple(self._listeners):
            apart(listener, "a listener of new epochs", self._notify)

    def _give_up(self, job: Job) -> None:
        """Forget a draft that was never sent; one that may be in the journal ends its job, if it turns up and
        nothing but its caller could have begun that."""
        waiting = self.writer.pending.oldest(job.id)
        if waiting is None:
            return
        if waiting.stage is Stage.UNSENT:
            self.writer.withdraw(job.id)
        else:
            waiting.ends = True

    def _settled(self, job: str) -> None:
        if (event := self._settling.pop(job, None)) is not None:
            event.set()
        if not self.writer.pending:
            self._empty.set()


async def _end(*tasks: "asyncio.Task[None]") -> None:
    """Cancel *tasks*, until they have ended: the client of an engine may drop a cancellation as it sends."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN)


def _begun(job: str, stored: StoredJob | None) -> StoredJob:
    return StoredJob(id=job, state=JobState()) if stored is None else replace(stored, state=JobState())


def _looked_at(accepted: "asyncio.Future[Record]") -> None:
    """A caller that was cancelled does not look at the outcome; nobody is to be notified of that."""
    if not accepted.cancelled():
        accepted.exception()
