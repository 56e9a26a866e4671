"""Signatures of webhooks as Standard Webhooks 1.0 has them: an id, a time and the body, signed with each key."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from relay.errors import UsageError

if TYPE_CHECKING:
    from standardwebhooks import Webhook

__all__ = ["Signer", "read_keys"]

PREFIX: Final = "whsec_"
FEWEST, MOST = 24, 64
"""The bytes that a key has at least, and at most (Standard Webhooks, "Signature scheme")."""

KEYS: Final = 8
"""The most keys at a time: a rotation needs two, and every verifier tries each signature."""


def read_keys(text: str) -> list[bytes]:
    """The keys in *text*, one or more, with white space between them: `whsec_...`, in base64.

    Raises UsageError, which says which key is wrong and how, and repeats nothing of it. The package that signs accepts
    a key of any length, and one of another scheme as if it were of this one: hence the check.
    """
    words = text.split()
    if not 1 <= len(words) <= KEYS:
        raise UsageError(f"holds {len(words)} keys; it is one key, or up to {KEYS} with spaces between them")
    keys = [_key(word, "" if len(words) == 1 else f"key {number} of it ") for number, word in enumerate(words, 1)]
    if len(set(keys)) < len(keys):
        raise UsageError("holds the same key twice")
    return keys


def _key(word: str, which: str) -> bytes:
    if word.startswith(("whsk_", "whpk_")):
        raise UsageError(f"{which}is a key for ed25519; the relay signs with HMAC, whose keys begin with {PREFIX}")
    if not word.startswith(PREFIX):
        raise UsageError(f"{which}does not begin with {PREFIX}")
    encoded = word.removeprefix(PREFIX)
    # Some tools print base64 without what pads it; a verifier then fills it up, or is given the key filled up.
    padded = encoded if encoded.endswith("=") else encoded + "=" * (-len(encoded) % 4)
    try:
        key = base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        key = None
    if key is None:
        raise UsageError(f"{which}is not base64 behind {PREFIX}")
    if not FEWEST <= len(key) <= MOST:
        raise UsageError(f"{which}is {len(key)} bytes long; a key has {FEWEST} to {MOST} bytes")
    return key


class Signer:
    """Signs with every key of a secret: while a receiver changes from one key to the next, it accepts either.

    *secret* returns the text of the keys (`read_keys`). It is called for each signature, so that keys in a file can be
    replaced while the relay runs. If there is a mistake in the new ones, the last good ones stay in use, and *notify*
    gets a sentence about it. Raises UsageError.
    """

    def __init__(self, secret: Callable[[], str], notify: Callable[[str], None]) -> None:
        self._secret = secret
        self._notify = notify
        self._text = secret()
        self._hooks = _hooks(read_keys(self._text))

    def __repr__(self) -> str:
        return f"<Signer with {len(self._hooks)} keys>"

    def headers(self, id: str, at: datetime, body: bytes) -> dict[str, str]:
        """The headers of one attempt to deliver *body*, made at the moment *at*, which has a zone.

        The id is the same for each attempt, and the time is that of this one: receivers refuse an old one. The tokens
        stand in one line with one space between them. A verifier in wide use fails on any other form of it.
        """
        self._renew()
        # `sign` replaces the zone of a time instead of converting it.
        moment = at.astimezone(UTC)
        text = body.decode()
        return {
            "webhook-id": id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(hook.sign(id, moment, text) for hook in self._hooks),
        }

    def _renew(self) -> None:
        text = self._secret()
        if text == self._text:
            return
        self._text = text
        try:
            self._hooks = _hooks(read_keys(text))
        except UsageError as error:
            self._notify(f"the new secret {error}; the old one is used until that is put right")


def _hooks(keys: Sequence[bytes]) -> "list[Webhook]":
    try:
        from standardwebhooks import Webhook
    except ImportError:
        raise UsageError('needs a package that signs; run: pip install "progress-relay[webhook]"') from None
    return [Webhook(key) for key in keys]
