"""One sink under test: entered, fed and left, and what can be seen of its work."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from relay.events import LEVELS, Level, Record, at_least
from relay.notices import INTERRUPTIONS, shown
from relay.testing.conformance.broken_law import BrokenLawError, NotExercisedError
from relay.testing.conformance.leftovers import Leftovers
from relay.testing.conformance.read_back import beside, read_back
from relay.testing.conformance.sink_tally import Tally, counts_of, missed_of

if TYPE_CHECKING:
    from relay.testing.conformance.sink_bench import Bench

__all__ = ["LONGEST", "RECOVERED_WITHIN", "SinkTrial", "identity", "turns"]

LONGEST: Final = 60.0
"""Seconds after which a trial gives up on entering or leaving a sink: the relay's own bounds are below that."""

RECOVERED_WITHIN: Final = 3_600.0
"""Seconds that a sink may take to go on once its far end is back: a back-off grows for as long as an outage lasts."""

_MOMENT: Final = 0.05


class SinkTrial:
    """One sink, from its making to its end: *given* is what the user made, *sink* what the relay calls in its place."""

    def __init__(self, bench: "Bench", given: object, sink: Any, begun: int) -> None:
        self.bench = bench
        self.given = given
        self.sink: Any = sink
        self.handed: list[Record] = []
        self.notices: list[str] = []
        self.left_after: float | None = None
        self._begun = begun
        self._logged = len(bench.log)
        if callable(bind := getattr(sink, "bind", None)):
            bench.clock.monotonic()
            bind(bench.clock, self.notices.append, "checked")
        self._before = counts_of(sink)
        self._missed = missed_of(sink)

    @property
    def managed(self) -> bool:
        """Whether the relay would enter and leave it."""
        return hasattr(self.sink, "__aenter__") and hasattr(self.sink, "__aexit__")

    @property
    def level(self) -> Level:
        """The level below which it leaves out records by itself."""
        level = getattr(self.sink, "level", "debug")
        return level if level in LEVELS else "debug"

    @property
    def spoken(self) -> str:
        """All that the operator was shown because of this sink."""
        return "\n".join([*self.notices, *self.bench.log[self._logged :]])

    def must_be_managed(self) -> None:
        """Raise NotExercisedError unless it is an async context manager."""
        if not self.managed:
            raise NotExercisedError("the sink is no async context manager, so the relay neither enters nor leaves it")

    async def enter(self) -> None:
        """Enter it, if the relay would."""
        if self.managed:
            await _bounded("entering it", self.sink.__aenter__)

    async def leave(self) -> None:
        """Leave it, if the relay would; *left_after* is how many seconds that took."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if self.managed:
            await _bounded("leaving it", lambda: self.sink.__aexit__(None, None, None))
        else:
            await turns()
        self.left_after = loop.time() - begun

    async def abandon(self) -> None:
        """Leave it as well as may be, after a law was broken."""
        try:
            await self.bench.peace()
            await self.leave()
        except INTERRUPTIONS:
            raise
        except BaseException as error:
            self.notices.append(shown(error))

    def hand(self, *records: Record) -> None:
        """Call it with each of *records*. Raises BrokenLawError if it raises."""
        for record in records:
            self.handed.append(record)
            try:
                self.sink(record)
            except INTERRUPTIONS:
                raise
            except BaseException as error:
                raise BrokenLawError(
                    f"it raised {shown(error)} on a {record.event.type!r} record; a sink takes every record"
                ) from error

    def accepted(self, among: Sequence[Record] | None = None) -> list[Record]:
        """The records so far that are not below its own level, or those *among* some of them."""
        records = self.handed if among is None else among
        return [record for record in records if record.terminal or at_least(record.event.level, self.level)]

    def wanted(self, among: Sequence[Record] | None = None) -> list[Record]:
        """The records so far that it is to write, or those *among* some of them."""
        return [record for record in self.accepted(among) if self.bench.asked.writes(record)]

    def written(self) -> bytes:
        """All that was written since this trial began. Raises NotExercisedError if no output was given."""
        return self.bench.output()[self._begun :]

    def found(self, among: Sequence[Record] | None = None) -> list[Record]:
        """The records that are in its output, in that order, repetitions included."""
        return read_back(self.written(), self.wanted(among))

    def missing(self, among: Sequence[Record] | None = None) -> list[Record]:
        """The records that are to be in its output and are not."""
        wanted = self.wanted(among)
        found = {identity(record) for record in read_back(self.written(), wanted)}
        return [record for record in wanted if identity(record) not in found]

    def lacks(self, records: Sequence[Record]) -> Callable[[], bool]:
        """A function that returns whether some of *records* are not in its output yet; it reads what is new alone."""
        length, missing = -1, True

        def look() -> bool:
            nonlocal length, missing
            if missing and len(self.bench.output()) != length:
                length, missing = len(self.bench.output()), bool(self.missing(records))
            return missing

        return look

    def beside(self) -> str:
        """The parts of its output that hold none of its records, and all that the operator was shown."""
        return "\n".join([*beside(self.written(), self.wanted()), self.spoken])

    def tally(self) -> Tally | None:
        """Its counts since this trial began, if it keeps any."""
        now, before = counts_of(self.sink), self._before
        if now is None or before is None:
            return None
        return Tally(*(one - other for one, other in zip(now, before, strict=True)))

    def reported(self) -> int:
        """How many records it reports as never delivered, in its counts or as `missed`."""
        tally = self.tally()
        return max(tally.lost if tally is not None else 0, missed_of(self.sink) - self._missed)

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits in it, as far as it counts that."""
        tally = self.tally()
        return tally.waiting <= 0 if tally is not None else bool(getattr(self.sink, "waiting", 0) == 0)

    async def arrived(self, records: Sequence[Record], within: float = RECOVERED_WITHIN) -> bool:
        """Return whether *records* get into its output within so many seconds."""
        lacks = self.lacks(records)
        return await self.until(lambda: not lacks(), within)

    async def until(self, met: Callable[[], bool], within: float) -> bool:
        """Return whether *met* comes true within so many seconds of the loop."""
        loop, begun, step = asyncio.get_running_loop(), time.monotonic(), 0.01
        end = loop.time() + within
        while not met():
            if loop.time() >= end or (not self.bench.hastened and time.monotonic() - begun > self.bench.asked.patience):
                return False
            await asyncio.sleep(step)
            step = min(step * 1.5, within / 20) if self.bench.hastened else _MOMENT
        return True

    async def nothing_left(self, before: Leftovers) -> str:
        """The things that it has left behind since *before*, in words, once they have had time to go."""
        await self.until(lambda: not Leftovers.now().beyond(before), 5.0)
        for thread in Leftovers.now().threads - before.threads:
            await asyncio.to_thread(thread.join, self.bench.asked.patience)
        await turns()
        return Leftovers.now().beyond(before)


def identity(record: Record) -> tuple[str, int]:
    """The job and the number of *record*, which no other record has."""
    return record.job, record.seq


async def turns(number: int = 20) -> None:
    """Let the loop turn a few times, without the time moving."""
    for _ in range(number):
        await asyncio.sleep(0)


async def _bounded(what: str, act: Callable[[], Any]) -> None:
    try:
        async with asyncio.timeout(LONGEST):
            await act()
    except INTERRUPTIONS:
        raise
    except TimeoutError as error:
        raise BrokenLawError(f"{what} took more than {LONGEST:g} seconds; bound every wait in it") from error
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raise BrokenLawError(f"{what} raised {shown(error)}") from error
