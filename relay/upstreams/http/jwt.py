"""Tokens that an account signs for itself: JSON Web Tokens of short life, made anew before they run out."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, Final

from relay.clock import Clock, SystemClock
from relay.errors import UsageError

__all__ = ["Key", "SignedToken"]

Key = str | Callable[[], str]
"""A key itself, or a function that returns it as it is now."""

LASTS: Final = 1800
RENEWED_AFTER: Final = 1500
EARLIER: Final = 5
"""Seconds, for a clock of the upstream that is behind ours."""


class SignedToken:
    """The token of an account that has an access key and a secret key; call it before each request.

    A JSON Web Token (RFC 7519) signed with HS256, whose `iss` is the access key. It lasts half an hour, the most that
    Kling takes, and is made anew after 25 minutes, where the time of day has gone back, or once a key has changed.
    Neither key is ever printed. Raises UsageError for a key that is empty.
    """

    def __init__(self, access_key: Key, secret_key: Key, *, clock: Clock | None = None) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._clock = clock or SystemClock()
        self._made_of: tuple[str, str] | None = None
        self._made_at = 0
        self._token = ""

    def __call__(self) -> str:
        """The token as it is now."""
        now, keys = int(self._clock.now().timestamp()), (_value(self._access_key), _value(self._secret_key))
        if keys != self._made_of or not self._made_at <= now < self._made_at + RENEWED_AFTER:
            claims = {"iss": keys[0], "exp": now + LASTS, "nbf": now - EARLIER}
            self._token, self._made_of, self._made_at = _signed(claims, keys[1]), keys, now
        return self._token

    def __repr__(self) -> str:
        return "SignedToken(***)"


def _value(key: Key) -> str:
    value = key() if callable(key) else key
    if not value:
        raise UsageError("the access key and the secret key are texts that are not empty")
    return value


def _signed(claims: dict[str, Any], key: str) -> str:
    """[spec] RFC 7515, 3.1 and 7.1: header, payload and signature in base64url without padding, between dots."""
    header = {"alg": "HS256", "typ": "JWT"}
    parts = [_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)]
    signature = hmac.digest(key.encode(), ".".join(parts).encode(), hashlib.sha256)
    return ".".join([*parts, _encoded(signature)])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
