"""Work that is awaited for records: with a time limit, tried again, and set aside while it keeps failing."""

import asyncio
from random import Random
from typing import Final, Literal, TypeAlias

from relay.clock import Clock, rest
from relay.notices import Notify, describe, notice
from relay.queue.attempts import ATTEMPT_TIMEOUT, Attempts, Work
from relay.queue.counts import Breaker
from relay.queue.retries import EndpointGone, Retries, RetryLater, Undeliverable

__all__ = ["PROBE_EVERY", "QUARANTINE_AFTER", "Outcome", "Worker"]

Outcome: TypeAlias = Literal["delivered", "failed", "gone"]

QUARANTINE_AFTER: Final = 5
PROBE_EVERY: Final = 30.0


class Worker:
    """Awaits *work* until it succeeds or is given up on; `Attempts` isolates it, and gives each attempt its *timeout*.

    After QUARANTINE_AFTER failures in a row the breaker opens, and an attempt is made every PROBE_EVERY seconds. *what*
    is the name for the operator, such as "sink redis".
    """

    def __init__(self, work: Work, *, retries: Retries | None = None, timeout: float = ATTEMPT_TIMEOUT) -> None:
        self.retries: Retries = retries or Retries()
        self.what: str = "sink"
        self.notify: Notify = notice
        self.hurry: asyncio.Event = asyncio.Event()
        """Set for one attempt at once instead of later: at the end, or once the far end is known to work."""
        self._attempts = Attempts(work, timeout)
        self._random = Random()  # noqa: S311 - it spreads retries, it protects nothing
        self._streak = 0
        self._probing = False
        self._given_up = 0

    @property
    def clock(self) -> Clock:
        """The clock of all its times."""
        return self._attempts.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._attempts.clock = clock

    @property
    def breaker(self) -> Breaker:
        """The state of the breaker."""
        if self._streak < QUARANTINE_AFTER:
            return "closed"
        return "half-open" if self._probing else "open"

    @property
    def is_failing(self) -> bool:
        """Whether the latest attempt failed."""
        return self._streak > 0

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
        self._probing = True
        try:
            return await self._attempts.make(given)
        finally:
            self._probing = False

    def _delay(self, error: BaseException, attempt: int) -> float:
        after = error.after if isinstance(error, RetryLater) else None
        delay = self.retries.delay(attempt, self._random) if after is None else min(max(0.0, after), self.retries.cap)
        return max(delay, PROBE_EVERY) if self._streak >= QUARANTINE_AFTER else delay

    async def _pause(self, seconds: float) -> None:
        await rest(self.clock, seconds, self.hurry)
        self.hurry.clear()

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
