"""Live streams of one job, of several, or of all: Server-Sent Events, or JSON lines for a client that requests them."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp.web import Request, Response, StreamResponse

from relay import Job, Position, UnknownJobError
from relay.events import Level
from web.access.access import ACCESS
from web.access.addresses import client_of
from web.app_keys import OPTIONS, RELAY
from web.middleware.problems import RequestError
from web.path_params import is_behind, job_named, knows_all, seen_jobs
from web.state_snapshot import StateSnapshot
from web.streaming.keys import STREAMS, TURNS
from web.streaming.negotiation import (
    JSON,
    names_sse,
    negotiate_wire,
    reconnect_delay,
    requested_follow,
    requested_level,
)
from web.streaming.resume import UNKNOWN, StreamStart, start_kept, start_stream
from web.streaming.selection import Selection
from web.streaming.session import StreamSession, serve_stream
from web.streaming.wire import Wire

__all__ = ["STREAM_HEADERS", "OpenedStream", "open_at_once", "refusal", "stream_all", "stream_headers", "stream_job"]

MAX_JOBS: Final = 1_000
MAX_FIELDS: Final = 2 * MAX_JOBS
"""Fields of a query, so that each job may be named twice, or other fields may be present."""

BEHIND: Final = "this node cannot read at present what other nodes have published"

GONE: Final = Position("gone", 0)
"""The cursor of a client that was sent `gone`; the client is stopped when it reconnects with it."""

_CURSOR: Final = re.compile(r"last[_-]?event[_-]?id", re.IGNORECASE)

STREAM_HEADERS: Final = {
    "Cache-Control": "no-store",
    # nginx with its defaults held all events back to the end of the stream; this header alone cured it.
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


async def stream_job(request: Request) -> StreamResponse:
    """`GET /v1/jobs/{job}/events`: one job, to its terminal record; 204 if the client already has that record."""
    _check_query(request)
    return await _stream(request, [request.match_info["job"]])


async def stream_all(request: Request) -> StreamResponse:
    """`GET /v1/events?job=A&job=B`: several jobs, or all of them without `job`; one cursor for all."""
    _check_query(request)
    return await _stream(request, request.query.getall("job", None))


class OpenedStream(NamedTuple):
    """A stream that is to be served now, in the format *wire*."""

    session: StreamSession
    wire: Wire


def open_at_once(request: Request, ids: Sequence[str] | None) -> OpenedStream | None:
    """The stream of the jobs with these *ids*, or of all, that the handlers here would open for *request*.

    None if they have to wait for something, or open none; nothing has been counted then. Raises UnknownJobError, and
    RequestError.
    """
    _check_query(request)
    wire, level, last_event_id = negotiate_wire(request), requested_level(request), _last_event_id(request)
    if wire is None or not requested_follow(request) or request.query.get("debug") == "1":
        return None
    if request.app[STREAMS].closing or not _has_room(request) or not knows_all(request, ids or (), last_event_id):
        return None
    selection = _known(request, ids)
    if selection.jobs is not None and all(job.ended for job in selection.jobs):
        return None
    start = start_stream(request.app[RELAY].bus, selection, last_event_id)
    return None if start.finished else OpenedStream(_session(request, wire, start, level), wire)


async def _stream(request: Request, ids: Sequence[str] | None) -> StreamResponse:
    wire, level, follow = negotiate_wire(request), requested_level(request), requested_follow(request)
    if wire is None:
        await request.app[TURNS].wait_turn()
        return await _state(request, _known(request, ids).jobs)
    headers = stream_headers(request, wire)
    last_event_id = _last_event_id(request)
    if await is_behind(request, ids or (), last_event_id):
        return _refused(request, wire, headers, last_event_id, "busy", BEHIND)
    try:
        selection = _known(request, ids)
    except UnknownJobError as unknown:
        if not names_sse(request):
            raise
        return _gone(wire, headers, last_event_id, unknown.job)
    if request.method == "HEAD":
        return Response(headers=headers)
    await request.app[TURNS].wait_turn()
    start = (start_stream if follow else start_kept)(request.app[RELAY].bus, selection, last_event_id)
    if start.finished:
        return Response(status=HTTPStatus.NO_CONTENT)
    if (word := refusal(request)) is not None:
        reason = "the relay is shutting down" if word == "bye" else "too many streams are open"
        return _refused(request, wire, headers, last_event_id, word, reason)
    return await serve_stream(request, _session(request, wire, start, level), headers, follow=follow)


def _session(request: Request, wire: Wire, start: StreamStart, level: Level) -> StreamSession:
    exchanges = request.query.get("debug") == "1"
    return StreamSession(request.app, client_of(request), request[ACCESS], wire, start, level, exchanges=exchanges)


def stream_headers(request: Request, wire: Wire) -> dict[str, str]:
    """The headers of the response on which a stream in the format *wire* is served."""
    heartbeat = f"{request.app[OPTIONS].heartbeat:g}"
    return {**STREAM_HEADERS, "Content-Type": wire.content_type, "Relay-Heartbeat": heartbeat}


def _check_query(request: Request) -> None:
    """Raises RequestError for a query with so many fields that parsing it would block the event loop."""
    if request.rel_url.raw_query_string.count("&") > MAX_FIELDS:
        raise _too_many_jobs()


def _last_event_id(request: Request) -> str | None:
    """The position that the client names: in the header, or else in the query, where the last of several counts.

    An EventSource cannot set headers. Some polyfills append `lastEventId` to the address when they reconnect, behind an
    earlier one; others spell it differently.
    """
    if said := request.headers.getall("Last-Event-ID", [""])[-1]:
        return said
    named = [value for name, value in request.query.items() if _CURSOR.fullmatch(name) and value]
    return named[-1] if named else None


def _known(request: Request, ids: Iterable[str] | None) -> Selection:
    """The jobs with these ids; without any, all that the access sees. Raises UnknownJobError, and RequestError.

    An access to certain jobs sees no job that is still to come, so that its stream ends with them.
    """
    access, relay = request[ACCESS], request.app[RELAY]
    if ids is None:
        if access.sees_all:
            return Selection(None)
        if access.jobs == "own":
            return Selection(None, owner=access.subject, relay=relay)
        if not (jobs := seen_jobs(request)):
            raise UnknownJobError(min(access.jobs, default=""))
        return Selection(jobs)
    distinct = list(dict.fromkeys(ids))
    if len(distinct) > MAX_JOBS:
        raise _too_many_jobs()
    return Selection([job_named(request, id) for id in distinct])


def _too_many_jobs() -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a stream names at most {MAX_JOBS:,} jobs; leave out `job` for all"
    )


async def _state(request: Request, jobs: Sequence[Job] | None) -> Response:
    """For a client that cannot read streams: the state of the jobs, and the position from which a stream continues."""
    relay = request.app[RELAY]
    standing = StateSnapshot(relay.bus, seen_jobs(request) if jobs is None else jobs)
    return Response(body=await standing.encoded(request.app[TURNS]), content_type=JSON, headers=STREAM_HEADERS)


def refusal(request: Request) -> str | None:
    """The notice for a client that no stream can be opened for, which is counted; None if one can."""
    streams = request.app[STREAMS]
    if streams.closing:
        return "bye"
    if not _has_room(request):
        streams.counts.refused += 1
        return "busy"
    return None


def _has_room(request: Request) -> bool:
    streams, options = request.app[STREAMS], request.app[OPTIONS]
    own = options.max_streams_per_client
    return len(streams) < options.max_streams and not (own and streams.of(client_of(request)) >= own)


def _gone(wire: Wire, headers: dict[str, str], last_event_id: str | None, job: str) -> Response:
    """Answer an EventSource of a forgotten job: with `gone` once, and with 204 when it reconnects.

    [spec] HTML, 9.2: the 204 status makes a client stop reconnecting.
    """
    if last_event_id == str(GONE):
        return Response(status=HTTPStatus.NO_CONTENT)
    return Response(body=wire.notice("gone", {"job": job}, GONE), headers=headers)


def _refused(
    request: Request, wire: Wire, headers: dict[str, str], last_event_id: str | None, word: str, reason: str
) -> Response:
    """Refuse with an event, since any status but 200 ends an EventSource for good; its cursor stays as it is."""
    own = Position.parse(last_event_id) or UNKNOWN if last_event_id else Position(request.app[RELAY].journal.epoch, 0)
    return Response(body=wire.notice(word, {"reason": reason}, own, retry=reconnect_delay()), headers=headers)
