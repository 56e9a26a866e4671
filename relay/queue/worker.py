"""Work that is awaited for records: with a time limit, tried again, and set aside while it keeps failing."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, Literal, TypeAlias

from relay.clock import Clock, SystemClock
from relay.errors import UsageError
from relay.notices import INTERRUPTIONS, Notify, describe, notice
from relay.queue.counts import Breaker
from relay.queue.retries import EndpointGone, Retries, RetryLater, Undeliverable

__all__ = ["ATTEMPT_TIMEOUT", "PROBE_EVERY", "QUARANTINE_AFTER", "Outcome", "Work", "Worker"]

Work: TypeAlias = Callable[[Any], Awaitable[object]]
"""Awaited with one record, or with a list of records if the sink works in batches."""

Outcome: TypeAlias = Literal["delivered", "failed", "gone"]

ATTEMPT_TIMEOUT: Final = 30.0
QUARANTINE_AFTER: Final = 5
PROBE_EVERY: Final = 30.0


class Worker:
    """Awaits *work*, one attempt after the other. It isolates the work: nothing that it does ends the worker.

    An attempt has *timeout* seconds. One that ignores its cancellation is left behind, and no other begins before it
    has ended: there is at most one. After QUARANTINE_AFTER failures in a row the breaker opens, and an attempt is made
    every PROBE_EVERY seconds. *what* is the name for the operator, such as "sink redis".
    """

    def __init__(self, work: Work, *, retries: Retries | None = None, timeout: float = ATTEMPT_TIMEOUT) -> None:
        if timeout <= 0:
            raise UsageError(f"an attempt needs some time, not {timeout:g} s")
        self.retries: Retries = retries or Retries()
        self.what: str = "sink"
        self.clock: Clock = SystemClock()
        self.notify: Notify = notice
        self.hurry: asyncio.Event = asyncio.Event()
        """Set for one attempt at once instead of later: at the end, or once the far end is known to work."""
        self._work = work
        self._timeout = timeout
        self._random = Random()  # noqa: S311 - it spreads retries, it protects nothing
        self._streak = 0
        self._probing = False
        self._stuck: asyncio.Task[BaseException | None] | None = None
        self._given_up = 0

    @property
    def breaker(self) -> Breaker:
        """The state of the breaker."""
        if self._streak < QUARANTINE_AFTER:
            return "closed"
        return "half-open" if self._probing else "open"

    async def deliver(self, given: object, *, records: int) -> Outcome:
        """Await the work for *given*, which stands for that many *records*, until it succeeds or is given up on."""
        started, attempt = self.clock.monotonic(), 0
        while True:
            attempt += 1
            error = await self._attempt(given)
            if error is None:
                self._recovered()
                return "delivered"
            if isinstance(error, EndpointGone):
                self.notify(f"{self.what} is closed, for its far end wants nothing any more: {describe(error)}")
                return "gone"
            self._failed(error)
            elapsed = self.clock.monotonic() - started
            if isinstance(error, Undeliverable) or self.retries.end(attempt, elapsed):
                self._give_up(error, records)
                return "failed"
            await self._pause(self._delay(error, attempt))

    async def _attempt(self, given: object) -> BaseException | None:
        """One attempt; return how it failed, None if it succeeded."""
        self._probing = True
        timer = asyncio.ensure_future(self.clock.sleep(self._timeout))
        try:
            if self._stuck is not None:
                await asyncio.wait((self._stuck, timer), return_when=asyncio.FIRST_COMPLETED)
                if not self._stuck.done():
                    return TimeoutError("an earlier attempt has ignored its cancellation and is still under way")
                self._stuck = None
            return await self._within(timer, given)
        finally:
            self._probing = False
            timer.cancel()

    async def _within(self, timer: "asyncio.Future[None]", given: object) -> BaseException | None:
        attempt = asyncio.ensure_future(_awaited(self._work, given))
        try:
            await asyncio.wait((attempt, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not attempt.done():
                self._stuck = attempt
                attempt.add_done_callback(_forget)
                attempt.cancel()
        return attempt.result() if attempt.done() else TimeoutError(f"not done within {self._timeout:g} s")

    def _delay(self, error: BaseException, attempt: int) -> float:
        after = error.after if isinstance(error, RetryLater) else None
        delay = self.retries.delay(attempt, self._random) if after is None else min(max(0.0, after), self.retries.cap)
        return max(delay, PROBE_EVERY) if self._streak >= QUARANTINE_AFTER else delay

    async def _pause(self, seconds: float) -> None:
        hurried = asyncio.ensure_future(self.hurry.wait())
        slept = asyncio.ensure_future(self.clock.sleep(seconds))
        try:
            await asyncio.wait((hurried, slept), return_when=asyncio.FIRST_COMPLETED)
            self.hurry.clear()
        finally:
            hurried.cancel()
            slept.cancel()

    def _failed(self, error: BaseException) -> None:
        self._streak += 1
        if self._streak == 1:
            self.notify(f"{self.what} failed: {describe(error)}; it is tried again")
        elif self._streak == QUARANTINE_AFTER:
            self.notify(
                f"{self.what} failed {QUARANTINE_AFTER} times in a row and is set aside;"
                f" it is tried again every {PROBE_EVERY:.0f} s"
            )

    def _give_up(self, error: BaseException, records: int) -> None:
        self._given_up += records
        if self._given_up == records or isinstance(error, Undeliverable):
            number = "1 record" if records == 1 else f"{records:,} records"
            self.notify(f"{self.what} has given up on {number}: {describe(error)}")

    def _recovered(self) -> None:
        if self._streak:
            given_up, self._given_up = self._given_up, 0
            self._streak = 0
            self.notify(f"{self.what} works again; given up on meanwhile: {given_up:,} records")


async def _awaited(work: Work, given: object) -> BaseException | None:
    """Await *work*; return its error. Without a cancellation of this task, a CancelledError is one, too."""
    try:
        await work(given)
    except INTERRUPTIONS:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return error
    except BaseException as error:
        return error
    return None


def _forget(task: "asyncio.Task[BaseException | None]") -> None:
    """Look at the result of what was left behind, so that the event loop has nothing to complain about."""
    if not task.cancelled():
        task.exception()
