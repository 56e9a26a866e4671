"""The bus: each event is stamped, stored and sent once, and every sink receives every record in the same order."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from relay.bus.callables import never_awaited, refuse_no_sink
from relay.bus.commits import CommitScheduler
from relay.bus.histogram import Histogram
from relay.bus.hold_watch import HoldWatch
from relay.bus.ordered_signal import OrderedSignal
from relay.bus.pending import PendingRecord
from relay.bus.subscription import Sink, Subscription, name_of
from relay.bus.topics import Selection, Topics
from relay.bus.writer import JournalWriter, unavailable
from relay.clock import Clock, SystemClock
from relay.errors import UsageError
from relay.events import Event, Exchange, Record
from relay.jobs.state import Job, JobState
from relay.journal.base import Journal
from relay.notices import INTERRUPTIONS, Notify, describe, guarded, notice
from relay.wire.event_redaction import redact_event, redact_exchange
from relay.wire.redactor import Redactor

__all__ = ["REPLAY_SLICE", "Bus"]

REPLAY_SLICE: Final = 128
"""How many records a sink is replayed before others have their turn: about 5 ms of a console that renders each."""


class Bus:
    """One signal for all jobs. *listening* is called with whether anybody receives raw exchanges, when that may change.

    *knows* says whether a job may be published for: on the bus of a relay, if it is in the registry. A bus without
    *knows* accepts any job, and its user sees to it that no two have one id. *behind* names the jobs of an owner that
    have a record behind an offset; without it a subscription of an owner has no past. *redactor* masks what is secret
    in each event and exchange before anything else is done with it: the journal does not have it either.

    Used on one thread: the first one that publishes or subscribes. Everything is synchronous, so nothing comes between
    reading the journal and connecting to the signal: a sink that asks for the past gets it without hole or repetition.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Clock | None = None,
        notify: Notify = notice,
        listening: Callable[[bool], object] = bool,
        knows: Callable[[Job], bool] | None = None,
        behind: Callable[[int, str], Collection[str]] | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.journal = journal
        self._clock = clock or SystemClock()
        self._notify = guarded(notify)
        self._knows = knows
        self._behind = behind
        self._redactor = redactor
        self._listening = listening
        self._records = OrderedSignal()
        self._exchanges = OrderedSignal()
        self._topics = Topics()
        self._records.connect(self._hand_out, weak=False)
        self._thread: int | None = None
        self._sending = False
        self.answered: float | None = None
        """When the upstream's answer came that the record being sent follows from, on the monotonic clock, if any."""
        self._writer = JournalWriter(journal, self._clock, self._notify, self._send_records)
        self._commits = CommitScheduler(self._writer, self._clock)

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
    def room(self) -> asyncio.Event:
        """Set while there is room for more records to wait for the journal; pollers wait for it before each request."""
        return self._writer.room

    def check(self) -> None:
        """Check, now and then, that a restart will find what is committed."""
        self._writer.check()

    async def drained(self) -> None:
        """Return when what has waited is written, or cannot be: a few records at each turn of the loop."""
        await self._commits.at_rest.wait()

    def problems(self) -> list[str]:
        """The present problems of the journal, a sentence each."""
        if (problem := self._writer.problem) is None:
            return []
        return [problem] if self.room.is_set() else [problem, "polling pauses, since too many records wait"]

    def batch(self, *, deferrable: bool = False) -> AbstractContextManager[None]:
        """Commit all that is published within this batch as one, and send each record in order.

        The commit comes when the batch is left. With *deferrable* it may wait, and be shared with later batches: until
        `journal.commit_delay` seconds after the last commit, and not at all without a running loop. A single record is
        then committed immediately, and a burst shares commits.

        What an earlier commit could not write is part of it, so an empty batch is another try.
        """
        return _Batch(self._commits.begin, self._commits.end, deferrable)

    def publish(self, job: Job, event: Event, *, answered: float | None = None) -> Record:
        """Make *event* the next record of *job*, commit it, and send it to every sink, in the order of subscription.

        *answered* is when the upstream's answer came that it follows from: delays are measured from there. Raises
        UsageError from another thread, from within a sink, for a job that has ended, and on the bus of a relay for a
        job that is not the relay's own.
        """
        self._check_publisher()
        if (state := self._writer.pending.state(job)).ended:
            raise UsageError(f"{job.id} has ended; nothing can follow its {state.status!r} record")
        self._check_known(job)
        record = self._writer.append(job, self._redacted(event), answered=answered)
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
        if self._writer.problem is not None:
            raise unavailable()
        record = self._writer.append(job, self._redacted(event), key=None if key is None else (key, digest), first=True)
        self._commits.flush()
        if self._writer.pending.withdraw(job):
            raise unavailable()
        if not job.state.seq:
            raise UsageError("this job cannot be stored; the operator's log says why")
        return record

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
        _reraise(self._send(self._exchanges, None, exchange=exchange))

    def subscribe(
        self,
        sink: Sink,
        jobs: Iterable[Job] | None = None,
        *,
        owner: str | None = None,
        after: int | None = None,
        name: str | None = None,
        wanted: Callable[[Record], bool] | None = None,
        watch: HoldWatch | None = None,
    ) -> Subscription:
        """Send *sink* the records of *jobs*, of all jobs of *owner*, or of all, until the subscription is closed.

        Jobs of *owner* that are admitted later belong to them, and "" is the owner of what is nobody's. Each record
        reaches the subscriptions of all jobs first, then those of its job's owner, and then those of its job.

        With *after*, the kept records behind that offset come first, all of them before this returns: where they may be
        many, use `replay`. *name* is what notices and figures call the sink; it receives those records alone that are
        *wanted*, and *watch* notes how long it takes. Close the subscription on every path: it is a context manager.
        Raises UsageError for what is no sink (`relay.Sink`), and for both *jobs* and an *owner*.
        """
        subscription, chosen = self._subscription(sink, jobs, owner, after, name, wanted, watch)
        if after is not None:
            while self._replay_slice(subscription, chosen, REPLAY_SLICE):
                pass
        return self._connect(subscription, chosen)

    async def replay(
        self,
        sink: Sink,
        jobs: Iterable[Job] | None = None,
        *,
        owner: str | None = None,
        after: int,
        name: str | None = None,
        wanted: Callable[[Record], bool] | None = None,
        watch: HoldWatch | None = None,
    ) -> Subscription:
        """As `subscribe`, for a past of any length: others have their turn between slices of REPLAY_SLICE records.

        Records that are published meanwhile come behind those that were there before. The last slice and the connection
        are one step: the sink misses nothing and gets nothing twice. If this is cancelled, the sink is not subscribed.
        """
        subscription, chosen = self._subscription(sink, jobs, owner, after, name, wanted, watch)
        while self._replay_slice(subscription, chosen, REPLAY_SLICE):  # noqa: ASYNC110 - it is work, no waiting
            await asyncio.sleep(0)
        return self._connect(subscription, chosen)

    def subscribe_exchanges(self, listener: Callable[[Exchange], object]) -> Callable[[], None]:
        """Send *listener* raw exchanges, until the returned function is called. Its exceptions affect nobody else.

        Raises UsageError for a listener that would have to be awaited.
        """
        name = name_of(listener)
        refuse_no_sink(listener, name)

        def receive(_: object, *, exchange: Exchange) -> BaseException | None:
            try:
                if (result := listener(exchange)) is not None:
                    never_awaited(result, name)
            except INTERRUPTIONS as interruption:
                return interruption
            except BaseException as error:
                self._notify(f"{name} failed on a raw exchange: {describe(error)}")
            return None

        def leave() -> None:
            self._exchanges.disconnect(receive)
            self._listening(bool(self._exchanges.receivers))

        self._exchanges.connect(receive, weak=False)
        self._listening(True)
        return leave

    def _send_records(self, records: Sequence[PendingRecord]) -> None:
        _reraise(self._send(self._records, None, records=records))

    def _send(self, signal: OrderedSignal, sender: object, **what: Any) -> BaseException | None:
        """Send to all; return what a sink raised that must not be held back: Ctrl-C or an exit."""
        outer, self._sending = self._sending, True
        try:
            return next((raised for _, raised in signal.send(sender, **what) if raised is not None), None)
        finally:
            self._sending = outer

    def _hand_out(self, _: object, *, records: Sequence[PendingRecord]) -> BaseException | None:
        """Deliver each record to every subscription before the next one."""
        interruption = None
        for job, record, _, _, _, self.answered in records:  # quicker than by name, and this is once a record
            raised = self._topics.send(job, record)
            interruption = interruption or raised
        self.answered = None
        return interruption

    def _subscription(
        self,
        sink: Sink,
        jobs: Iterable[Job] | None,
        owner: str | None,
        after: int | None,
        name: str | None,
        wanted: Callable[[Record], bool] | None,
        watch: HoldWatch | None,
    ) -> tuple[Subscription, Selection]:
        self._check_thread()
        chosen = Selection(None if jobs is None else tuple(dict.fromkeys(jobs)), owner)
        if chosen.jobs is not None and owner is not None:
            raise UsageError("a subscription is for jobs or for an owner; name one of them")
        if owner is not None and after is not None and self._behind is None:
            raise UsageError("this bus does not know which jobs an owner has; subscribe without `after`")
        subscription = Subscription(
            sink,
            after=self.journal.head if after is None else after,
            leave=lambda left: self._topics.leave(left, chosen),
            clock=self._clock,
            notify=self._notify,
            name=name,
            wanted=wanted,
            watch=watch,
        )
        return subscription, chosen

    def _replay_slice(self, subscription: Subscription, chosen: Selection, most: int) -> bool:
        """Send the sink up to *most* records of the past, and publish nothing; return whether there may be more."""
        ids: Collection[str] | None = None if chosen.jobs is None else [job.id for job in chosen.jobs]
        if chosen.owner is not None and self._behind is not None:
            ids = self._behind(subscription.cursor, chosen.owner)  # anew for each slice: jobs are admitted meanwhile
        records = self.journal.read(subscription.cursor, ids, limit=most)
        outer, self._sending = self._sending, True
        try:
            _reraise(*[subscription.deliver(record) for record in records])
        finally:
            self._sending = outer
        return len(records) == most

    def _connect(self, subscription: Subscription, chosen: Selection) -> Subscription:
        self._topics.join(subscription, chosen)
        return subscription

    def _redacted(self, event: Event) -> Event:
        return event if self._redactor is None else redact_event(event, self._redactor)

    def _check_publisher(self) -> None:
        self._check_thread()
        if self._sending:
            raise UsageError("a sink may not publish: the sinks behind it would receive two records in the wrong order")

    def _check_known(self, job: Job) -> None:
        if self._knows is not None and not self._knows(job):
            raise UsageError(f"{job.id} is no job of this relay: take one from relay.follow, relay.submit or relay.job")

    def _check_thread(self) -> None:
        here = threading.get_ident()
        if self._thread is None:
            self._thread = here
        elif self._thread != here:
            raise UsageError("the bus belongs to its event loop's thread; use loop.call_soon_threadsafe to reach it")


class _Batch(AbstractContextManager[None]):
    """From *begin* to *end*. Plain methods: every poll has one, and a generator for it costs 2 us more."""

    __slots__ = ("_begin", "_deferrable", "_end")

    def __init__(self, begin: Callable[[], None], end: Callable[..., None], deferrable: bool) -> None:
        self._begin = begin
        self._end = end
        self._deferrable = deferrable

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, *_: object) -> None:
        self._end(deferrable=self._deferrable)


def _reraise(*raised: BaseException | None) -> None:
    for interruption in raised:
        if interruption is not None:
            raise interruption
