"""Webhooks of upstreams: the address of each job, and how a call proves that it comes from its upstream."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import quote

from msgspec import Struct

from relay.clock import Clock, SystemClock
from relay.errors import UsageError

__all__ = ["WebhookKeys", "Webhooks", "challenge"]

TOLERANCE: Final = 300
"""Seconds by which the timestamp of a signed call may differ from our time of day."""

REMEMBERED: Final = 10_000
SHORTEST_SECRET: Final = 16
LONGEST_CHALLENGE: Final = 1024

_ReadKey = Callable[[], str]


class WebhookKeys(Struct, frozen=True):
    """The keys of one upstream, each as a function that returns it as it is now.

    *secret* is the relay's own, of which the address of each job is made. *signing_secret* is the upstream's, where it
    signs its calls as Standard Webhooks has it, which begins with `whsec_`.
    """

    secret: _ReadKey
    signing_secret: _ReadKey | None = None

    def __repr__(self) -> str:
        return "WebhookKeys(***)"


class Webhooks:
    """The addresses that upstreams call, and the checks of a call. Its contents are never read: it wakes the poller.

    *public_url* is how upstreams reach the relay; *keys* are those of the upstreams with a webhook, by name.
    Raises UsageError for a secret of fewer than 16 characters, or a signing secret that is none.
    """

    def __init__(self, public_url: str, keys: Mapping[str, WebhookKeys], *, clock: Clock | None = None) -> None:
        for name, own in keys.items():
            if len(own.secret()) < SHORTEST_SECRET:
                raise UsageError(f"the webhook secret of upstream {name} has fewer than {SHORTEST_SECRET} characters")
            if own.signing_secret is not None and not _signing_key(own.signing_secret()):
                raise UsageError(f"the signing secret of upstream {name} is not of the form whsec_ and base64")
        self._base = public_url.rstrip("/")
        self._keys = dict(keys)
        self._clock: Clock = clock or SystemClock()
        self._nobody = secrets.token_hex(32)
        self._heard: dict[tuple[str, str, str], int] = {}

    def url(self, upstream: str, job: str) -> str | None:
        """The address at which *upstream* calls about *job*; None if that upstream has no webhook."""
        if upstream not in self._keys:
            return None
        return f"{self._base}/v1/webhooks/{quote(upstream, safe='')}/{quote(job, safe='')}/{self._token(upstream, job)}"

    def allows(self, upstream: str, job: str, token: str) -> bool:
        """Whether *token* is the one in the address of *job*. It takes as long whatever it finds."""
        return hmac.compare_digest(self._token(upstream, job).encode(), token.encode("utf-8", "replace"))

    def genuine(self, upstream: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a call that `allows` is signed by *upstream*, just now, and not a replay; True where it never signs.

        [spec] Standard Webhooks: `webhook-signature` holds, after `v1,`, the HMAC-SHA256 of id, timestamp and body.
        """
        keys = self._keys.get(upstream)
        if keys is None or keys.signing_secret is None:
            return keys is not None
        id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        now = int(self._clock.now().timestamp())
        if not (id and stamp.isascii() and stamp.isdigit() and len(stamp) <= 12 and abs(now - int(stamp)) <= TOLERANCE):
            return False
        message = b".".join([id.encode("utf-8", "replace"), stamp.encode(), body])
        wanted = base64.b64encode(hmac.digest(_signing_key(keys.signing_secret()), message, hashlib.sha256))
        given = [part[3:] for part in headers.get("webhook-signature", "").split(" ") if part.startswith("v1,")]
        if not any(hmac.compare_digest(wanted, one.encode("utf-8", "replace")) for one in given):
            return False
        return self._is_new((upstream, id, stamp), now)

    def _token(self, upstream: str, job: str) -> str:
        keys = self._keys.get(upstream)
        key = self._nobody if keys is None else keys.secret()
        mac = hmac.digest(key.encode(), json.dumps(["callback", upstream, job]).encode(), hashlib.sha256)
        # The prefix lets `relay.wire.redactor` find it in whatever repeats the address.
        return "cb_" + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()

    def _is_new(self, call: tuple[str, str, str], now: int) -> bool:
        while self._heard and (len(self._heard) >= REMEMBERED or next(iter(self._heard.values())) < now):
            del self._heard[next(iter(self._heard))]
        if call in self._heard:
            return False
        # A timestamp from the future is good until it lies TOLERANCE back.
        self._heard[call] = now + 2 * TOLERANCE
        return True


def challenge(body: bytes) -> str | int | None:
    """The value to return to a call that verifies an address, as MiniMax does; None for any other call."""
    try:
        fields: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    asked: Any = cast("dict[str, Any]", fields).get("challenge") if isinstance(fields, dict) else None
    if isinstance(asked, str):
        return asked if len(asked) <= LONGEST_CHALLENGE else None
    return asked if isinstance(asked, int) and abs(asked) < 2**63 else None


def _signing_key(secret: str) -> bytes:
    """The key in *secret*, empty where there is none."""
    prefix, _, encoded = secret.partition("_")
    try:
        return base64.b64decode(encoded, validate=True) if prefix == "whsec" else b""
    except (binascii.Error, ValueError):
        return b""
