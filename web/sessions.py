"""What a browser presents by itself: a session, which is a cookie, and a ticket, which is a part of an address."""

import math
import secrets
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from aiohttp.web import Request, Response
from msgspec import Meta
from msgspec.structs import replace

from relay.config.tables import seconds_in
from web.access.access import ACCESS, Access, Jobs
from web.access.cookies import expire_cookie, read_cookie, set_cookie
from web.access.denied import DeniedError, insufficient
from web.access.guard import GUARD
from web.access.keys import jobs_of, scopes_of
from web.access.tickets import claims_of
from web.access.use_log import USE_LOG
from web.bodies import read_json
from web.middleware.problems import RequestError
from web.path_params import seen_job

__all__ = ["create_session", "create_ticket", "end_session", "show_session"]

TICKET_SECONDS: Final = 3_600.0
TICKET_MOST: Final = 86_400.0
TICKET_JOBS: Final = 100
"""How many jobs a ticket names: it is a part of an address."""


class NewTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a ticket allows, at most what the access does that it is made with; *ttl*: how long its stream lasts."""

    jobs: str | Annotated[tuple[str, ...], Meta(min_length=1, max_length=TICKET_JOBS)] | None = None
    scopes: Annotated[str, Meta(max_length=200)] = "jobs:read"
    ttl: float | Annotated[str, Meta(max_length=32)] = TICKET_SECONDS


async def create_session(request: Request) -> Response:
    """`POST /v1/session`: a cookie for the access of the request, which lasts as long as that and the browser do."""
    access, guard = request[ACCESS], request.app[GUARD]
    if not guard.open:
        expires = _end(access, guard.now(), guard.settings.session_for)
        claims = claims_of(access, expires, guard.now(), nonce=secrets.token_urlsafe(12))
        name, secure = guard.session_cookie(request), guard.is_secure(request)
        set_cookie(request, name, guard.signer.sign("session", claims), path="/", secure=secure)
        access = replace(access, expires=expires)
        request.app[USE_LOG].used(request, "signed in")
    return _json(_shown(access))


async def show_session(request: Request) -> Response:
    """`GET /v1/session`: what the access of the request allows, and whether there is a session that can be ended."""
    guard = request.app[GUARD]
    signed_in = bool(read_cookie(request, guard.session_cookie(request)))
    return _json({**_shown(request[ACCESS]), "signed_in": signed_in})


async def end_session(request: Request) -> Response:
    """`DELETE /v1/session`: 204; the browser forgets the cookie, and nobody else can use it any more."""
    guard = request.app[GUARD]
    guard.end_session(request)
    expire_cookie(request, guard.session_cookie(request), path="/", secure=guard.is_secure(request))
    return Response(status=HTTPStatus.NO_CONTENT)


async def create_ticket(request: Request) -> Response:
    """`POST /v1/tickets`: 201 with a ticket that opens one stream within 30 s, and when its stream ends.

    It allows no more than the access of the request. Raises UnknownJobError for a job that this does not see.
    """
    access, guard = request[ACCESS], request.app[GUARD]
    new = await read_json(request, NewTicket)
    seconds = seconds_in(new.ttl) if isinstance(new.ttl, str) else new.ttl
    if seconds is None or not 1 <= seconds <= TICKET_MOST:
        raise _refused('give `ttl` in seconds, or as text such as "90s" or "1h", up to a day')
    scopes = scopes_of(new.scopes)
    for scope in sorted(scopes - access.scopes - _included(access)):
        raise _as_request_error(insufficient(scope))
    narrowed = replace(
        access,
        subject=access.subject or "anybody",
        scopes=scopes,
        jobs=_jobs(request, access, new.jobs),
        expires=_end(access, guard.now(), seconds),
    )
    try:
        ticket = guard.tickets.issue(narrowed, narrowed.expires or 0.0)
    except DeniedError as denied:
        raise _as_request_error(denied) from None
    return _json({"ticket": ticket, "expires": _time(narrowed.expires)}, HTTPStatus.CREATED)


def _jobs(request: Request, access: Access, wanted: str | tuple[str, ...] | None) -> Jobs:
    """The jobs that a ticket opens: those that are *wanted*, or all that *access* sees."""
    if wanted is None:
        return access.jobs
    if isinstance(wanted, tuple):
        return frozenset(seen_job(request, id).id for id in wanted)
    if wanted not in ("own", "*"):
        raise _refused('give `jobs` as a list of ids, "own" or "*"')
    if wanted == "*" and not access.sees_all:
        raise _refused("this access does not see all jobs; leave out `jobs` for all that it sees")
    if wanted == "own" and not (access.sees_all or access.jobs == "own"):
        raise _refused("this access sees certain jobs alone; leave out `jobs` for these")
    return jobs_of(wanted)


def _included(access: Access) -> frozenset[str]:
    return frozenset({"jobs:read"}) if access.allows("jobs:read") else frozenset()


def _end(access: Access, now: float, seconds: float) -> float:
    """The end of what is made with *access* for so many *seconds*: where it is to be proved again, that comes first."""
    latest = now + min(seconds, seconds if access.renew is None else access.renew)
    return math.floor(latest if access.expires is None else min(access.expires, latest))


def _shown(access: Access) -> dict[str, Any]:
    jobs = access.jobs if isinstance(access.jobs, str) else sorted(access.jobs)
    return {
        "subject": access.subject,
        "scopes": " ".join(sorted(access.scopes)),
        "jobs": "*" if access.sees_all else jobs,
        "expires": _time(access.expires),
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _json(body: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(status=status, body=msgspec.json.encode(body), content_type="application/json", charset="utf-8")


def _refused(detail: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, detail)


def _as_request_error(denied: DeniedError) -> RequestError:
    return RequestError(denied.status, denied.detail, denied.headers)
