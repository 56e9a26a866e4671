"""The bus: each event is stamped, stored and sent once, and every sink hears every record in the same order."""

import asyncio
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, MutableSet
from contextlib import AbstractContextManager
from typing import Any

from blinker import Signal

from relay.clock import Clock, SystemClock
from relay.codec import stamp
from relay.errors import JournalError, UsageError
from relay.events import Event, Exchange, Position, Record
from relay.jobs import Job, JobState, evolve
from relay.journal.base import Journal
from relay.subscription import Notify, Sink, Subscription, Topic, describe, name_of, notice

__all__ = ["Bus"]


class Bus:
    """One signal for all jobs. *listening* is told whether anybody hears raw exchanges, whenever that may have changed.

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
    ) -> None:
        self.journal = journal
        self._clock = clock or SystemClock()
        self._notify = notify
        self._listening = listening
        self._records = _OrderedSignal()
        self._exchanges = _OrderedSignal()
        self._everyone = Topic()
        self._records.connect(self._hand_out, weak=False)
        self._topics: dict[Job, Topic] = {}
        self._thread: int | None = None
        self._sending = False
        self._batches = 0
        self._unsent: list[tuple[Job, Record]] = []
        self._urgent = False
        self._flushed_at = -math.inf
        self._flushing: asyncio.TimerHandle | None = None
        self._as_told: dict[Job, JobState] = {}
        self.unwritten = asyncio.Event()
        """Set while the journal cannot be written, and records wait."""

    def batch(self, *, soon: bool = False) -> AbstractContextManager[None]:
        """Publish what is published within as one: one commit of the journal, then each record in order.

        That happens on leaving it. With *soon* it may also wait for others, and share a commit with them: not longer
        than `journal.gather` seconds after the last one, and not at all without a running loop. So a lone record is
        told at once, and many that come one by one cost hardly more than one batch.

        What an earlier commit could not write is part of it, so an empty batch is another try.
        """
        return _Batch(self._begin, self._end, soon)

    def publish(self, job: Job, event: Event) -> Record:
        """Make *event* the next record of *job*, commit it, and let every sink hear it, in the order of subscription.

        Raises UsageError from another thread, from within a sink, and for a job that has ended.
        """
        self._check_thread()
        if self._sending:
            raise UsageError("a sink may not publish: the sinks behind it would hear two records in the wrong order")
        if job.ended:
            raise UsageError(f"{job.id} has ended; nothing can follow its {job.state.status!r} record")
        position = Position(self.journal.epoch, self.journal.head + len(self._unsent) + 1)
        record = stamp(job.id, job.state.seq + 1, self._clock.now(), event, position)
        state = evolve(job.state, record)
        self.journal.append(record, state)
        self._as_told.setdefault(job, job.state)
        job.state = state
        self._unsent.append((job, record))
        if not self._batches:
            self._flush()
        return record

    def as_told(self, job: Job) -> Job:
        """*job* as far as its story has been told: without the records that wait for a commit."""
        state = self._as_told.get(job)
        return job if state is None else Job(job.id, state)

    def publish_exchange(self, exchange: Exchange) -> None:
        """Let the listeners of raw exchanges hear one. It is not kept, and is no part of any job's story."""
        self._check_thread()
        _let_through(self._send(self._exchanges, None, exchange=exchange))

    def subscribe(self, sink: Sink, jobs: Iterable[Job] | None = None, *, after: int | None = None) -> Subscription:
        """Let *sink* hear the records of *jobs*, or of all, until the subscription is closed.

        With *after*, the kept records behind that offset come first. Close it on every path: it is a context manager.
        """
        self._check_thread()
        chosen = None if jobs is None else list(dict.fromkeys(jobs))
        subscription = Subscription(
            sink,
            after=self.journal.head if after is None else after,
            leave=lambda left: self._leave(left, chosen),
            clock=self._clock,
            notify=self._notify,
        )
        if after is not None:
            self._replay(subscription, chosen)
        for topic in self._topics_of(chosen):
            topic.subscriptions[subscription] = None
        return subscription

    def subscribe_exchanges(self, listener: Callable[[Exchange], object]) -> Callable[[], None]:
        """Let *listener* hear raw exchanges; what is returned ends that."""
        name = name_of(listener)

        def receive(_: object, *, exchange: Exchange) -> None:
            try:
                listener(exchange)
            except Exception as error:
                self._notify(f"{name} failed on a raw exchange: {describe(error)}")

        def leave() -> None:
            self._exchanges.disconnect(receive)
            self._listening(bool(self._exchanges.receivers))

        self._exchanges.connect(receive, weak=False)
        self._listening(True)
        return leave

    def _begin(self) -> None:
        self._batches += 1

    def _end(self, soon: bool) -> None:
        self._batches -= 1
        self._urgent = self._urgent or not soon
        if not self._batches:
            self._flush() if self._urgent else self._flush_soon()

    def _flush_soon(self) -> None:
        """Commit as soon as the journal has rested since its last commit."""
        rest = self._flushed_at + self.journal.gather - self._clock.monotonic()
        if rest <= 0 or (loop := _running_loop()) is None:
            self._flush()
        elif self._flushing is None:
            self._flushing = loop.call_later(rest, self._flush)

    def _flush(self) -> None:
        """Commit, then send. While the journal cannot be written nothing is sent, and nothing is lost."""
        self._urgent = False
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        self._commit()
        if self.unwritten.is_set():
            return
        unsent, self._unsent = self._unsent, []
        self._as_told.clear()
        if unsent:
            _let_through(self._send(self._records, None, told=unsent))

    def _commit(self) -> None:
        try:
            self.journal.commit()
        except JournalError as error:
            if not self.unwritten.is_set():
                self._notify(f"{error}; records wait in memory until it can be written")
            self.unwritten.set()
        else:
            self._flushed_at = self._clock.monotonic()
            if self.unwritten.is_set():
                self.unwritten.clear()
                self._notify("the journal can be written again")

    def _send(self, signal: Signal, sender: object, **what: Any) -> BaseException | None:
        """Send to all; return what a sink raised that must not be held back: Ctrl-C or an exit."""
        outer, self._sending = self._sending, True
        try:
            return next((raised for _, raised in signal.send(sender, **what) if raised is not None), None)
        finally:
            self._sending = outer

    def _hand_out(self, _: object, *, told: "list[tuple[Job, Record]]") -> BaseException | None:
        """Let everybody hear each record before the next, those who hear all jobs first."""
        interruption = None
        for job, record in told:
            topic = self._topics.get(job)
            raised = self._everyone.tell(record)
            interruption = interruption or raised
            if topic is not None:
                raised = topic.tell(record)
                interruption = interruption or raised
        return interruption

    def _topics_of(self, jobs: "Collection[Job] | None") -> "list[Topic]":
        if jobs is None:
            return [self._everyone]
        return [self._topics.get(job) or self._open_topic(job) for job in jobs]

    def _open_topic(self, job: Job) -> "Topic":
        return self._topics.setdefault(job, Topic())

    def _replay(self, subscription: Subscription, jobs: Collection[Job] | None) -> None:
        ids = None if jobs is None else [job.id for job in jobs]
        while records := self.journal.read(subscription.cursor, ids):
            _let_through(*[subscription.deliver(record) for record in records])

    def _leave(self, subscription: Subscription, jobs: Collection[Job] | None) -> None:
        if jobs is None:
            del self._everyone.subscriptions[subscription]
            return
        for job in jobs:
            topic = self._topics[job]
            del topic.subscriptions[subscription]
            if not topic.subscriptions:
                del self._topics[job]

    def _check_thread(self) -> None:
        here = threading.get_ident()
        if self._thread is None:
            self._thread = here
        elif self._thread != here:
            raise UsageError("the bus belongs to its event loop's thread; use loop.call_soon_threadsafe to reach it")


class _Batch(AbstractContextManager[None]):
    """From *begin* to *end*. Plain methods: every poll has one, and a generator for it costs 2 us more."""

    __slots__ = ("_begin", "_end", "_soon")

    def __init__(self, begin: Callable[[], None], end: Callable[[bool], None], soon: bool) -> None:
        self._begin = begin
        self._end = end
        self._soon = soon

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, *_: object) -> None:
        self._end(self._soon)


class _OrderedSet(MutableSet[Any]):
    """A set that keeps the order of insertion; blinker's own has none."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = dict.fromkeys(items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: Any) -> None:
        self._items[value] = None

    def discard(self, value: Any) -> None:
        self._items.pop(value, None)

    def copy(self) -> "_OrderedSet":
        return _OrderedSet(self._items)


class _OrderedSignal(Signal):
    set_class = _OrderedSet  # type: ignore[assignment]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _let_through(*raised: BaseException | None) -> None:
    for interruption in raised:
        if interruption is not None:
            raise interruption
