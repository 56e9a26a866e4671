"""`Authorization: Bearer`: an API key, a JWT of the configured issuer, or a watch link's capability."""

import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp.web import Request

from web.access.access import Access
from web.access.at_once import WaitsError
from web.access.attempts import FailedAttempts
from web.access.denied import DeniedError, unauthorized
from web.access.verified import VerifiedTokens

__all__ = ["TOKEN_LIMIT", "BearerTokens", "FindAccess", "Way"]

TOKEN_LIMIT: Final = 8_000
"""Characters of a token; aiohttp reads lines of a head of up to 8,190."""

FindAccess = Callable[[str, Access | None], Awaitable[Access | None]]
"""The access of a token, or None; it never raises for what a client sends. The other argument is the access that it has
found for this token before, which is to be returned if it still holds. None says then that the token is to be verified
again, and counts as no refusal.
"""


class Way(NamedTuple):
    """One kind of tokens; *kept*: the access of a token is kept, since it is found again at a price."""

    find: FindAccess
    kept: bool = False


class _Verified(NamedTuple):
    access: Access
    way: Way


class BearerTokens:
    """Finds the access of a token with the first of *ways* that knows it. *now* is in seconds since 1970.

    An address with too many failures has to wait, but with a token that was verified before.
    """

    def __init__(self, ways: tuple[Way, ...], attempts: FailedAttempts, now: Callable[[], float]) -> None:
        self._ways = ways
        self._attempts = attempts
        self._now = now
        self._verified: VerifiedTokens[_Verified] = VerifiedTokens()

    async def find(
        self, request: Request, address_of: Callable[[Request], str], *, again: bool = False
    ) -> Access | None:
        """The access of the token in *request*; None if it has none. Raises DeniedError for one that is not valid.

        *again*: only a token that was verified before is looked for, and nothing is counted. Raises WaitsError for any
        other.
        """
        token = _token_in(request)
        if token is None:
            return None
        known = self._verified.find(token, self._now())
        if again and known is None:
            raise WaitsError
        if known is not None and known.way.kept:
            return known.access
        if known is None and self._attempts.wait(address := address_of(request)):
            raise DeniedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many tokens of this address were not valid; wait before the next one",
                headers=self._attempts.fields(address),
            )
        # The way that knew it is tried first: others compare it with all their keys.
        if known is not None and (access := await known.way.find(token, known.access)) is not None:
            return access
        if again:
            raise WaitsError
        for way in self._ways:
            if (access := await way.find(token, None)) is not None:
                until = math.inf if access.expires is None else access.expires
                self._verified.keep(token, _Verified(access, way), until)
                return access
        raise unauthorized("this token is not valid here, or has expired", "invalid_token", failed=True)

    def forget(self) -> None:
        """Verify every token again: others may be valid now."""
        self._verified.clear()


def _token_in(request: Request) -> str | None:
    """The token of the one `Authorization` header; None for none, and for another scheme, which a proxy may use.

    Raises DeniedError. Its characters are checked first: aiohttp reads a header with surrogates for what is not UTF-8,
    and libraries for JWT raise errors of other kinds for these.
    """
    headers = request.headers.getall("Authorization", [])
    if not headers:
        return None
    if len(headers) > 1:
        raise unauthorized("send one Authorization header", "invalid_request", failed=True)
    scheme, _, token = headers[0].partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip(" ")
    if not (0 < len(token) <= TOKEN_LIMIT and token.isascii() and token.isprintable() and " " not in token):
        raise unauthorized("this is no token", "invalid_token", failed=True)
    return token
