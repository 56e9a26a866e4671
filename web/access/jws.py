"""A signed token as a client sends it, read as far as that needs no key: bounded, canonical, and with one algorithm.

[spec] RFC 7515 (the compact form of a signature), RFC 8725 (best practice for tokens)
"""

import base64
import json
import re
from collections.abc import Collection
from typing import Final, Literal, TypeAlias, cast

from msgspec import Struct

__all__ = [
    "KID_LIMIT",
    "NAME_LIMIT",
    "TOKEN_LIMIT",
    "Reason",
    "RefusedError",
    "Signed",
    "is_name",
    "json_object",
    "read_signed",
]

TOKEN_LIMIT: Final = 8_192
"""The most characters of a token that is looked at: a line of a request's head has no more."""

KID_LIMIT: Final = 256
NAME_LIMIT: Final = 252
"""The most characters of a name from a token. With `jwt:` in front it is a subject of 256."""

_FORM: Final = re.compile(r"([A-Za-z0-9_-]{1,4096})\.([A-Za-z0-9_-]{0,8192})\.([A-Za-z0-9_-]{1,2048})")
"""Three parts in base64url without padding. An empty signature is what `none` has."""

_TYPES: Final = frozenset({"jwt", "at+jwt"})
"""The general type, and that of an access token (RFC 9068, 2.1). A token of any other was made for another use."""

Reason: TypeAlias = Literal[
    "form", "header", "algorithm", "claims", "issuer", "audience", "time", "key", "signature", "internal"
]
"""Why a token was refused. It is for the operator's figures; a client only learns that its token is not valid."""


class RefusedError(Exception):
    """The token is not valid; the text of it is in no message."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Signed(Struct, frozen=True):
    """The parts of a token whose signature is not verified yet: nothing of it is true."""

    token: str
    algorithm: str
    kid: str | None
    payload: bytes
    signature: bytes


def read_signed(token: str, algorithms: Collection[str]) -> Signed:
    """The parts of *token*, which has to name one of *algorithms*. Raises RefusedError.

    A header may hold a key or the address of one (`jwk`, `jku`, `x5c`, `x5u`): these are not looked at.
    """
    if (parts := _FORM.fullmatch(token)) is None:
        raise RefusedError("form")
    header, payload, signature = (_decoded(part) for part in parts.groups())
    fields = json_object(header, "header")
    algorithm, kid, kind = fields.get("alg"), fields.get("kid"), fields.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise RefusedError("algorithm")
    # [spec] RFC 7515, 4.1.11: an extension that is critical and not understood makes the token invalid; none is
    # understood here. `b64` (RFC 7797) is one of them, also where a header does not say that it is critical.
    if "crit" in fields or "b64" in fields:
        raise RefusedError("header")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise RefusedError("header")
    if "kid" in fields and not is_name(kid, KID_LIMIT):
        raise RefusedError("header")
    return Signed(token, algorithm, cast("str | None", kid), payload, signature)


def json_object(text: bytes, reason: Reason) -> dict[str, object]:
    """The JSON object that *text* is. Raises RefusedError for anything else, and where one name is there twice.

    Of two claims of one name, readers take the first or the last (RFC 8259, 4), so one may have checked another than
    the one that counts.
    """
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RefusedError(reason)
    return cast("dict[str, object]", value)


def is_name(value: object, limit: int) -> bool:
    """Whether *value* is a text of 1 to *limit* characters that print, without a space at either end."""
    return isinstance(value, str) and 1 <= len(value) <= limit and value.isprintable() and value == value.strip()


def _decoded(part: str) -> bytes:
    """*part*, which has the characters of base64url alone. Raises RefusedError unless it is the only spelling."""
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise RefusedError("form") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise RefusedError("form")
    return decoded


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is there twice")
    return fields


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
