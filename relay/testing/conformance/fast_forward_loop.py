"""An event loop on which waiting costs nothing: while nothing happens, its time moves on to the next timer."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast

__all__ = ["HasteningLoop", "LoopClock", "run_hastened"]

T = TypeVar("T")

_QUIET: Final = 0.003
"""The real seconds without an event after which nothing is on its way: loopback delivers within microseconds."""

_ITS_OWN: Final = 1
"""The descriptor by which a thread wakes the loop. With no other, nothing can be on its way."""


class HasteningLoop(asyncio.SelectorEventLoop):
    """Skips the time in which all wait for timers. *skipped* is how many seconds that were so far.

    A request's timeout of 30 seconds passes in no time, also where aiohttp keeps it. It skips nothing while a thread of
    the executor is at work, or while *busy* returns true. Only for what happens within this process.
    """

    def __init__(self, busy: Callable[[], bool] = bool) -> None:
        self.skipped: float = 0.0
        self._threads = 0
        self.busy: Callable[[], bool] = busy
        super().__init__(_Selector(self._skip))

    def time(self) -> float:
        """The loop's clock, with what was skipped."""
        return super().time() + self.skipped

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """See `asyncio.loop.run_in_executor`."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """See `asyncio.loop.shutdown_default_executor`. Since Python 3.12 a timer limits how long threads may take."""
        self._threads += 1  # a call that was cancelled is over for the loop, and not for its thread
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._threads -= 1

    def _thread_ended(self, _: object) -> None:
        self._threads -= 1

    def _skip(self, seconds: float) -> bool:
        if self._threads or self.busy():
            return False
        self.skipped += seconds
        return True


class _Selector(selectors.DefaultSelector):
    """Waits a moment for events, and then has the rest of the time skipped."""

    def __init__(self, skip: Callable[[float], bool]) -> None:
        super().__init__()
        self._skip_time = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        quiet = _QUIET if len(self.get_map()) > _ITS_OWN else 0.0
        if timeout is None or timeout <= quiet:
            return super().select(timeout)
        events = super().select(quiet)
        if not events and not self._skip_time(timeout - quiet):
            events = super().select(timeout - quiet)
        return events


class LoopClock:
    """A `relay.clock.Clock` that reads the running loop's time; in a thread, that of the loop that used it last."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> datetime:
        """2026-01-01 00:00 UTC, and the loop's time since its machine was started."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """The loop's time."""
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        return self._loop.time() if self._loop is not None else time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the loop."""
        await asyncio.sleep(seconds)


def run_hastened(main: Callable[[HasteningLoop], Coroutine[Any, Any, T]]) -> T:
    """Run *main* on such a loop, as `asyncio.run` would."""
    with asyncio.Runner(loop_factory=HasteningLoop) as runner:
        return runner.run(main(cast("HasteningLoop", runner.get_loop())))
