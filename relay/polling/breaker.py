"""How long to hold off after a failure, and whether an account may be asked at all. Pure: time and chance are given."""

from typing import Final, Literal

from relay.cadence import LONGEST, Pace, clamped
from relay.errors import ErrorKind, UpstreamError

__all__ = ["AUTH_PROBE", "Breaker", "back_off", "is_of_the_account"]

AUTH_PROBE: Final = 30.0
"""Seconds between two tries with a token that was not accepted: it may have been unlocked, and seldom is."""

_OF_THE_ACCOUNT: Final[frozenset[ErrorKind]] = frozenset({"network", "timeout", "server", "rate-limit", "auth"})


def is_of_the_account(kind: ErrorKind) -> bool:
    """Whether an error of this *kind* says something of the whole account, not only of the task asked about."""
    return kind in _OF_THE_ACCOUNT


def back_off(pace: Pace, in_a_row: int, error: UpstreamError, chance: float) -> float:
    """The seconds until the next try, after *in_a_row* failures, this one counted.

    The first comes an interval later. From then on it is anywhere between an interval and a ceiling that doubles up to
    LONGEST (full jitter), so that many who failed together do not return together. What the upstream asked for in
    Retry-After comes first, within bounds. *chance* is from 0 to 1.
    """
    shortest = min(pace.interval, LONGEST)
    if error.kind == "auth":
        return max(AUTH_PROBE, shortest)
    if error.retry_after is not None:
        return round(max(shortest, clamped(error.retry_after)), 3)
    ceiling = min(LONGEST, shortest * 2.0 ** min(in_a_row - 1, 16))
    return round(shortest + (ceiling - shortest) * chance, 3)


class Breaker:
    """Keeps an account in trouble from being asked by many: it opens after *threshold* failures in a row.

    While it is open nobody asks. From *until* on it is half-open: one request may try, and what comes of that closes it
    or opens it again.
    """

    def __init__(self, threshold: int = 5) -> None:
        self.until = 0.0
        self.state: Literal["closed", "open", "half-open"] = "closed"
        self._threshold = threshold
        self._in_a_row = 0
        self._openings = 0

    @property
    def openings(self) -> int:
        """How many times it has opened since it was last closed."""
        return self._openings

    def allows(self, now: float) -> bool:
        """Whether a request may be made now. Who makes it while the breaker is open calls `try_out` first."""
        return self.state == "closed" or (self.state == "open" and now >= self.until)

    def try_out(self) -> None:
        """One request is being made to see whether the account works again."""
        if self.state == "open":
            self.state = "half-open"

    def counts(self, *, at_once: bool = False) -> bool:
        """Count a failure; return whether the breaker is to open (again). With *at_once* one failure is enough."""
        self._in_a_row += 1
        if self.state == "open":
            return False
        return at_once or self.state == "half-open" or self._in_a_row >= self._threshold

    def open(self, until: float) -> None:
        """Let nobody ask before *until*."""
        self.state, self.until = "open", until
        self._openings += 1

    def close(self) -> bool:
        """Count a success; return whether that closed the breaker.

        While it is open, answers to what was asked before are no sign of a recovery.
        """
        if self.state == "open":
            return False
        self._in_a_row = self._openings = 0
        closes, self.state = self.state == "half-open", "closed"
        return closes

    def try_now(self, now: float) -> None:
        """Something has changed: let one request try at once."""
        if self.state == "open":
            self.until = now
