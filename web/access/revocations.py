"""Revoked subjects and credentials, which are not accepted although a signature holds. The time is handed in."""

from collections.abc import Callable
from typing import Final

__all__ = ["MOST_REVOKED", "Revocations"]

MOST_REVOKED: Final = 10_000


class Revocations:
    """The subjects and the credentials that were revoked, and when, in seconds since 1970.

    Nothing that was issued to them before is accepted any more. They are kept in memory, MOST_REVOKED of each kind: a
    restart forgets them, and accepts again whatever has not expired by then.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._subjects: dict[str, float] = {}
        self._credentials: dict[str, float] = {}

    def revoke(self, *, subject: str | None = None, credential: str | None = None, at: float = 0.0) -> None:
        """Accept nothing any more that was issued until now, or until *at*, to *subject*, or with *credential*."""
        at = max(at, self._now())
        for known, name in ((self._subjects, subject), (self._credentials, credential)):
            if name is not None:
                known.pop(name, None)
                if len(known) >= MOST_REVOKED:
                    del known[next(iter(known))]
                known[name] = at

    def holds(self, subject: str, credential: str, issued: float | None) -> bool:
        """Whether what was *issued* then is still accepted; without a time, it was issued before any revocation."""
        since = -1.0 if issued is None else issued
        return not any(
            at is not None and since <= at for at in (self._subjects.get(subject), self._credentials.get(credential))
        )
