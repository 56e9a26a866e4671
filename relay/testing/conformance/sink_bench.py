"""Makes trials of one sink, and the records for them; controls its far end."""

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Final

from msgspec import Struct

from relay import UsageError
from relay.attachments.adapt import as_sink
from relay.bus.subscription import name_of
from relay.events import Event, Position, Record
from relay.notices import INTERRUPTIONS, shown
from relay.testing.conformance.broken_law import BrokenLawError, NotExercisedError
from relay.testing.conformance.far_end import CONTROLS, Trouble
from relay.testing.conformance.fast_forward_loop import HasteningLoop, LoopClock
from relay.testing.conformance.read_back import mark_of
from relay.testing.conformance.sink_stories import accepted, progress
from relay.testing.conformance.sink_trial import SinkTrial
from relay.wire.record_json import stamp

__all__ = ["Asked", "Bench"]

_MOMENT: Final = 0.05


class Asked(Struct, frozen=True, kw_only=True):
    """The arguments of `check_sink`."""

    make: Callable[[], Any]
    name: str
    output: Callable[[], bytes] | None
    far_end: Any
    writes: Callable[[Record], bool]
    canary: str | None
    target: str | None
    hasten: bool
    patience: float


class Bench:
    """Makes trials of one sink, and records with texts of their own, for as long as the bench is used."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.name: str = asked.name
        self.clock: LoopClock = LoopClock()
        self.log: list[str] = []
        self._offset = 0
        self._jobs = 0
        self._seqs = Counter[str]()

    def job(self) -> str:
        """The id of a job that no other record has."""
        self._jobs += 1
        return f"job_check_{self._jobs:07d}"

    def mark(self) -> str:
        """A mark that no other text has."""
        self._offset += 1
        return mark_of(self._offset)

    def record(self, job: str, event: Callable[[str], Event]) -> Record:
        """The next record of *job*; *event* is called with the mark that its text is to hold."""
        mark = self.mark()
        self._seqs[job] += 1
        at = self.clock.now() + timedelta(microseconds=self._offset)
        return stamp(job, self._seqs[job], at, event(mark), Position("check", self._offset))

    def story(self, job: str, length: int, end: Callable[[str], Event] | None = None) -> list[Record]:
        """*length* records of *job*: it is accepted, moves, and has an *end* if one is named."""
        events: list[Callable[[str], Event]] = [accepted, *(progress(number) for number in range(length - 1))]
        if end is not None:
            events[-1] = end
        return [self.record(job, event) for event in events]

    def made(self) -> "SinkTrial":
        """A trial of a sink that is not entered yet."""
        begun = self.output() if self.asked.output is not None else b""
        try:
            given = self.asked.make()
        except INTERRUPTIONS:
            raise
        except BaseException as error:
            raise BrokenLawError(f"making it raised {shown(error)}") from error
        self.name = name_of(given)
        try:
            return SinkTrial(self, given, as_sink(given), len(begun))
        except UsageError as error:
            raise BrokenLawError(str(error)) from None

    def output(self) -> bytes:
        """All that was written so far. Raises NotExercisedError if no output was given."""
        if self.asked.output is None:
            raise NotExercisedError("no output= was given, which returns the bytes that the sink has written")
        return self.asked.output()

    @property
    def hastened(self) -> bool:
        """Whether waiting costs no time now: not with a far end in another process, nor while a thread is at work."""
        loop = asyncio.get_running_loop()
        return isinstance(loop, HasteningLoop) and not loop.busy()

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator["SinkTrial"]:
        """A trial of a sink that is entered, and is left at the end."""
        trial = self.made()
        await trial.enter()
        try:
            yield trial
        except BaseException:
            await trial.abandon()
            raise
        await trial.leave()

    async def frozen(self, *, managed: bool = False) -> "SinkTrial":
        """A trial of a sink that was entered, and whose far end then froze. With *managed* it must be a manager."""
        trial = self.made()
        if managed:
            trial.must_be_managed()
        await trial.enter()
        await self.trouble("frozen")
        return trial

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, or a moment of it where time is real."""
        await asyncio.sleep(seconds if self.hastened else min(seconds, _MOMENT))

    def must_make(self, kind: Trouble) -> None:
        """Raise NotExercisedError unless the far end can make this trouble; call it before a sink is entered."""
        if self.asked.far_end is None:
            raise NotExercisedError("no far_end= was given, which makes trouble")
        if not self.can_make(kind):
            raise NotExercisedError(f"the far end has no method {kind!r}: {CONTROLS[kind]}")

    def can_make(self, kind: Trouble) -> bool:
        """Whether the far end can make this trouble."""
        return callable(getattr(self.asked.far_end, kind, None))

    async def trouble(self, kind: Trouble) -> None:
        """Let the far end make trouble."""
        await _awaited(getattr(self.asked.far_end, kind)())

    async def peace(self) -> None:
        """End all trouble of the far end."""
        if callable(back := getattr(self.asked.far_end, "back", None)):
            await _awaited(back())

    @contextmanager
    def listening(self) -> Generator[None]:
        """Keep what goes to the `relay` logger meanwhile."""
        handler = _Listener(self.log)
        logger = logging.getLogger("relay")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


async def _awaited(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


class _Listener(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(self.format(record))
