"""Why tokens are refused: a client learns that its token is not valid, and the operator of the relay the reason."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from relay.notices import Notify
from web.access.jws import Reason

__all__ = ["QUIET_FOR", "Refusals"]

QUIET_FOR: Final = 600.0
"""Seconds between two notices of one reason."""

_WORDS: Final[Mapping[Reason, str]] = {
    "header": "its header has another `typ`, a critical extension, or a `kid` that is no text",
    "algorithm": "its `alg` is none of `algorithms`",
    "claims": "one of its claims is missing, there twice, or not of the form that it should have",
    "issuer": "its `iss` is not `issuer`",
    "audience": "its `aud` is not `audience`",
    "time": "it has expired or is not valid yet; if it should be, compare the clocks",
    "key": "the issuer has no key of its `kid` that is for its `alg`",
    "signature": "its signature is not that of the issuer's key",
    "internal": "it could not be verified, which is an error of the relay",
}
"""All but `form`: that may be any other kind of token."""


class Refusals:
    """Counts refused tokens by their reason; a notice states each reason, once in ten minutes and without the token."""

    def __init__(self, notify: Notify, now: Callable[[], float]) -> None:
        self.counts: Counter[Reason] = Counter()
        self._notify = notify
        self._now = now
        self._noticed: dict[Reason, tuple[float, int]] = {}

    def add(self, reason: Reason, error: Exception | None = None) -> None:
        """A token was refused for *reason*. Of an *error* the kind alone is shown: its text may quote the token."""
        self.counts[reason] += 1
        if reason not in _WORDS:
            return
        at, counted = self._noticed.get(reason, (-QUIET_FOR, 0))
        if (now := self._now()) - at < QUIET_FOR:
            return
        more = self.counts[reason] - counted - 1
        self._noticed[reason] = now, self.counts[reason]
        kind = f" ({type(error).__name__})" if error is not None else ""
        since = f" (and {more:,} more since the last such line)" if more else ""
        self._notify(f"[access.jwt]: a token was refused: {_WORDS[reason]}{kind}{since}")
