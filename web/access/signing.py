"""What the relay gives out itself, and recognises again by its signature: sessions, tickets and watch links.

A signature covers its purpose, so that none passes as another, and the text that is compared is the text that was made:
decoded bytes have several spellings in base64.
"""

import binascii
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

__all__ = ["SIGNED_LIMIT", "Claims", "Purpose", "Signer"]

Purpose: TypeAlias = Literal["session", "ticket", "bound", "watch"]

SIGNED_LIMIT: Final = 3_800
"""Characters of what is signed: a browser keeps cookies of up to 4,096, with name and attributes."""

_PREFIXES: Final[dict[Purpose, str]] = {"session": "rls_", "ticket": "rlt_", "bound": "rlb_", "watch": "rlc_"}


class Claims(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"subject": "sub"}):
    """The signed facts. Times are in seconds since 1970; *nonce* makes each ticket another one."""

    subject: str
    scopes: tuple[str, ...]
    jobs: str | tuple[str, ...]
    expires: int
    issued: int
    credential: str = ""
    renew: float | None = None
    nonce: str = ""


class Signer:
    """Signs and recognises texts with one *key*; without one, with a key that ends with the process."""

    def __init__(self, key: bytes | None = None) -> None:
        key = key or secrets.token_bytes(32)
        self._keys: dict[Purpose, bytes] = {
            purpose: hmac.digest(key, b"relay/%b/1" % purpose.encode(), "sha256") for purpose in _PREFIXES
        }
        self.id: str = hmac.digest(key, b"relay/id/1", "sha256").hex()[:8]
        """The name of this key, in names of cookies too; it is no part of the key."""

    def sign(self, purpose: Purpose, claims: Claims) -> str:
        """*claims* as a text of printing ASCII without white space, signed for *purpose*."""
        return self._signed(purpose, urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=").decode())

    def verify(self, purpose: Purpose, text: str, now: float) -> Claims | None:
        """The claims in *text*, if it was signed for *purpose* and has not expired at *now*; never raises."""
        body = self._body(purpose, text)
        if body is None:
            return None
        try:
            claims = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Claims)
        except (binascii.Error, ValueError):
            return None  # signed by another version of the relay
        return claims if now < claims.expires else None

    def sign_watch(self, job: str, expires: int) -> str:
        """A capability: every client that has it may read *job*, until *expires*."""
        return self._signed("watch", f"{expires:x}.{job}")

    def verify_watch(self, text: str, now: float) -> tuple[str, int] | None:
        """The job and the end of a capability that has not expired at *now*; never raises."""
        if (body := self._body("watch", text)) is None:
            return None
        end, _, job = body.partition(".")
        return (job, expires) if now < (expires := int(end, 16)) else None

    def bind(self, ticket: str, path: str) -> str:
        """What a browser presents beside *ticket* once it is bound to the stream at *path*."""
        return self._signed("bound", _digest(f"{path} {ticket}"))

    def is_bound(self, text: str, ticket: str, path: str) -> bool:
        """Whether *text* was made by `bind` for this *ticket* and *path*."""
        return self._body("bound", text) == _digest(f"{path} {ticket}")

    def _signed(self, purpose: Purpose, body: str) -> str:
        return f"{_PREFIXES[purpose]}{self.id}.{body}.{self._mac(purpose, body)}"

    def _body(self, purpose: Purpose, text: str) -> str | None:
        """The signed part of *text*, which is read only after its signature was found to hold."""
        if len(text) > SIGNED_LIMIT or not text.isascii() or not text.startswith(f"{_PREFIXES[purpose]}{self.id}."):
            return None
        body, _, mac = text.removeprefix(f"{_PREFIXES[purpose]}{self.id}.").rpartition(".")
        return body if hmac.compare_digest(mac, self._mac(purpose, body)) else None

    def _mac(self, purpose: Purpose, body: str) -> str:
        mac = hmac.digest(self._keys[purpose], f"{self.id}.{body}".encode(), "sha256")
        return urlsafe_b64encode(mac).rstrip(b"=").decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
