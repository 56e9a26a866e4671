"""Where sinks subscribe: each receives what is sent, in order, and the kept records before it if it wants them."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final

from relay.bus.callables import never_awaited, refuse_no_sink
from relay.bus.hold_watch import HoldWatch
from relay.bus.ordered_signal import OrderedSignal
from relay.bus.pending import PendingRecord
from relay.bus.subscription import Sink, Subscription, name_of
from relay.bus.topics import Selection, Topics
from relay.clock import Clock
from relay.errors import UsageError
from relay.events import Exchange, Record
from relay.jobs.state import Job
from relay.journal.base import JournalReader
from relay.notices import INTERRUPTIONS, Notify, apart, describe

__all__ = ["REPLAY_SLICE", "Distributor", "reraise"]

REPLAY_SLICE: Final = 128
"""How many records a sink is replayed before others have their turn: about 5 ms of a console that renders each."""


class Distributor:
    """The half of a bus that sinks see: they come and go, and each record and exchange is sent to all of them.

    Used on one thread: the first one that publishes or subscribes.
    """

    def __init__(
        self,
        journal: JournalReader,
        clock: Clock,
        notify: Notify,
        *,
        listening: Callable[[bool], object],
        behind: Callable[[int, str], Collection[str]] | None,
    ) -> None:
        self.journal: JournalReader = journal
        self.answered: float | None = None
        """When the upstream's answer came that the record being sent follows from, on the monotonic clock, if any."""
        self._clock = clock
        self._notify = notify
        self._behind = behind
        self._listening = listening
        self._records = OrderedSignal()
        self._exchanges = OrderedSignal()
        self._topics = Topics()
        self._records.connect(self._hand_out, weak=False)
        self._after_sending: tuple[Callable[[bool], object], ...] = ()
        self._thread: int | None = None
        self._sending = False

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

    def when_sent(self, listener: Callable[[bool], object]) -> Callable[[], None]:
        """Call *listener* whenever every sink has the records of a commit, until the returned function is called.

        A sink that passes several records on together does it then, or at the end of this turn of the loop: *listener*
        gets whether the commit was of deferred batches, or of what another process has brought, and no other follows at
        once. Its exceptions affect nobody else. It may be called although nothing was sent.
        """
        self._check_thread()
        self._after_sending = (*self._after_sending, listener)

        def leave() -> None:
            self._after_sending = tuple(other for other in self._after_sending if other is not listener)

        return leave

    def _sent(self, deferred: bool) -> None:
        for listener in self._after_sending:
            if listener in self._after_sending:  # one before it may have let it leave
                apart(partial(listener, deferred), name_of(listener), self._notify)

    def _send_records(self, records: Sequence[PendingRecord]) -> None:
        outer, self._sending = self._sending, True
        try:
            interruption = self._records.send_at_once(records=records)
        finally:
            self._sending = outer
        if interruption is not None:
            raise interruption

    def _send_exchange(self, exchange: Exchange) -> None:
        outer, self._sending = self._sending, True
        try:
            raised = [result for _, result in self._exchanges.send(None, exchange=exchange)]
        finally:
            self._sending = outer
        reraise(*raised)

    def _hand_out(self, _: object, *, records: Sequence[PendingRecord]) -> BaseException | None:
        """Deliver each record to every subscription before the next one.

        Return the first exception of a sink that must not be held back: Ctrl-C or an exit.
        """
        interruption, send = None, self._topics.send
        for pending in records:
            self.answered = pending.answered
            raised = send(pending.job, pending.record)
            if raised is not None and interruption is None:
                interruption = raised
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
            reraise(*[subscription.deliver(record) for record in records])
        finally:
            self._sending = outer
        return len(records) == most

    def _connect(self, subscription: Subscription, chosen: Selection) -> Subscription:
        self._topics.join(subscription, chosen)
        return subscription

    def _check_thread(self) -> None:
        here = threading.get_ident()
        if self._thread is None:
            self._thread = here
        elif self._thread != here:
            raise UsageError("the bus belongs to its event loop's thread; use loop.call_soon_threadsafe to reach it")


def reraise(*raised: BaseException | None) -> None:
    """Raise the first of these that is an exception."""
    for interruption in raised:
        if interruption is not None:
            raise interruption
