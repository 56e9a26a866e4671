"""Tickets: what a page that cannot send headers presents in the address of a stream.

A ticket opens one stream, within FIRST_WITHIN seconds of its issue. The response binds it to the browser by a cookie
for the path of the stream, so that an EventSource reconnects to the same address, and a copy of the address is of no
use to anybody else. What binds it is signed, so that it holds after a restart; a ticket that was issued before the
restart is accepted with its cookie alone, since it may have been used.
"""

import hashlib
import math
import re
import secrets
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp.web import Request

from relay import UsageError
from web.access.access import Access
from web.access.cookies import expire_cookie, read_cookies, set_cookie
from web.access.denied import DeniedError, unauthorized
from web.access.keys import jobs_of
from web.access.signing import SIGNED_LIMIT, Claims, Signer
from web.access.ticket_uses import Announcements, TicketUses

__all__ = ["FIRST_WITHIN", "MOST_OF_A_SUBJECT", "MOST_TICKETS", "Tickets", "access_in", "claims_of"]

FIRST_WITHIN: Final = 30
"""Seconds in which a ticket opens its stream."""

MOST_TICKETS: Final = 10_000
MOST_OF_A_SUBJECT: Final = 100
"""How many tickets, of all and of one subject, may be unused at one time."""

MOST_COOKIES: Final = 8
"""How many tickets a browser keeps for one path. [measured] aiohttp refuses more than 8,190 bytes of cookies."""

FIELDS_READ: Final = 2_000
"""A query of more fields is not parsed for a ticket."""

_PATH: Final = re.compile(r"[A-Za-z0-9/._~%@!$&'()*+,=:-]+")
"""Paths that a cookie is set for. A semicolon would end the attribute `Path`, and begin another one."""

_PREFIX: Final = "rt_"
_ONCE: Final = "this ticket opens no stream: it was used by another client, or has expired; get another one"


class Tickets:
    """Issues tickets, and finds the access of each. *now* is in seconds since 1970.

    The nodes of a *cluster* agree on the first use of each: any of them may have issued it.
    """

    def __init__(self, signer: Signer, now: Callable[[], float], cluster: Announcements | None = None) -> None:
        self._signer = signer
        self._now = now
        # Those that were not used yet, by digest: a ticket that is not among them was used, maybe by another process.
        self._unused: dict[bytes, _Unused] = {}
        self._of: Counter[str] = Counter()
        self.uses: TicketUses | None = None if cluster is None else TicketUses(cluster, now, self._used_anywhere)

    def issue(self, access: Access, expires: float) -> str:
        """A ticket for *access*, whose streams end at *expires*. Raises DeniedError (429) while there are too many."""
        now = self._now()
        self._forget(now)
        if len(self._unused) >= MOST_TICKETS or self._of[access.subject] >= MOST_OF_A_SUBJECT:
            raise DeniedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many tickets have not been used yet; use those, or try again later",
                headers={"Retry-After": str(FIRST_WITHIN)},
            )
        claims = claims_of(access, expires, now, nonce=secrets.token_urlsafe(18))
        ticket = self._signer.sign("ticket", claims)
        self._unused[_digest(ticket)] = _Unused(now + FIRST_WITHIN, access.subject)
        self._of[access.subject] += 1
        return ticket

    async def find(self, request: Request, *, secure: bool, path: str) -> Claims | None:
        """What the ticket of *request* allows, None if it has none; its first use lets the response set the cookie.

        *path*: that of the stream as the browser sees it. Raises DeniedError for a ticket that is not accepted.
        """
        query = request.rel_url.raw_query_string
        if "ticket=" not in query or query.count("&") > FIELDS_READ:
            return None
        tickets = request.query.getall("ticket", [])
        if len(tickets) != 1:
            return None if not tickets else self._refuse("one stream has one ticket")
        ticket, now = tickets[0], self._now()
        claims, here = self._signer.verify("ticket", ticket, now), request.rel_url.raw_path
        if claims is None or not _PATH.fullmatch(here):
            return self._refuse(_ONCE)
        digest = _digest(ticket)
        name = f"{_PREFIX}{digest.hex()[:8]}"
        cookies = [cookie for cookie in read_cookies(request) if cookie[0].startswith(_PREFIX)]
        if any(known == name and self._signer.is_bound(value, ticket, here) for known, value in cookies):
            return claims
        if request.method != "GET" or not await self._use(digest, claims, now):
            return self._refuse(_ONCE)
        for old, _ in cookies[: max(0, len(cookies) - MOST_COOKIES + 1)]:
            expire_cookie(request, old, path=path, secure=secure)
        foreign = secure and request.headers.get("Sec-Fetch-Site") == "cross-site"
        set_cookie(
            request,
            name,
            self._signer.bind(ticket, here),
            path=path,
            secure=secure,
            seconds=max(1, math.ceil(claims.expires - now)),
            site="cross-site" if foreign else "Strict",
        )
        return claims

    def _refuse(self, detail: str) -> Claims:
        raise unauthorized(detail, "invalid_token", ambient=True, failed=True)

    async def _use(self, digest: bytes, claims: Claims, now: float) -> bool:
        """Whether the ticket with this digest may be used now, and from now on no more.

        Nothing is awaited between the look and its removal, but at several nodes, which decide by one order.
        """
        self._forget(now)
        if self.uses is not None:
            fresh = abs(now - claims.issued) <= FIRST_WITHIN
            return fresh and await self.uses.is_first(digest.hex(), claims.issued)
        known = self._unused.get(digest)
        if known is None or known.until < now:
            return False
        self._drop(digest)
        return True

    def _used_anywhere(self, digest: str) -> None:
        if (used := bytes.fromhex(digest)) in self._unused:
            self._drop(used)

    def _forget(self, now: float) -> None:
        """Forget the tickets that open nothing any more; the oldest come first."""
        while self._unused and self._unused[oldest := next(iter(self._unused))].until < now:
            self._drop(oldest)

    def _drop(self, digest: bytes) -> None:
        subject = self._unused.pop(digest).subject
        self._of[subject] -= 1
        if not self._of[subject]:
            del self._of[subject]


class _Unused(NamedTuple):
    until: float
    subject: str


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()


def claims_of(access: Access, expires: float, now: float, *, nonce: str = "") -> Claims:
    """*access* as it is signed. Raises DeniedError (400) if it names more jobs than a cookie or an address holds."""
    jobs = access.jobs if isinstance(access.jobs, str) else tuple(sorted(access.jobs))
    if sum(map(len, jobs)) + len(jobs) * 3 > SIGNED_LIMIT // 2:
        raise DeniedError(HTTPStatus.BAD_REQUEST, "this names more jobs than fit; name fewer, or all of your own")
    return Claims(
        subject=access.subject,
        scopes=tuple(sorted(access.scopes)),
        jobs=jobs,
        expires=math.floor(expires),
        issued=math.floor(now),
        credential=access.credential,
        renew=access.renew,
        nonce=nonce,
    )


def access_in(claims: Claims) -> Access:
    """The access that was signed as *claims*. Raises DeniedError if another version of the relay has signed it."""
    try:
        return Access(
            subject=claims.subject,
            scopes=frozenset(claims.scopes),
            jobs=jobs_of(claims.jobs),
            expires=float(claims.expires),
            renew=claims.renew,
            credential=claims.credential,
        )
    except UsageError:
        raise unauthorized("this access was made by another version; sign in again", ambient=True) from None
