"""A stream about one job, on the wire of a dialect, and what depends on it: the attempt, and the job itself."""

from aiohttp.web import Request, StreamResponse

from relay import Job
from relay.events import LEVELS, Level
from web.access.access import ACCESS
from web.access.addresses import client_of
from web.gateway.gateway import GATEWAY
from web.gateway.requests import about
from web.gateway.submissions import Attempt
from web.streaming.handlers import STREAM_HEADERS
from web.streaming.resume import StreamStart
from web.streaming.session import StreamSession, serve_stream
from web.streaming.wire import Wire

__all__ = ["stream_job"]


async def stream_job(
    request: Request,
    job: Job,
    wire: Wire,
    start: StreamStart,
    level: Level,
    attempt: Attempt | None,
    *,
    tied: bool,
) -> StreamResponse:
    """Stream *job* from *start* on *wire*. *tied*: whether the job may end with its last client."""
    gateway = request.app[GATEWAY]

    def over() -> None:
        gateway.submissions.end_answer(attempt, whole=session.complete)
        if tied:
            gateway.departures.left(job, shutting_down=session.closing)

    session = StreamSession(
        request.app, client_of(request), request[ACCESS], wire, start, level, exchanges=level == LEVELS[0], on_end=over
    )
    if tied:
        gateway.departures.came(job)
    gateway.submissions.begin_answer(attempt, session)
    headers = {**STREAM_HEADERS, **about(job), "Content-Type": wire.content_type}
    return await serve_stream(request, session, headers)
