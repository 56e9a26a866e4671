"""Live streams of one job, of several, or of all: Server-Sent Events, or JSON lines for who asks for them."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp.web import Request, Response, StreamResponse

from relay.errors import UnknownJobError
from relay.events import Position
from relay.jobs import Job
from web.cursor import UNKNOWN, open_at
from web.delivery import Delivery
from web.keys import OPTIONS, RELAY, STREAMS
from web.naming import job_named
from web.problems import RequestError
from web.takeover import StreamHead
from web.wire import JSON, Wire, asked_for_sse, come_back, level_asked, wire_asked

__all__ = ["stream_all", "stream_job"]

MAX_JOBS: Final = 1_000
GONE: Final = Position("gone", 0)
"""The cursor of a client that was told that its jobs are gone; it is told to stop when it comes back with it."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    # nginx with its defaults held all events back to the end of the stream; this header alone cured it.
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


async def stream_job(request: Request) -> StreamResponse:
    """`GET /v1/jobs/{job}/events`: one job; ends after its terminal record, and answers 204 to who has that."""
    return await _stream(request, [request.match_info["job"]])


async def stream_all(request: Request) -> StreamResponse:
    """`GET /v1/events?job=A&job=B`: several jobs, or all of them without `job`; one cursor for all."""
    return await _stream(request, request.query.getall("job", None))


async def _stream(request: Request, ids: Sequence[str] | None) -> StreamResponse:
    wire, level = wire_asked(request), level_asked(request)
    if wire is None:
        return _state(request, _known(request, ids))
    heartbeat = f"{request.app[OPTIONS].heartbeat:g}"
    headers = {**_HEADERS, "Content-Type": wire.content_type, "Relay-Heartbeat": heartbeat}
    if request.method == "HEAD":
        return Response(headers=headers)
    said = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
    try:
        jobs = _known(request, ids)
    except UnknownJobError as unknown:
        if not asked_for_sse(request):
            raise
        return _gone(wire, headers, said, unknown.job)
    opening = open_at(request.app[RELAY].bus, jobs, said)
    if opening.finished:
        return Response(status=HTTPStatus.NO_CONTENT)
    if (word := _full(request)) is not None:
        return _turned_away(request, wire, headers, said, word)
    delivery = Delivery(request, wire, jobs, opening, level)
    response = StreamHead(headers=headers)
    if take := delivery.may_be_taken(request):
        response.force_close()
    with suppress(ConnectionError):  # the client has left; a job's life hangs on no connection
        await response.prepare(request)
        await delivery.run(request, response, take=take)
    return response


def _known(request: Request, ids: Iterable[str] | None) -> list[Job] | None:
    """The jobs of these ids, None for all. Raises UnknownJobError, and RequestError for too many."""
    if ids is None:
        return None
    distinct = list(dict.fromkeys(ids))
    if len(distinct) > MAX_JOBS:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a stream names at most {MAX_JOBS:,} jobs; leave out `job` for all"
        )
    relay = request.app[RELAY]
    return [job_named(relay, id) for id in distinct]


def _state(request: Request, jobs: Sequence[Job] | None) -> Response:
    """For a client that can take no stream: where the jobs stand now, and the position a stream would go on from."""
    relay = request.app[RELAY]
    snapshots = [relay.bus.as_told(job).snapshot() for job in (relay.jobs() if jobs is None else jobs)]
    body = {"position": str(Position(relay.journal.epoch, relay.journal.head)), "jobs": snapshots}
    return Response(body=msgspec.json.encode(body), content_type=JSON, headers=_HEADERS)


def _full(request: Request) -> str | None:
    """What to tell a client for whom there is no room, if there is none."""
    streams, options = request.app[STREAMS], request.app[OPTIONS]
    if streams.closing:
        return "bye"
    own = options.max_streams_per_client
    crowded = len(streams) >= options.max_streams or (own and streams.of(request.remote or "") >= own)
    return "busy" if crowded else None


def _gone(wire: Wire, headers: dict[str, str], said: str | None, job: str) -> Response:
    """An EventSource that asks for what is no longer kept is told once, and stopped when it asks again.

    [spec] "clients can be told to stop reconnecting using the HTTP 204 No Content response code"
    """
    if said == str(GONE):
        return Response(status=HTTPStatus.NO_CONTENT)
    return Response(body=wire.notice("gone", {"job": job}, GONE), headers=headers)


def _turned_away(request: Request, wire: Wire, headers: dict[str, str], said: str | None, word: str) -> Response:
    """Any status but 200 ends an EventSource for good, so overload is an event; its own cursor is left as it is."""
    reason = "the relay is shutting down" if word == "bye" else "too many streams are open"
    own = Position.parse(said) or UNKNOWN if said else Position(request.app[RELAY].journal.epoch, 0)
    return Response(body=wire.notice(word, {"reason": reason}, own, retry=come_back()), headers=headers)
