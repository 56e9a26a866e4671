"""What a token claims, checked against the settings: for whom it is, until when, and what it allows.

[spec] RFC 7519 (JSON Web Tokens), 4.1; RFC 6749, 3.3 (`scope`)
"""

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, cast

from msgspec import Struct

from relay.config.access import SCOPES
from relay.config.access_settings import JwtSettings
from web.access.jws import NAME_LIMIT, RefusedError, is_name, json_object

__all__ = ["Claims", "read_claims"]

_Jobs: TypeAlias = Literal["own", "*"] | frozenset[str]

_TEN_YEARS: Final = 10 * 366 * 86_400
_SCOPE_LIMIT: Final = 4_096
_AUDIENCES: Final = 100
_JOBS: Final = 1_000
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class Claims(Struct, frozen=True, kw_only=True):
    """What a valid token says. *subject* is its `sub`, and *id* its `jti`, or empty; neither is a secret.

    *scopes* are those of its `scope` that this relay knows. *jobs*: the subject's own, all (`*`), or some
    by id. *expires* is in seconds since 1970: the time from which the token is refused, that is `exp` and the leeway.
    *issued* is its `iat`, if it has one.
    """

    subject: str
    scopes: frozenset[str]
    jobs: _Jobs
    expires: float
    issued: float | None
    id: str


def read_claims(payload: bytes, settings: JwtSettings, now: float) -> Claims:
    """The claims of *payload*, where they hold at *now*, in seconds since 1970. Raises RefusedError."""
    claims = json_object(payload, "claims")
    if claims.get("iss") != settings.issuer:
        raise RefusedError("issuer")
    if not _is_for(settings.audience, claims.get("aud")):
        raise RefusedError("audience")
    expires, issued = _checked_times(claims, now, settings.leeway)
    subject, token_id = claims.get("sub"), claims.get("jti", "")
    if not is_name(subject, NAME_LIMIT) or not (token_id == "" or is_name(token_id, NAME_LIMIT)):
        raise RefusedError("claims")
    return Claims(
        subject=cast("str", subject),
        scopes=_scopes(claims.get("scope", "")),
        jobs=_jobs(claims.get("jobs", "own")),
        expires=expires + settings.leeway,
        issued=issued,
        id=cast("str", token_id),
    )


def _is_for(audience: str, claimed: object) -> bool:
    if isinstance(claimed, list):
        listed = cast("list[object]", claimed)
        return len(listed) <= _AUDIENCES and all(isinstance(one, str) for one in listed) and audience in listed
    return claimed == audience


def _checked_times(claims: Mapping[str, object], now: float, leeway: float) -> tuple[int, int | None]:
    """`exp` and `iat`. A time is a whole number of seconds since 1970: `1e300` is a number of JSON too."""
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if "exp" not in times or not all(type(time) is int and time >= 0 for time in times.values()):
        raise RefusedError("claims")
    checked = cast("dict[str, int]", times)
    expires, issued = checked["exp"], checked.get("iat")
    if not now - leeway < expires < now + _TEN_YEARS or max(checked.get("nbf", 0), issued or 0) > now + leeway:
        raise RefusedError("time")
    return expires, issued


def _scopes(value: object) -> frozenset[str]:
    """The scopes that this relay knows: a token for several services has others as well."""
    if not isinstance(value, str) or len(value) > _SCOPE_LIMIT or not (value.isascii() and value.isprintable()):
        raise RefusedError("claims")
    return frozenset(value.split(" ")) & frozenset(SCOPES)


def _jobs(value: object) -> _Jobs:
    if value == "own":
        return "own"
    if value == "*":
        return "*"
    if not isinstance(value, list) or len(listed := cast("list[object]", value)) > _JOBS:
        raise RefusedError("claims")
    if not all(isinstance(job, str) and _JOB_ID.fullmatch(job) for job in listed):
        raise RefusedError("claims")
    return frozenset(cast("list[str]", listed))
