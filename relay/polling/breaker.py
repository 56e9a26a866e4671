"""How long to back off after a failure, and whether an account may be polled at all. Pure: time is handed in."""

from typing import Final, Literal

from relay.errors import ErrorKind, UpstreamError
from relay.pace import MAX_DELAY, Pace, clamp_delay

__all__ = ["AUTH_PROBE", "CONFIRMED", "Breaker", "back_off", "is_of_the_account"]

AUTH_PROBE: Final = 30.0
"""Seconds between two tries with a token that was not accepted: it may have been unlocked, and seldom is."""

_OF_THE_ACCOUNT: Final[frozenset[ErrorKind]] = frozenset({"network", "timeout", "server", "rate-limit", "auth"})


def is_of_the_account(kind: ErrorKind) -> bool:
    """Whether an error of this *kind* concerns the whole account, not only the task of the request."""
    return kind in _OF_THE_ACCOUNT


def back_off(pace: Pace, in_a_row: int, error: UpstreamError, chance: float) -> float:
    """The seconds until the next try, after *in_a_row* failures, this one counted.

    The first comes an interval later. From then on it is anywhere between an interval and a ceiling that doubles up to
    MAX_DELAY (full jitter), so that jobs which failed together do not return together. A Retry-After of the upstream
    comes first, within the bounds of `clamp_delay`. It is never sooner than an interval. *chance* is from 0 to 1.
    """
    shortest = pace.interval
    if error.kind == "auth":
        return max(AUTH_PROBE, shortest)
    if error.retry_after is not None:
        return round(max(shortest, clamp_delay(error.retry_after)), 3)
    ceiling = max(shortest, min(MAX_DELAY, shortest * 2.0 ** min(in_a_row - 1, 16)))
    return round(shortest + (ceiling - shortest) * chance, 3)


CONFIRMED: Final = 2
"""How many tasks must be refused, one after the other, until the account is in trouble and not a task alone."""


class Breaker:
    """Holds off the requests of an account in trouble: it opens after *threshold* failures in a row.

    Each task is to be counted once, with its first failure: a second failure says nothing new of the account. So a task
    that alone fails never opens it.

    While it is open no request is made. From *until* on it is half-open: one request may try, and its outcome closes
    the breaker or opens it again.
    """

    def __init__(self, threshold: int = 5) -> None:
        self.until: float = 0.0
        self.state: Literal["closed", "open", "half-open"] = "closed"
        self._threshold = threshold
        self._in_a_row = 0
        self._refusals = 0
        self._openings = 0
        self._limited = False
        self._refusal = False

    @property
    def token_refused(self) -> bool:
        """Whether it is open because the account's token was refused."""
        return self.state == "open" and self._refusal

    @property
    def openings(self) -> int:
        """How many times it has opened since it was last closed."""
        return self._openings

    def allows(self, now: float) -> bool:
        """Whether a request may be made now. Call `try_out` before making one while the breaker is open."""
        return self.state == "closed" or (self.state == "open" and now >= self.until)

    def try_out(self) -> None:
        """One request is being made to see whether the account works again."""
        if self.state == "open":
            self.state = "half-open"

    def counts(self, *, at_once: bool = False, refusal: bool = False) -> bool:
        """Count a failure; return whether the breaker is to open (again).

        With *at_once* one failure is enough. Of *refusal*, of a token, CONFIRMED are.
        """
        self._in_a_row += 1
        self._refusals += refusal
        if self.state == "open":
            return False
        enough = self._in_a_row >= self._threshold or self._refusals >= CONFIRMED
        return at_once or self.state == "half-open" or enough

    def open(self, until: float, *, limited: bool = False, refusal: bool = False) -> None:
        """Allow no request before *until*, because of a *refusal* of the token or of other trouble.

        *limited* says that the upstream itself named that time.
        """
        self.state, self.until = "open", until
        self._limited, self._refusal = limited, refusal
        self._openings += 1

    def reopen(self, until: float) -> None:
        """Allow no request before *until*: the trial has broken off, and what held requests off may still do."""
        self.open(until, refusal=self._refusal)

    def close(self) -> bool:
        """Count a success; return whether that closed the breaker.

        While it is open, answers to earlier requests are no sign of a recovery.
        """
        if self.state == "open":
            return False
        self._in_a_row = self._refusals = self._openings = 0
        closes, self.state = self.state == "half-open", "closed"
        return closes

    def abandon(self) -> None:
        """Drop the requests under way: if one of them was the trial, another may be made."""
        if self.state == "half-open":
            self.state = "open"

    def reset(self) -> bool:
        """Close it, as the account is known to work; return whether it was not closed.

        If the upstream wanted more time it stays as it is.
        """
        if self.state == "closed" or self._limited:
            return False
        self._in_a_row = self._refusals = self._openings = 0
        self.state = "closed"
        return True

    def try_now(self, now: float) -> None:
        """Something has changed: let one request try at once."""
        if self.state == "open":
            self.until = now
