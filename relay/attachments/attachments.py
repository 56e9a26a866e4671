"""The sinks of a running relay: added, entered, and removed, while records flow."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from relay.attachments.adapt import as_sink
from relay.attachments.attached import AttachedSink, SubscribedDelivery
from relay.attachments.options import SinkOptions, check_options
from relay.bus.bus import Bus
from relay.bus.hold_watch import HoldWatch
from relay.bus.record_filter import RecordFilter
from relay.bus.subscription import Sink, Subscription, name_of, unique_name
from relay.clock import Clock
from relay.errors import UsageError
from relay.events import Position
from relay.jobs.state import Job
from relay.notices import Notify
from relay.supervision.lifetimes import Lifetime, Lifetimes

__all__ = ["Attachments"]


class Attachments:
    """Adds sinks to *bus* and removes them. *job* finds a job by its id. `close` removes all of them."""

    def __init__(self, bus: Bus, clock: Clock, notify: Notify, lifetimes: Lifetimes, job: Callable[[str], Job]) -> None:
        self._bus = bus
        self._clock = clock
        self._notify = notify
        self._lifetimes = lifetimes
        self._job = job
        self._watch = HoldWatch(clock, notify)
        self._attached: dict[AttachedSink, tuple[Lifetime | None, Callable[[], None] | None]] = {}

    def __iter__(self) -> Iterator[AttachedSink]:
        return iter(list(self._attached))

    async def add(self, options: SinkOptions, *, consequence: str) -> AttachedSink:
        """Enter a sink, and give it records. Raises UsageError for what cannot be; *consequence* ends its sentence."""
        check_options(options)
        jobs = self._jobs(options)
        after = self._after(options)
        sink = as_sink(options.sink)
        name = self._name(options)
        if callable(bind := getattr(sink, "bind", None)):
            bind(self._clock, self._notify, name)
        lifetime = None
        if hasattr(sink, "__aenter__"):
            managed = cast("AbstractAsyncContextManager[object]", sink)
            lifetime = await self._lifetimes.enter(f"sink {name}", managed, consequence=consequence)
        try:
            wanted = RecordFilter(self._clock, options.level, options.types, options.where)
            subscription = await self._subscribe(sink, jobs, after, name, wanted)
        except BaseException:
            if lifetime is not None:
                await self._lifetimes.leave(lifetime)
            raise
        self._watch.start()
        attached = AttachedSink(
            SubscribedDelivery(subscription, sink),
            wanted,
            head=lambda: self._bus.journal.head,
            sink=options.sink,
            remove=self._remove,
        )
        listener = getattr(sink, "exchange", None)
        silence = self._bus.subscribe_exchanges(listener) if callable(listener) else None
        self._attached[attached] = lifetime, silence
        return attached

    async def close(self) -> None:
        """Give no sink any further record, and leave all that were entered, within the bound for all of them."""
        for attached, (_, silence) in self._attached.items():
            attached.close()
            if silence is not None:
                silence()
        self._watch.close()
        await self._lifetimes.leave()
        self._attached.clear()

    async def _remove(self, attached: AttachedSink) -> None:
        lifetime, silence = self._attached.pop(attached, (None, None))
        if silence is not None:
            silence()
        if lifetime is not None:
            await self._lifetimes.leave(lifetime)

    async def _subscribe(
        self, sink: Sink, jobs: list[Job] | None, after: int | None, name: str, wanted: RecordFilter
    ) -> Subscription:
        how: Any = {"name": name, "watch": self._watch, "wanted": wanted}
        if after is None:
            return self._bus.subscribe(sink, jobs, **how)
        return await self._bus.replay(sink, jobs, after=after, **how)

    def _name(self, options: SinkOptions) -> str:
        used = [attached.name for attached in self._attached]
        if options.name is None:
            return unique_name(options.sink, used)
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
