"""The bus: each event is stamped, stored and sent once, and every sink hears every record in the same order."""

import logging
import threading
from asyncio import CancelledError
from collections.abc import Callable, Collection, Iterable, Iterator, MutableSet
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from blinker import Signal

from relay.clock import Clock, SystemClock
from relay.codec import stamp
from relay.errors import UsageError
from relay.events import Event, Exchange, Position, Record
from relay.jobs import Job, evolve
from relay.journal.base import Journal

__all__ = ["Bus", "Notify", "Sink", "Subscription", "notice"]

Sink: TypeAlias = Callable[[Record], object]
"""Hears every record, in order. It must not block and may not publish; it may raise, and nobody else will notice."""

Notify: TypeAlias = Callable[[str], None]
"""Hears what the operator should know about the relay itself: one line, about no job."""

QUARANTINE_AFTER: Final = 5
PROBE_EVERY: Final = 30.0


def notice(text: str) -> None:
    """Tell the operator through the standard `relay` logger, which goes to stderr unless it is configured."""
    logging.getLogger("relay").warning(text)


class Bus:
    """One signal for all jobs.

    Used on one thread: the first one that publishes or subscribes. Everything is synchronous, so nothing comes between
    reading the journal and connecting to the signal: a sink that asks for the past gets it without hole or repetition.
    """

    def __init__(self, journal: Journal, *, clock: Clock | None = None, notify: Notify = notice) -> None:
        self.journal = journal
        self.clock = clock or SystemClock()
        self.notify = notify
        self._records = _OrderedSignal()
        self._exchanges = _OrderedSignal()
        self._everyone = _Topic()
        self._records.connect(self._everyone, weak=False)
        self._topics: dict[Job, _Topic] = {}
        self._thread: int | None = None
        self._sending = False

    def publish(self, job: Job, event: Event) -> Record:
        """Make *event* the next record of *job*, keep it, and let every sink hear it, in the order of subscription.

        Raises UsageError from another thread, from within a sink, and for a job that has ended.
        """
        self._check_thread()
        if self._sending:
            raise UsageError("a sink may not publish: the sinks behind it would hear two records in the wrong order")
        if job.ended:
            raise UsageError(f"{job.id} has ended; nothing can follow its {job.state.status!r} record")
        position = Position(self.journal.epoch, self.journal.head + 1)
        record = stamp(job.id, job.state.seq + 1, self.clock.now(), event, position)
        self.journal.append(record)
        job.state = evolve(job.state, record)
        self._send(self._records, job, record=record)
        return record

    def publish_exchange(self, exchange: Exchange) -> None:
        """Let the listeners of raw exchanges hear one. It is not kept, and is no part of any job's story."""
        self._check_thread()
        self._send(self._exchanges, None, exchange=exchange)

    def subscribe(self, sink: Sink, jobs: Iterable[Job] | None = None, *, after: int | None = None) -> "Subscription":
        """Let *sink* hear the records of *jobs*, or of all, until the subscription is closed.

        With *after*, the kept records behind that offset come first. Close it on every path: it is a context manager.
        """
        self._check_thread()
        chosen = None if jobs is None else list(dict.fromkeys(jobs))
        subscription = Subscription(self, sink, chosen, after if after is not None else self.journal.head)
        if after is not None:
            subscription.replay()
        for topic in self._topics_of(chosen):
            topic.subscriptions[subscription] = None
        return subscription

    def subscribe_exchanges(self, listener: Callable[[Exchange], object]) -> Callable[[], None]:
        """Let *listener* hear raw exchanges; what is returned ends that."""
        name = _name(listener)

        def receive(_: object, *, exchange: Exchange) -> None:
            try:
                listener(exchange)
            except Exception as error:
                self.notify(f"{name} failed on a raw exchange: {_describe(error)}")

        self._exchanges.connect(receive, weak=False)
        return lambda: self._exchanges.disconnect(receive)

    def _send(self, signal: Signal, sender: object, **what: Any) -> None:
        """Send to all, then let through what must not be held back: Ctrl-C and an exit."""
        outer, self._sending = self._sending, True
        interruption: BaseException | None = None
        try:
            for _, result in signal.send(sender, **what):
                interruption = interruption or result
        finally:
            self._sending = outer
        if interruption is not None:
            raise interruption

    def _topics_of(self, jobs: "Collection[Job] | None") -> "list[_Topic]":
        if jobs is None:
            return [self._everyone]
        return [self._topics.get(job) or self._open_topic(job) for job in jobs]

    def _open_topic(self, job: Job) -> "_Topic":
        topic = self._topics[job] = _Topic()
        self._records.connect(topic, sender=job, weak=False)
        return topic

    def leave(self, subscription: "Subscription", jobs: Collection[Job] | None) -> None:
        """For `Subscription.close`, and nobody else."""
        if jobs is None:
            del self._everyone.subscriptions[subscription]
            return
        for job in jobs:
            topic = self._topics[job]
            del topic.subscriptions[subscription]
            if not topic.subscriptions:
                del self._topics[job]
                self._records.disconnect(topic, sender=job)

    def _check_thread(self) -> None:
        here = threading.get_ident()
        if self._thread is None:
            self._thread = here
        elif self._thread != here:
            raise UsageError("the bus belongs to its event loop's thread; use loop.call_soon_threadsafe to reach it")


class Subscription:
    """One sink's place on the bus. It isolates the sink: whatever it raises, the others hear the record all the same.

    A sink that keeps failing is set aside and tried again every PROBE_EVERY seconds.
    """

    def __init__(self, bus: Bus, sink: Sink, jobs: list[Job] | None, after: int) -> None:
        self.name = _name(sink)
        self.failures = 0
        self.missed = 0
        self._bus = bus
        self._sink = sink
        self._jobs = jobs
        self._cursor = after
        self._closed = False
        self._streak = 0
        self._probe_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def quarantined(self) -> bool:
        """Whether the sink has failed so often in a row that it is only tried now and then."""
        return self._streak >= QUARANTINE_AFTER

    def close(self) -> None:
        """Hear nothing more, from this moment on, also in the middle of a record. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._bus.leave(self, self._jobs)

    def replay(self) -> None:
        ids = None if self._jobs is None else [job.id for job in self._jobs]
        while records := self._bus.journal.read(self._cursor, ids):
            for record in records:
                if (interruption := self.deliver(record)) is not None:
                    raise interruption

    def deliver(self, record: Record) -> BaseException | None:
        """Let the sink hear *record*, once; return what it raised where that must not be held back."""
        if self._closed or record.position.offset <= self._cursor:
            return None
        self._cursor = record.position.offset
        if self.quarantined and self._bus.clock.monotonic() < self._probe_at:
            self.missed += 1
            return None
        try:
            self._sink(record)
        except (Exception, CancelledError) as error:
            # Nobody can cancel a plain call, so a CancelledError out of one is the sink's own failure.
            self._failed(record, error)
        except BaseException as interruption:
            return interruption
        else:
            if self._streak:
                self._recovered()
        return None

    def _failed(self, record: Record, error: BaseException) -> None:
        self.failures += 1
        self.missed += 1
        self._streak += 1
        self._probe_at = self._bus.clock.monotonic() + PROBE_EVERY
        if self._streak == 1:
            self._bus.notify(
                f"sink {self.name} failed on {record.job} seq {record.seq}: {_describe(error)};"
                " it misses this record, the others do not"
            )
        elif self._streak == QUARANTINE_AFTER:
            self._bus.notify(
                f"sink {self.name} failed {QUARANTINE_AFTER} times in a row and is set aside;"
                f" it is tried again every {PROBE_EVERY:.0f} s"
            )

    def _recovered(self) -> None:
        self._streak = 0
        self._bus.notify(f"sink {self.name} works again; it has missed {self.missed} records so far")


class _Topic:
    """The subscriptions of one job, or of all jobs: one receiver on the signal, however many they are.

    A receiver costs blinker 0.77 us a record, a call in a plain loop 0.04 us (performance.md, section 8).
    """

    __slots__ = ("__weakref__", "subscriptions")

    def __init__(self) -> None:
        self.subscriptions: dict[Subscription, None] = {}

    def __call__(self, _: object, *, record: Record) -> BaseException | None:
        interruption = None
        for subscription in tuple(self.subscriptions):
            raised = subscription.deliver(record)
            interruption = interruption or raised
        return interruption


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


def _name(sink: object) -> str:
    return getattr(sink, "__qualname__", None) or type(sink).__qualname__


def _describe(error: BaseException) -> str:
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return words.splitlines()[0]
