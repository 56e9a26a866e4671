"""The stream of a running relay, read over HTTP. A lost connection is re-established and resumes where it stopped."""

import asyncio
import math
import os
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from relay import Position, UsageError
from relay.audit.recordings import NOTICES
from relay.cli.credentials import Credentials
from relay.cli.received import TERMINAL, ReceivedRecord, read_received
from relay.cli.stream_notices import describe_notice
from relay.clock import Clock
from relay.events import LEVELS, Level
from relay.text import bounded
from relay.wire.event_stream import EventStreamParser, ServerSentEvent

__all__ = ["NOW", "START", "RelayStream", "Remark"]

START: Final = "start"
NOW: Final = "now"

ANSWERS_WITHIN: Final = 30.0
"""Seconds until a relay has to have begun its answer."""

HEARTBEAT: Final = 15.0
"""Seconds between signs of life, where the relay does not say. Twice as long without one is a lost connection."""

FIRST_WAIT: Final = 0.5
SHORTEST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 30.0
"""Seconds until a lost connection is tried again: by default, at least, and at most."""

STATE_LIMIT: Final = 16 * 1024 * 1024
QUOTE_LIMIT: Final = 200

_TURNED_AWAY: Final = frozenset({"busy", "bye", "gone"})
_PASSES: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)

_REFUSALS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER)
"""How a proxy answers a client without credentials: it refuses, or it leads to a page for logging in."""

T = TypeVar("T")


class Remark(Struct, frozen=True):
    """A line about the stream that is no part of it."""

    text: str


class _LostError(Exception):
    """The connection is over, for a reason that may pass."""


class _Job(Struct):
    job: str
    terminal: Any = None


class _State(Struct):
    position: str
    jobs: list[_Job]


class RelayStream:
    """The stream of the relay at *address* about *jobs*, or about all if none is named, from the position *since* on.

    It has the records of *level* and above, and terminal ones.

    *since* is a position, START for all that is kept, or NOW. *credentials* are headers for every request; each goes to
    *address* alone, as no redirect is followed. *ends* has the type of each terminal record of a named job, as far as
    they were received; `gone` is that of a job that the relay has forgotten meanwhile.
    """

    def __init__(
        self,
        address: str,
        jobs: Sequence[str] = (),
        since: str = START,
        *,
        level: Level = "debug",
        clock: Clock,
        credentials: Credentials = dict,
    ) -> None:
        self.ends: dict[str, str] = {}
        self._credentials = credentials
        self._address = address
        self._level = level
        self._named = tuple(dict.fromkeys(jobs))
        self._from_now = since == NOW
        self._cursor = None if since in (START, NOW) else since
        self._clock = clock
        self._known = False
        self._away = False
        self._over = False
        self._wait = FIRST_WAIT
        self._failures = 0

    async def read(self) -> AsyncGenerator[ReceivedRecord | Remark]:
        """Each record, and each remark where it belongs; over when all named jobs have ended, or never.

        Raises UsageError where there is no such relay or no such job, and where what comes is no relay's stream.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWERS_WITHIN)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                lost = "it ended"
                try:
                    async with aclosing(self._connection(session)) as heard:
                        async for one in heard:
                            yield one
                except (aiohttp.ClientError, OSError, _LostError) as error:
                    lost = _reason(error)
                    if not self._known:
                        raise UsageError(f"nothing answers at {self._address} ({lost}); {_ADVICE}") from None
                if self._over:
                    return
                if not self._away:
                    self._away = True
                    yield Remark(f"the connection was lost ({lost}); coming back")
                await self._clock.sleep(self._pause())
                self._failures += 1

    @property
    def all_done(self) -> bool:
        """Whether each of the named jobs has ended, and has its result."""
        return all(self.ends.get(job) == "done" for job in self._named)

    @property
    def _running(self) -> list[str]:
        return [job for job in self._named if job not in self.ends]

    async def _connection(self, session: aiohttp.ClientSession) -> AsyncGenerator[ReceivedRecord | Remark]:
        """What one connection brings, to its end."""
        if self._from_now:
            self._cursor, self._from_now = (await self._state(session)).position, False
        async with await self._ask(session, "text/event-stream") as response:
            if response.status == HTTPStatus.NO_CONTENT:
                if self._running:
                    for job in (await self._state(session)).jobs:
                        self._end(job.job, _kind(job.terminal))
                self._over = True
                return
            if response.content_type != "text/event-stream":
                raise self._no_relay(f"answers with {response.content_type}, which is no stream")
            reader, silence = EventStreamParser(), 2 * _heartbeat(response)
            try:
                while data := await _within(silence, response.content.readany()):
                    for one in self._heard(_blocks(reader, data)):
                        yield one
                    if self._over:
                        return
            finally:
                self._known = True

    def _heard(self, blocks: Sequence[ServerSentEvent]) -> list[ReceivedRecord | Remark]:
        """What *blocks* say; no block at all is a heartbeat."""
        heard: list[ReceivedRecord | Remark] = []
        self._failures = 0
        if self._away and not any(block.event in _TURNED_AWAY for block in blocks):
            self._away = False
            heard.append(Remark("the connection is back"))
        for block in blocks:
            if self._over:
                break
            if block.retry is not None:
                self._wait = block.retry / 1_000
            if block.event in NOTICES - {"heartbeat"}:
                heard.append(self._noticed(block.event, _object(block.data)))
            elif block.is_event and block.event != "heartbeat":
                heard.append(self._read(block.data))
            # The position beside `gone` is none to resume from.
            if block.event != "gone" and block.id is not None and Position.parse(block.id) is not None:
                self._cursor = block.id
        return heard

    def _read(self, data: bytes) -> ReceivedRecord | Remark:
        try:
            told = read_received(data)
        except ValueError as error:
            return Remark(f"a record is left out, as it cannot be read: {bounded(str(error), QUOTE_LIMIT)}")
        if told.terminal:
            self._end(told.job, told.event.type)
        return told

    def _noticed(self, event: str, data: dict[str, Any]) -> Remark:
        if event == "gone":
            return self._gone(str(data.get("job")))
        if event in _TURNED_AWAY:
            self._away = True
            return Remark(f"{describe_notice(event, data)}; coming back in {self._pause():g} s")
        if event == "snapshot":
            for job in _jobs(data):
                self._end(job.job, _kind(job.terminal))
        return Remark(describe_notice(event, data))

    def _gone(self, job: str) -> Remark:
        if not self._known or job not in self._running:
            job = bounded(job, QUOTE_LIMIT)
            raise UsageError(f"no job {job!r} is known at {self._address}; GET {self._address}/v1/jobs lists all")
        self._end(job, "gone")
        return Remark(f"gone: {job} is no longer known there, and its end cannot be shown")

    def _end(self, job: str, kind: str | None) -> None:
        if job in self._named and kind is not None:
            self.ends[job] = kind
            self._over = not self._running

    def _pause(self) -> float:
        """Seconds until the next try: the relay's `retry`, doubled for each try that failed."""
        return min(math.ldexp(max(self._wait, SHORTEST_WAIT), min(self._failures, 10)), LONGEST_WAIT)

    async def _state(self, session: aiohttp.ClientSession) -> _State:
        """Where the jobs stand, and the position that is so far."""
        async with await self._ask(session, "application/json") as response:
            body = b""
            while data := await _within(ANSWERS_WITHIN, response.content.readany()):
                body += data
                if len(body) > STATE_LIMIT:
                    raise self._no_relay(f"answers with more than {STATE_LIMIT:,} bytes")
        try:
            state = msgspec.json.decode(body, type=_State)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise self._no_relay("does not answer as a relay does") from None
        if Position.parse(state.position) is None:
            raise self._no_relay("does not answer as a relay does")
        return state

    async def _ask(self, session: aiohttp.ClientSession, accept: str) -> aiohttp.ClientResponse:
        """The response to a request for records or states; its status is 200 or 204."""
        headers = {**self._credentials(), "Accept": accept, "User-Agent": "progress-relay"}
        if self._cursor is not None and accept == "text/event-stream":
            headers["Last-Event-ID"] = self._cursor
        query = [("job", job) for job in self._running]
        if self._level != LEVELS[0]:
            query.append(("level", self._level))
        url = f"{self._address}/v1/events"
        response = await _within(ANSWERS_WITHIN, session.get(url, params=query, headers=headers, allow_redirects=False))
        if response.status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
            return response
        async with response:
            said = f"answers {response.status}{await _detail(response)}"
        if self._known and (response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status in _PASSES):
            raise _LostError(f"it {said}")
        if response.status in _REFUSALS:
            raise UsageError(f"{self._address} {said}; {_PRESENT}")
        raise self._no_relay(said)

    def _no_relay(self, what: str) -> UsageError:
        return UsageError(f"{self._address} {what}; {_ADVICE}")


_PRESENT: Final = "present what it asks for with --token, --basic or --header"
_ADVICE: Final = "name the address of a relay that runs, such as http://127.0.0.1:8080"


async def _within(seconds: float, awaitable: Awaitable[T]) -> T:
    """What *awaitable* gives. Raises TimeoutError after so many *seconds*."""
    async with asyncio.timeout(seconds):
        return await awaitable


def _heartbeat(response: aiohttp.ClientResponse) -> float:
    try:
        seconds = float(response.headers.get("Relay-Heartbeat", HEARTBEAT))
    except ValueError:
        return HEARTBEAT
    return seconds if 0 < seconds <= 86_400 else HEARTBEAT


def _blocks(reader: EventStreamParser, data: bytes) -> list[ServerSentEvent]:
    try:
        return reader.feed(data)
    except ValueError as error:
        raise UsageError(f"this is no relay's stream: {error}") from None


async def _detail(response: aiohttp.ClientResponse) -> str:
    """What the answer says itself about what is wrong, if it says so as a relay does."""
    body = await _within(ANSWERS_WITHIN, response.content.read(4_096))
    detail = _object(body).get("detail")
    return f": {bounded(detail, QUOTE_LIMIT)}" if isinstance(detail, str) else ""


def _reason(error: Exception) -> str:
    """Why a connection is lost, in few words."""
    match error:
        case TimeoutError():
            return "nothing comes any more"
        case aiohttp.ClientConnectorDNSError():
            return "no such name"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "no secure connection"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))):
            return os.strerror(number)
        case aiohttp.ClientPayloadError():
            return "it broke off"
        case _:
            return bounded(str(error), QUOTE_LIMIT) or type(error).__name__


def _kind(terminal: object) -> str | None:
    """The type of a terminal event, which is there by itself or as one of its fields."""
    match terminal:
        case {"type": str(kind)} | str(kind) if kind in TERMINAL:
            return kind
        case _:
            return None


def _jobs(data: dict[str, Any]) -> list[_Job]:
    try:
        return msgspec.convert(data.get("jobs"), list[_Job])
    except msgspec.ValidationError:
        return []


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
