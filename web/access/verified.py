"""Tokens that were verified, so that each is verified once: by digest, a bounded number of them, each for its time."""

import hashlib
from typing import Final, Generic, TypeVar

__all__ = ["VERIFIED_LIMIT", "VerifiedTokens"]

T = TypeVar("T")

VERIFIED_LIMIT: Final = 4_096


class VerifiedTokens(Generic[T]):
    """What each of the *most* tokens that were used last stands for; a token itself is not in memory.

    A token is ASCII. Nothing is revoked here by its digest: a signature may have several spellings.
    """

    def __init__(self, most: int = VERIFIED_LIMIT) -> None:
        self._most = most
        self._known: dict[bytes, tuple[float, T]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, token: str, now: float) -> T | None:
        """What *token* stands for at *now*, in seconds; None if it is not known, or its time is over."""
        digest = _digest(token)
        if (found := self._known.pop(digest, None)) is None:
            return None
        until, value = found
        if until <= now:
            return None
        self._known[digest] = found  # at the end: the first one is that which was not used for longest
        return value

    def keep(self, token: str, value: T, until: float) -> None:
        """Keep that *token* stands for *value* before *until*, in seconds."""
        digest = _digest(token)
        self._known.pop(digest, None)
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[digest] = (until, value)

    def clear(self) -> None:
        """Forget all: a key has changed, or the settings."""
        self._known.clear()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()
