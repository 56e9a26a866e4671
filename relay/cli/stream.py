"""The stream of a running relay, read over HTTP. A lost connection is re-established and resumes where it stopped."""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct

from relay import Position, UsageError
from relay.audit.recordings import NOTICES
from relay.cli.credentials import Credentials, Presented
from relay.cli.received import TERMINAL, ReceivedRecord, read_received
from relay.cli.stream_answers import (
    ANSWERS_WITHIN,
    QUOTE_LIMIT,
    detail_of,
    heartbeat_of,
    object_in,
    reason_of,
    wait_of,
    within,
)
from relay.cli.stream_notices import describe_notice
from relay.clock import Clock
from relay.events import LEVELS, Level
from relay.text import bounded
from relay.wire.event_stream import EventStreamParser, ServerSentEvent

__all__ = ["NOW", "START", "RelayStream", "Remark"]

START: Final = "start"
NOW: Final = "now"

FIRST_WAIT: Final = 0.5
SHORTEST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 30.0
"""Seconds until a lost connection is tried again: by default, at least, and at most."""

STATE_LIMIT: Final = 16 * 1024 * 1024

_TURNED_AWAY: Final = frozenset({"busy", "bye", "gone"})
_PASSES: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)

_REFUSALS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER)
"""How a proxy answers a client without credentials: it refuses, or it leads to a page for logging in."""


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
    they were received; `gone` is that of a job that the relay has forgotten meanwhile. Where the relay ends the stream
    since its access ends, it goes on with other *credentials* if they are others by now.
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
        self._presented = Presented(credentials)
        self._address = address
        self._level = level
        self._named = tuple(dict.fromkeys(jobs))
        self._from_now = since == NOW
        self._cursor = None if since in (START, NOW) else since
        self._clock = clock
        self._known = False
        self._away = False
        self._over = False
        self._expiring = False
        self._denied: UsageError | None = None
        self._wait = FIRST_WAIT
        self._asked_wait = 0.0
        self._failures = 0

    async def read(self) -> AsyncGenerator[ReceivedRecord | Remark]:
        """Each record, and each remark where it belongs; over when all named jobs have ended, or never.

        Raises UsageError where there is no such relay or no such job, where what comes is no relay's stream, and where
        the access ends and there is no other.
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
                    lost = reason_of(error)
                    if not self._known:
                        raise UsageError(f"nothing answers at {self._address} ({lost}); {_ADVICE}") from None
                if self._over:
                    return
                if not self._away:
                    self._away = True
                    yield Remark(f"the connection was lost ({lost}); coming back")
                await self._clock.sleep(self._pause())
                self._asked_wait = 0.0
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
                # A stream of all jobs has no end of its own, so this may be a refusal.
                if self._running or not self._named:
                    for job in (await self._state(session)).jobs:
                        self._end(job.job, _kind(job.terminal))
                self._over = True
                return
            if response.content_type != "text/event-stream":
                raise self._no_relay(f"answers with {response.content_type}, which is no stream")
            reader, silence = EventStreamParser(), 2 * heartbeat_of(response)
            try:
                while data := await within(silence, response.content.readany()):
                    for one in self._heard(_blocks(reader, data)):
                        yield one
                    if self._denied is not None:
                        raise self._denied
                    if self._over:
                        return
                    if self._expiring and self._presented.changed:
                        self._away = True
                        yield Remark("there is another secret by now; coming back with it")
                        return
            finally:
                self._known, self._expiring = True, False

    def _heard(self, blocks: Sequence[ServerSentEvent]) -> list[ReceivedRecord | Remark]:
        """What *blocks* say; no block at all is a heartbeat."""
        heard: list[ReceivedRecord | Remark] = []
        if not any(block.event == "denied" for block in blocks):
            self._failures = 0
        if self._away and not any(block.event in _TURNED_AWAY for block in blocks):
            self._away = False
            heard.append(Remark("the connection is back"))
        for block in blocks:
            if self._over or self._denied is not None:
                break
            if block.retry is not None:
                self._wait = block.retry / 1_000
            if block.event == "denied":
                if (remark := self._ended_by(describe_notice("denied", object_in(block.data)))) is not None:
                    heard.append(remark)
            elif block.event in NOTICES - {"heartbeat"}:
                heard.append(self._noticed(block.event, object_in(block.data)))
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
        self._expiring |= event == "expiring"
        if event in _TURNED_AWAY:
            self._away = True
            return Remark(f"{describe_notice(event, data)}; coming back in {self._pause():g} s")
        if event == "snapshot":
            for job in _jobs(data):
                self._end(job.job, _kind(job.terminal))
        return Remark(describe_notice(event, data))

    def _ended_by(self, denied: str) -> Remark | None:
        """The access has ended. The same secret is not presented again, as it opens nothing any more."""
        if self._presented.changed:
            self._away = True
            return Remark(f"{denied}; coming back with another secret in {self._pause():g} s")
        self._denied = UsageError(f"{self._address} has ended this stream ({denied}); {_PRESENT_OTHER}")
        return None

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
        """Seconds until the next try: the relay's `retry`, doubled for each try that failed, or its `Retry-After`."""
        pause = min(math.ldexp(max(self._wait, SHORTEST_WAIT), min(self._failures, 10)), LONGEST_WAIT)
        return max(pause, self._asked_wait)

    async def _state(self, session: aiohttp.ClientSession) -> _State:
        """Where the jobs stand, and the position that is so far."""
        async with await self._ask(session, "application/json") as response:
            if response.status == HTTPStatus.NO_CONTENT:
                # As a relay answers what a browser presents by itself, and cannot be refused in words.
                raise UsageError(f"{self._address} accepts this session or ticket no more; {_PRESENT_OTHER}")
            body = b""
            while data := await within(ANSWERS_WITHIN, response.content.readany()):
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
        headers = {**self._presented.headers(), "Accept": accept, "User-Agent": "progress-relay"}
        if self._cursor is not None and accept == "text/event-stream":
            headers["Last-Event-ID"] = self._cursor
        query = [("job", job) for job in self._running]
        if self._level != LEVELS[0]:
            query.append(("level", self._level))
        url = f"{self._address}/v1/events"
        response = await within(ANSWERS_WITHIN, session.get(url, params=query, headers=headers, allow_redirects=False))
        if response.status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
            return response
        async with response:
            said = f"answers {response.status}{await detail_of(response)}"
        if self._known and (response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status in _PASSES):
            self._asked_wait = wait_of(response)
            raise _LostError(f"it {said}")
        if response.status in _REFUSALS:
            if self._known and self._presented.changed:
                raise _LostError(f"it {said}")
            raise UsageError(f"{self._address} {said}; {_PRESENT}")
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            when = f"in {wait:g} s" if (wait := wait_of(response)) else "later"
            raise UsageError(f"{self._address} {said}; try again {when}")
        raise self._no_relay(said)

    def _no_relay(self, what: str) -> UsageError:
        return UsageError(f"{self._address} {what}; {_ADVICE}")


_PRESENT: Final = "present what it asks for with --token, --basic or --header"
_PRESENT_OTHER: Final = "present another secret with --token, --basic or --header"
_ADVICE: Final = "name the address of a relay that runs, such as http://127.0.0.1:8080"


def _blocks(reader: EventStreamParser, data: bytes) -> list[ServerSentEvent]:
    try:
        return reader.feed(data)
    except ValueError as error:
        raise UsageError(f"this is no relay's stream: {error}") from None


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
