"""The sinks of a running relay: added, entered, and removed, while records flow."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, cast

import relay.durable
from relay.attachments.adapt import adapted
from relay.attachments.attached import AttachedSink, Delivery, SubscribedDelivery
from relay.attachments.options import SinkOptions, check_options, unique_name
from relay.bus.bus import Bus
from relay.bus.hold_watch import HoldWatch
from relay.bus.record_filter import RecordFilter
from relay.bus.subscription import Sink, Subscription, name_of
from relay.clock import Clock
from relay.errors import UsageError
from relay.events import Position, Record
from relay.jobs.state import Job
from relay.notices import Notify
from relay.supervision.lifetimes import Lifetime, Lifetimes
from relay.supervision.supervisor import Supervise

if TYPE_CHECKING:
    from relay.durable import DurableReader

__all__ = ["Attachments"]


class Attachments:
    """Adds sinks to *bus* and removes them. *job* finds a job by its id. `close` removes all of them."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        notify: Notify,
        lifetimes: Lifetimes,
        supervise: Supervise,
        job: Callable[[str], Job],
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._notify = notify
        self._lifetimes = lifetimes
        self._supervise = supervise
        self._job = job
        self._watch = HoldWatch(clock, notify)
        self._attached: dict[AttachedSink, tuple[Lifetime | None, list[Callable[[], object]]]] = {}

    def __iter__(self) -> Iterator[AttachedSink]:
        return iter(list(self._attached))

    async def add(self, options: SinkOptions, *, consequence: str) -> AttachedSink:
        """Enter a sink, and give it records. Raises UsageError for what cannot be; *consequence* ends its sentence."""
        check_options(options)
        self._check_shared(options)
        jobs = self._jobs(options)
        after = self._after(options)
        sink = adapted(options)
        name = self._name(options)
        if callable(bind := getattr(sink, "bind", None)):
            bind(self._clock, self._notify, name)
        lifetime, silence = None, list[Callable[[], object]]()
        if hasattr(sink, "__aenter__"):
            managed = cast("AbstractAsyncContextManager[object]", sink)
            lifetime = await self._lifetimes.enter(f"sink {name}", managed, consequence=consequence)
        try:
            wanted = RecordFilter(self._clock, options.level, options.types, options.where)
            delivery: Delivery
            if options.durable:
                delivery = self._durable(sink, name, wanted, silence)
            else:
                delivery = SubscribedDelivery(await self._subscribe(sink, jobs, after, name, wanted), sink)
        except BaseException:
            if lifetime is not None:
                await self._lifetimes.leave(lifetime)
            raise
        self._watch.start()
        attached = AttachedSink(
            delivery,
            wanted,
            head=lambda: self._bus.journal.head,
            sink=options.sink,
            remove=self._remove,
        )
        listener = getattr(sink, "exchange", None)
        if callable(listener):
            silence.append(self._bus.subscribe_exchanges(listener))
        self._attached[attached] = lifetime, silence
        return attached

    async def close(self) -> None:
        """Give no sink any further record, and leave all that were entered, within the bound for all of them."""
        await asyncio.gather(*(attached.end(drain=True) for attached in self._attached))
        for _, silence in self._attached.values():
            _call(silence)
        self._watch.close()
        await self._lifetimes.leave()
        self._attached.clear()

    async def _remove(self, attached: AttachedSink) -> None:
        lifetime, silence = self._attached.pop(attached, (None, []))
        _call(silence)
        await attached.end(drain=False)
        if lifetime is not None:
            await self._lifetimes.leave(lifetime)

    def _durable(
        self, sink: Any, name: str, wanted: RecordFilter, silence: list[Callable[[], object]]
    ) -> "DurableReader":
        """A reader of the journal, which the bus wakes up."""
        journal, clock, notify = self._bus.journal, self._clock, self._notify
        reader = relay.durable.durable_reader(name, sink, journal, clock=clock, notify=notify, wanted=wanted)
        silence.append(self._bus.subscribe(reader.wake, name=name).close)
        reader.start(self._supervise)
        return reader

    async def _subscribe(
        self, sink: Sink, jobs: list[Job] | None, after: int | None, name: str, wanted: RecordFilter
    ) -> Subscription:
        def of_node(record: Record) -> bool:
            return self._bus.own and wanted(record)

        # A webhook would be posted once by each node: a sink receives the records of its own.
        how: Any = {"name": name, "watch": self._watch, "wanted": of_node if self._bus.shared else wanted}
        if after is None:
            return self._bus.subscribe(sink, jobs, **how)
        return await self._bus.replay(sink, jobs, after=after, **how)

    def _check_shared(self, options: SinkOptions) -> None:
        """Raise UsageError for what needs a place in the journal, where that is shared by several nodes."""
        name = options.name or name_of(options.sink)
        if self._bus.shared and options.durable:
            raise UsageError(
                f"sink {name} cannot be durable: a journal that several nodes share keeps no cursors; leave out"
                ' durable, or run one relay with a journal in a file, such as url = "sqlite:relay.db"'
            )
        if self._bus.shared and options.since not in (None, "now"):
            raise UsageError(
                f"sink {name} cannot begin in the past: the kept records are those of all nodes, and each was given to"
                " the sinks of its own; leave out since"
            )

    def _name(self, options: SinkOptions) -> str:
        used = [attached.name for attached in self._attached]
        if options.name is None:
            return unique_name(name_of(options.sink), used)
        if options.name in used:
            raise UsageError(f"there is a sink called {options.name!r} already; give each a name of its own")
        return options.name

    def _jobs(self, options: SinkOptions) -> list[Job] | None:
        if options.jobs is None:
            return None
        return [job if isinstance(job, Job) else self._job(job) for job in options.jobs]

    def _after(self, options: SinkOptions) -> int | None:
        """The offset behind which the sink begins; None for the next record."""
        match options.since:
            case None | "now":
                return None
            case Position() as position:
                return self._checked(position, options)
            case _:
                return 0

    def _checked(self, position: Position, options: SinkOptions) -> int:
        journal = self._bus.journal
        if position.epoch != journal.epoch or position.offset > journal.head:
            raise UsageError(
                f'the position {position} is none of this journal, which was begun anew since; begin with since="start"'
            )
        if not journal.has_all_since(position.offset):
            name = options.name or name_of(options.sink)
            self._notify(f"sink {name} has a gap: some records behind {position} are no longer kept")
        return position.offset


def _call(functions: Iterable[Callable[[], object]]) -> None:
    for function in functions:
        function()
