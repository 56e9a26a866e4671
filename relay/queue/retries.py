"""How often, and for how long, work that failed is tried again; and what work says by raising."""

from random import Random
from typing import Final

from msgspec import Struct

from relay.errors import RelayError, UsageError

__all__ = ["MINUTE", "EndpointGone", "Retries", "RetryLater", "Undeliverable"]

MINUTE: Final = 60.0


class RetryLater(RelayError):  # noqa: N818 - a word of the sink, and no fault of the relay
    """Raised by the work of a sink: the same may succeed later, after *after* seconds where the far end named a time.

    *reason* is one sentence for the operator, without secrets.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Undeliverable(RelayError):  # noqa: N818 - a word of the sink, and no fault of the relay
    """Raised by the work of a sink: the far end will never accept this, so it is not tried again."""


class EndpointGone(RelayError):  # noqa: N818 - a word of the sink, and no fault of the relay
    """Raised by the work of a sink: the far end wants nothing any more (HTTP 410), so the sink is closed."""


class Retries(Struct, frozen=True, kw_only=True):
    """Exponential back-off with full jitter, bounded in time and, with *attempts*, in number.

    The delay behind attempt n is drawn from 0 to min(cap, base * 2**(n-1)) seconds. It ends *within* seconds after the
    first attempt. With `attempts=1` nothing is tried again. Full jitter: the attempts of many sinks do not fall
    together (M. Brooker, "Exponential Backoff And Jitter", 2015).
    """

    within: float = MINUTE
    attempts: int | None = None
    base: float = 0.5
    cap: float = 30.0

    def __post_init__(self) -> None:
        if self.within < 0 or self.base <= 0 or self.cap < self.base:
            raise UsageError("retries need within >= 0 and 0 < base <= cap, in seconds")
        if self.attempts is not None and self.attempts < 1:
            raise UsageError("retries have at least one attempt")

    def delay(self, attempt: int, random: Random) -> float:
        """Seconds behind the failed attempt number *attempt*, which begins at 1."""
        return random.uniform(0, min(self.cap, self.base * 2 ** min(attempt - 1, 60)))

    def end(self, attempt: int, elapsed: float) -> bool:
        """Whether nothing follows attempt number *attempt*, *elapsed* seconds after the first began."""
        return elapsed >= self.within or (self.attempts is not None and attempt >= self.attempts)
