"""Live streams of one job, of several, or of all: Server-Sent Events, or JSON lines for who asks for them."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp.web import Request, Response, StreamResponse

from relay.events import LEVELS, Exchange, Level, Position
from relay.jobs import Job
from sinks.sse import HEARTBEAT, SseSink, frame, line, notice_frame, notice_line
from web.cursor import Opening, open_at
from web.keys import OPTIONS, RELAY, STREAMS
from web.live import OpenStream
from web.problems import RequestError

__all__ = ["stream_all", "stream_job"]

MAX_JOBS = 1_000
PENDING_EXCHANGES = 100
RETRY = 2_000
"""Milliseconds a client waits before it comes back. A browser's own default is about 3 s, and never 0: that storms."""

_HEADERS = {
    "Cache-Control": "no-store",
    # nginx with its defaults held all events back to the end of the stream; this header alone cured it.
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


class Wire(msgspec.Struct, frozen=True):
    """How records and notices are put on the wire."""

    content_type: str
    heartbeat: bytes
    record: Callable[..., bytes]
    notice: Callable[..., bytes]


SSE = Wire("text/event-stream", HEARTBEAT, frame, partial(notice_frame, retry=RETRY))
NDJSON = Wire("application/x-ndjson", b"\n", line, notice_line)


async def stream_job(request: Request) -> StreamResponse:
    """`GET /v1/jobs/{job}/events`: one job; ends after its terminal record, and answers 204 to who has that."""
    return await _stream(request, [request.app[RELAY].job(request.match_info["job"])])


async def stream_all(request: Request) -> StreamResponse:
    """`GET /v1/events?job=A&job=B`: several jobs, or all of them without `job`; one cursor for all."""
    ids = list(dict.fromkeys(request.query.getall("job", [])))
    if len(ids) > MAX_JOBS:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a stream names at most {MAX_JOBS:,} jobs; leave out `job` for all"
        )
    relay = request.app[RELAY]
    return await _stream(request, [relay.job(id) for id in ids] or None)


async def _stream(request: Request, jobs: Sequence[Job] | None) -> StreamResponse:
    wire, level = _negotiate(request), _level(request)
    relay, options, streams = request.app[RELAY], request.app[OPTIONS], request.app[STREAMS]
    headers = {**_HEADERS, "Content-Type": wire.content_type}
    if request.method == "HEAD":
        return Response(headers=headers)
    said = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
    opening = open_at(relay.journal, jobs, said)
    if opening.finished:
        # [spec] "clients can be told to stop reconnecting using the HTTP 204 No Content response code"
        return Response(status=HTTPStatus.NO_CONTENT)
    response = StreamResponse(headers=headers)
    await response.prepare(request)
    if streams.closing or len(streams) >= options.max_streams:
        # Any status but 200 ends an EventSource for good, so overload is an event, and the client comes back.
        word = "bye" if streams.closing else "busy"
        position = said if said and Position.parse(said) else Position(relay.journal.epoch, 0)
        await response.write(_turned_away(wire, word, position))
        return response
    delivery = Delivery(request, response, wire, jobs, opening, level)
    try:
        with streams.opened(delivery.stream):
            await delivery.run()
    except ConnectionError:
        pass  # the client has left; a job's life hangs on no connection
    return response


class Delivery:
    """One client being served: what it is to hear, and the connection it hears it on."""

    def __init__(
        self,
        request: Request,
        response: StreamResponse,
        wire: Wire,
        jobs: Sequence[Job] | None,
        opening: Opening,
        level: Level,
    ) -> None:
        self._relay = request.app[RELAY]
        self._options = request.app[OPTIONS]
        self._debug = self._options.debug and request.query.get("debug") == "1"
        self._response = response
        self._wire = wire
        self._jobs = jobs
        self._ids = None if jobs is None else [job.id for job in jobs]
        self._opening = opening
        self._news = asyncio.Event()
        self._exchanges: list[Exchange] = []
        self.stream = OpenStream(wake=self._news.set, cut=lambda: _cut(request))
        self._reader = SseSink(
            lambda after: self._relay.journal.read(after, self._ids),
            self._news.set,
            after=opening.after,
            level=level,
            until=opening.until,
            encode=wire.record,
        )

    async def run(self) -> None:
        """Serve until the story ends, the relay closes the stream, or the client leaves (ConnectionError)."""
        stop_debug = self._relay.bus.subscribe_exchanges(self._overhear) if self._debug else None
        try:
            with self._relay.bus.subscribe(self._reader, self._jobs):
                await self._write(self._wire.heartbeat + self._preamble())
                await self._follow()
        finally:
            if stop_debug is not None:
                stop_debug()

    async def _follow(self) -> None:
        while True:
            self._news.clear()
            await self._write(self._fell_behind())
            while page := self._reader.take():
                await self._write(page)
            await self._write(self._overheard())
            if self._reader.ended:
                return
            if self.stream.closing:
                return await self._write(self._notice("bye", {"reason": "the relay is shutting down"}))
            try:
                async with asyncio.timeout(self._options.heartbeat):
                    await self._news.wait()
            except TimeoutError:
                await self._write(self._wire.heartbeat)

    def _preamble(self) -> bytes:
        """What is said before the first record: what is missing, and where the jobs stand instead."""
        said = b""
        if (gap := self._opening.gap) is not None:
            said += self._notice("gap", {"from": gap.start, "to": gap.to, "missed": gap.missed})
        if self._opening.snapshot:
            jobs = self._relay.jobs() if self._jobs is None else self._jobs
            said += self._notice("snapshot", {"jobs": [msgspec.to_builtins(job.snapshot()) for job in jobs]})
        return said

    def _fell_behind(self) -> bytes:
        """A client so slow that the journal forgot what comes next is told so, and goes on from now."""
        journal = self._relay.journal
        if journal.complete(self._reader.cursor, self._ids):
            return b""
        self._opening = open_at(journal, self._jobs, str(Position(journal.epoch, self._reader.cursor)))
        self._reader.restart(after=self._opening.after, until=self._opening.until)
        return self._preamble()

    def _overhear(self, exchange: Exchange) -> None:
        if self._ids is None or not set(self._ids).isdisjoint(exchange.jobs):
            del self._exchanges[: -PENDING_EXCHANGES + 1]
            self._exchanges.append(exchange)
            self._news.set()

    def _overheard(self) -> bytes:
        exchanges, self._exchanges = self._exchanges, []
        return b"".join(self._notice("exchange", msgspec.to_builtins(exchange)) for exchange in exchanges)

    def _notice(self, event: str, data: dict[str, Any]) -> bytes:
        return self._wire.notice(event, data, Position(self._relay.journal.epoch, self._reader.cursor))

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            async with asyncio.timeout(self._options.send_timeout):
                await self._response.write(data)
        except TimeoutError:
            self.stream.cut()
            raise ConnectionError("the client takes nothing") from None


def _turned_away(wire: Wire, word: str, position: object) -> bytes:
    """Come back later, not all at the same moment; the client's own position is left as it is."""
    if wire is SSE:
        return notice_frame(word, {"reason": "too many streams"}, position, retry=RETRY + secrets.randbelow(4 * RETRY))
    return wire.notice(word, {"reason": "too many streams"}, position)


def _cut(request: Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _negotiate(request: Request) -> Wire:
    """SSE, unless the client asks for JSON lines and not for SSE. EventSource asks for SSE, curl for anything."""
    accepted = {part.split(";")[0].strip().lower() for part in request.headers.get("Accept", "*/*").split(",")}
    if accepted & {"text/event-stream", "text/*"}:
        return SSE
    if "application/x-ndjson" in accepted:
        return NDJSON
    if "*/*" in accepted:
        return SSE
    raise RequestError(
        HTTPStatus.NOT_ACCEPTABLE,
        "a stream is text/event-stream or application/x-ndjson; for the state as JSON, GET /v1/jobs",
    )


def _level(request: Request) -> Level:
    asked = request.query.get("level", "debug")
    for level in LEVELS:
        if level == asked:
            return level
    raise RequestError(HTTPStatus.BAD_REQUEST, f"level is one of {', '.join(LEVELS)}")
