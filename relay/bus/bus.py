"""The bus: each event is stamped, stored and sent once, and every sink receives every record in the same order."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from threading import get_ident

from relay.bus.commits import CommitScheduler
from relay.bus.distributor import Distributor
from relay.bus.histogram import Histogram
from relay.bus.local_side import LocalSide
from relay.bus.pending import PendingRecord
from relay.bus.shared_side import SharedSide
from relay.bus.shared_writer import SharedWriter
from relay.bus.sharing import Sharing
from relay.bus.writer import JournalWriter
from relay.clock import Clock, SystemClock
from relay.errors import UsageError
from relay.events import Event, Exchange, Record
from relay.jobs.state import Job, JobState
from relay.journal.base import Journal
from relay.journal.shared import SharedJournal
from relay.notices import Notify, guarded, notice
from relay.wire.event_redaction import redact_event, redact_exchange
from relay.wire.redactor import Redactor

__all__ = ["Bus"]


class Bus(Distributor):
    """One signal for all jobs. *listening* is called with whether anybody receives raw exchanges, when that may change.

    *knows* says whether a job may be published for: on the bus of a relay, if it is in the registry. A bus without
    *knows* accepts any job, and its user sees to it that no two have one id. *behind* names the jobs of an owner that
    have a record behind an offset; without it a subscription of an owner has no past. *redactor* masks what is secret
    in each event and exchange before anything else is done with it: the journal does not have it either.

    Used on one thread: the first one that publishes or subscribes. Everything is synchronous, so nothing comes between
    reading the journal and connecting to the signal: a sink that asks for the past gets it without hole or repetition.

    With a journal of this process alone, a record is committed and sent when `publish` returns, or its batch is left.
    With a SharedJournal, and *sharing*, it is appended by `run`, and sent when the tail of the journal brings it, as
    are the records of all other nodes: in the same order on every node.
    """

    def __init__(
        self,
        journal: Journal | SharedJournal,
        *,
        clock: Clock | None = None,
        notify: Notify = notice,
        listening: Callable[[bool], object] = bool,
        knows: Callable[[Job], bool] | None = None,
        behind: Callable[[int, str], Collection[str]] | None = None,
        redactor: Redactor | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        clock, notify = clock or SystemClock(), guarded(notify)
        super().__init__(journal, clock, notify, listening=listening, behind=behind)
        self._knows = knows
        self._redactor = redactor
        self.own: bool = True
        """Whether this node has appended the record that is being sent; on a journal of one process it always has."""
        # What each record needs is at hand, and not behind another name.
        self._side: LocalSide | SharedSide
        self._writer: JournalWriter | SharedWriter
        self._commits: CommitScheduler | SharedSide
        if isinstance(journal, SharedJournal):
            if sharing is None:
                raise UsageError(
                    "a journal that several nodes share needs `sharing`, which connects the bus to its node"
                )
            self._side = shared = SharedSide(journal, sharing, clock, notify, self._send_arrived, self._sent)
            self._writer, self._commits = shared.writer, shared
        else:
            self._side = local = LocalSide(journal, clock, notify, self._send_records, self._sent)
            self._writer, self._commits = local.writer, local.commits
        # A batch has nothing of its own, so the two usual ones are made once.
        self._batch = _Batch(self._commits.begin, self._commits.end, False, 0.0)
        self._deferrable_batch = _Batch(self._commits.begin, self._commits.end, True, 0.0)

    @property
    def shared(self) -> bool:
        """Whether other nodes publish through the same journal: their records are sent here too, and are not `own`."""
        return isinstance(self._side, SharedSide)

    @property
    def write_blocked(self) -> asyncio.Event:
        """Set while the journal cannot be written, and records wait."""
        return self._writer.blocked

    @property
    def waiting(self) -> int:
        """The number of records that wait for a commit."""
        return len(self._writer.pending)

    @property
    def commit_times(self) -> Histogram:
        """The seconds of each commit of the journal."""
        return self._writer.commit_times

    @property
    def sent(self) -> int:
        """How many records were sent since the start; on a journal of this process, its newest offset."""
        return self._side.sent

    @property
    def breaks(self) -> int:
        """How often readers may have missed entries; each time, what `when_begun_anew` was given is called."""
        return self._side.breaks

    @property
    def room(self) -> asyncio.Event:
        """Set while there is room for more records to wait for the journal; pollers wait for it before each request."""
        return self._writer.room

    def check(self) -> None:
        """Check, now and then, that a restart will find what is committed."""
        self._side.check()

    async def drained(self) -> None:
        """Return when what has waited is written, or cannot be: a few records at each turn of the loop.

        On a shared journal that takes 5 s at most, and 1 s while it has a problem.
        """
        await self._side.drained()

    async def close(self) -> None:
        """Commit what is deferred, close the journal, and notify the operator of records that it could never store.

        Nothing is sent any more.
        """
        await self._side.close()

    def problems(self) -> list[str]:
        """The present problems of the journal, a sentence each."""
        problem = self._side.problem
        full = [] if self.room.is_set() else ["polling pauses, since too many records wait"]
        return full if problem is None else [problem, *full]

    def batch(self, *, deferrable: bool = False, linger: float = 0.0) -> AbstractContextManager[None]:
        """Commit all that is published within this batch as one, and send each record in order.

        The commit comes when the batch is left. With *deferrable* it may wait, and be shared with later batches: until
        `journal.commit_delay` seconds after the last commit was sent, and not at all without a running loop. A single
        record is then committed immediately, and a burst shares commits. A batch that is to *linger* waits that many
        seconds for what follows, also after a rest, on a journal whose commits are deferred at all.

        What an earlier commit could not write is part of it, so an empty batch is another try.
        """
        if linger:
            return _Batch(self._commits.begin, self._commits.end, deferrable, linger)
        return self._deferrable_batch if deferrable else self._batch

    def publish(self, job: Job, event: Event, *, answered: float | None = None) -> Record:
        """Make *event* the next record of *job*, commit it, and send it to every sink, in the order of subscription.

        *answered* is when the upstream's answer came that it follows from: delays are measured from there. Raises
        UsageError from another thread, from within a sink, for a job that has ended, and on the bus of a relay for a
        job that is not the relay's own.
        """
        if self._thread != get_ident() or self._sending:
            self._check_publisher()
        if (state := self._writer.pending.state(job)).terminal is not None:
            raise UsageError(f"{job.id} has ended; nothing can follow its {state.status!r} record")
        if (knows := self._knows) is not None and not knows(job):
            self._check_known(job)
        if self._redactor is not None:
            event = redact_event(event, self._redactor)
        record = self._writer.append(job, event, answered=answered)
        self._commits.appended()
        return record

    def publish_first(self, job: Job, event: Event, *, key: str | None = None, digest: bytes = b"") -> Record:
        """Make *event* the first record of *job*, and return once it is committed, also within a batch.

        The journal keeps that the job came with *key*, for an input of this *digest*. Raises UnavailableError where the
        journal cannot be written now, and UsageError where it can never store this, or as `publish` does: nothing is
        left of the job then, so that the caller may retry.
        """
        self._check_publisher()
        self._check_known(job)
        if isinstance(self._side, SharedSide):
            raise UsageError("a journal that several nodes share is awaited: `await bus.accept(...)`")
        return self._side.publish_first(job, self._redacted(event), None if key is None else (key, digest))

    async def accept(
        self, job: Job, event: Event, *, key: str | None = None, digest: bytes = b"", unique: str = ""
    ) -> Record:
        """As `publish_first`, on any journal: return once the first record of *job* is kept, and was sent here.

        On a shared journal *unique* is what no other job of any node may have; TakenError names the job that has it.
        Raises UnavailableError while the journal has a problem, and where it is not known within 5 s whether it has the
        record. If it turns up later, the job ends as `failed` (lost), unless it follows a task. A caller that is
        cancelled stops waiting, and the job is accepted nevertheless.
        """
        self._check_publisher()
        self._check_known(job)
        return await self._side.accept(job, self._redacted(event), None if key is None else (key, digest), unique)

    async def settled(self, job: Job) -> None:
        """Return once nothing of *job* waits: it was sent here, or refused and dropped. *job* says how it stands."""
        await self._side.settled(job)

    def withdraw(self, job: Job) -> None:
        """Drop the waiting records of *job*, which this node has let go. Those under way may still be appended."""
        self._side.withdraw(job)

    async def run(self) -> None:
        """On a shared journal, append and receive until this is cancelled; then it may be run again.

        On another one, return at once.
        """
        await self._side.run()

    def when_begun_anew(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call *listener* whenever entries are lost to this node, until the returned function is called.

        The journal has a new epoch then, or its copy here goes on behind a gap: `JournalReader.has_all_since` says so.
        """
        return self._side.when_begun_anew(listener)

    def pending(self, job: Job) -> JobState:
        """The state of *job* once every record that waits for a commit is published: the next event follows on it.

        `Job.state` is what has been published. Use that for whatever leaves the relay, and this to decide what to
        publish next: within a batch, or while the journal cannot be written, the two differ.
        """
        return self._writer.pending.state(job)

    def publish_exchange(self, exchange: Exchange) -> None:
        """Send a raw exchange to its listeners. It is not kept, and is no record of any job."""
        self._check_thread()
        if self._redactor is not None:
            exchange = redact_exchange(exchange, self._redactor)
        self._send_exchange(exchange)

    def _send_arrived(self, records: Sequence[PendingRecord], own: bool) -> None:
        self.own = own
        try:
            self._send_records(records)
        finally:
            self.own = True

    def _redacted(self, event: Event) -> Event:
        return event if self._redactor is None else redact_event(event, self._redactor)

    def _check_publisher(self) -> None:
        self._check_thread()
        if self._sending:
            raise UsageError("a sink may not publish: the sinks behind it would receive two records in the wrong order")

    def _check_known(self, job: Job) -> None:
        if self._knows is not None and not self._knows(job):
            raise UsageError(f"{job.id} is no job of this relay: take one from relay.follow, relay.submit or relay.job")


class _Batch(AbstractContextManager[None]):
    """From *begin* to *end*. Plain methods: every poll has one, and a generator for it costs 2 us more."""

    __slots__ = ("_begin", "_deferrable", "_end", "_linger")

    def __init__(self, begin: Callable[[], None], end: Callable[..., None], deferrable: bool, linger: float) -> None:
        self._begin = begin
        self._end = end
        self._deferrable = deferrable
        self._linger = linger

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, *_: object) -> None:
        self._end(deferrable=self._deferrable, linger=self._linger)
