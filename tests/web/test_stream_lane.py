"""The short way to a stream: plain requests take it, all others are aiohttp's, and nobody can see a difference."""

import asyncio
import errno
import os
import select
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest
from aiohttp.web import Application, Request, StreamResponse, middleware

import web.bulk_accept
import web.stream_lane
from relay import Relay
from relay.cli.listening import listening
from relay.cli.serving import serving_on
from relay.events import Log
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep
from tests.web.access.house import ALL_WAYS, LISTED_ORIGIN
from tests.web.access.keys import ANN
from tests.web.heads import Sent
from tests.web.raw import read_answer, request
from tests.web.two_ways import Lanes, Ways, compare, counted, run, two_ways
from web import create_app
from web.access.access import Access
from web.bulk_accept import BulkAccept
from web.middleware.problems import Handler
from web.request_failures import FAILURES, RequestFailures
from web.request_heads import Connection
from web.streaming.keys import STREAMS

PATIENCE: Final = 60.0
"""Seconds: a safety net only."""

PATH: Final = "/v1/jobs/job_0/events"
BEARER: Final = f"Authorization: Bearer {ANN}"


def get(path: str, *fields: str, host: str | None = "localhost") -> bytes:
    return request(f"GET {path} HTTP/1.1", *fields, host=host)


PLAIN: Final = {
    "one job": get(PATH),
    "all jobs": get("/v1/events"),
    "several jobs": get("/v1/events?job=job_0&job=job_1"),
    "a running job and one that has ended": get("/v1/events?job=job_0&job=job_2"),
    "an EventSource": get(PATH, "Accept: text/event-stream", "Cache-Control: no-cache", "Accept-Encoding: gzip, br"),
    "JSON lines": get(PATH, "Accept: application/x-ndjson"),
    "a level": get(f"{PATH}?level=info"),
    "a position": get(PATH, "Last-Event-ID: unknown-0"),
    "a position in the query": get(f"{PATH}?lastEventId=gone-0"),
    "an unknown position": get(PATH, "Last-Event-ID: what-is-this"),
    "a listed origin": get(PATH, f"Origin: {LISTED_ORIGIN}", "Sec-Fetch-Site: cross-site"),
    "the page of the relay": get(PATH, "Origin: http://localhost", "Sec-Fetch-Site: same-origin"),
    "cookies of others": get(PATH, "Cookie: theme=dark; session=x"),
    "the address of a proxy": get(PATH, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"),
    "an address as host": get(PATH, host="127.0.0.1:8080"),
    "a client that closes": get(PATH, "Connection: close"),
    "a client that keeps alive": get(PATH, "Connection: keep-alive"),
    "a form that means nothing": get(PATH, "Content-Type: application/json"),
}

OTHERS: Final = {
    "another path": get("/v1/jobs/job_0"),
    "a list": get("/v1/jobs"),
    "another method": request(f"HEAD {PATH} HTTP/1.1"),
    "a method in small letters": request(f"get {PATH} HTTP/1.1"),
    "HTTP/1.0": request(f"GET {PATH} HTTP/1.0"),
    "an address with its host": get(f"http://localhost{PATH}"),
    "an escape in the path": get("/v1/jobs/job%5f0/events"),
    "a path in other words": get("/v1/./jobs/job_0/../job_0/events"),
    "an unknown job": get("/v1/jobs/job_x/events"),
    "an unknown job for an EventSource": get("/v1/jobs/job_x/events", "Accept: text/event-stream"),
    "a job that has ended": get("/v1/jobs/job_2/events"),
    "a terminal record that is known": get("/v1/jobs/job_2/events", "Last-Event-ID: unknown-99"),
    "the kept records alone": get(f"{PATH}?follow=false"),
    "raw exchanges": get(f"{PATH}?debug=1"),
    "the state as JSON": get(PATH, "Accept: application/json"),
    "no format of the relay": get(PATH, "Accept: image/png"),
    "an unknown level": get(f"{PATH}?level=loud"),
    "a foreign host": get(PATH, host="evil.example"),
    "no host": get(PATH, host=None),
    "two hosts": get(PATH, "Host: localhost"),
    "a foreign origin": get(PATH, "Origin: https://evil.example"),
    "two origins": get(PATH, f"Origin: {LISTED_ORIGIN}", f"Origin: {LISTED_ORIGIN}"),
    "an image of another site": get(PATH, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
    "a body": request(f"GET {PATH} HTTP/1.1", body=b"{}"),
    "a body without a length": get(PATH, "Content-Length: 0"),
    "chunks": get(PATH, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "an encoding": get(PATH, "Content-Encoding: gzip"),
    "an upgrade": get(PATH, "Connection: Upgrade", "Upgrade: websocket"),
    "an expectation": get(PATH, "Expect: 100-continue"),
    "another request behind it": get(PATH) + get("/healthz"),
    "bytes behind it": get(PATH) + b"x",
    "a line before it": b"\r\n" + get(PATH),
    "a field on two lines": get(PATH, "X: a", " b"),
    "lines that end in LF": get(PATH).replace(b"\r\n", b"\n"),
    "a zero byte": get(PATH, "X: a\0b"),
    "a long field": get(PATH, f"X: {'a' * 9_000}"),
    "a long head": get(PATH, *[f"X: {'a' * 2_000}"] * 5),
    "too many fields of a query": get(f"/v1/events?{'a&' * 3_000}"),
    "too many headers": get(PATH, *["X: a"] * 200),
}


class Served(NamedTuple):
    """An application on a port, and what the short way did."""

    app: Application
    port: int
    lanes: Lanes


@asynccontextmanager
async def served(app: Application, *, fast_accept: bool = True) -> AsyncIterator[Served]:
    async with counted() as lanes:
        with listening("127.0.0.1", 0) as listeners:
            async with serving_on(app, listeners, fast_accept=fast_accept) as address:
                yield Served(app, urlsplit(address).port or 0, lanes)


def a_relay() -> Relay:
    """Its jobs run for ever."""
    numbers = iter(range(10))
    upstream = TwoStep(lambda tasks: dict.fromkeys(tasks, RUNNING))
    return Relay([upstream], clock=ManualClock(), new_job_id=lambda: f"job_{next(numbers)}")


async def connected(port: int, sent: bytes = b"") -> tuple[StreamReader, StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def status_of(port: int, sent: bytes) -> int:
    """The status of the answer to *sent*, whose connection is closed then."""
    reader, writer = await connected(port, sent)
    async with asyncio.timeout(PATIENCE):
        answered = await read_answer(reader)
    writer.transport.abort()
    assert answered is not None
    return answered.status


@asynccontextmanager
async def both(access: Any = None) -> AsyncIterator[tuple[Ways, Lanes]]:
    async with counted() as lanes, two_ways(access) as ways:
        yield ways, lanes


@pytest.mark.parametrize("sent", PLAIN.values(), ids=PLAIN)
async def test_a_plain_request_for_a_stream_has_the_same_answer_without_aiohttp(sent: bytes) -> None:
    async with both() as (ways, lanes):
        await compare(ways, Sent((sent,)))

    assert lanes.opened == 1


@pytest.mark.parametrize("sent", OTHERS.values(), ids=OTHERS)
async def test_any_other_request_is_left_to_aiohttp_as_it_is(sent: bytes) -> None:
    async with both() as (ways, lanes):
        await compare(ways, Sent((sent,)))

    assert lanes.opened == 0


@pytest.mark.parametrize("access", [None, ALL_WAYS], ids=["open", "with access"])
def test_odd_heads_are_answered_alike_on_both_ways(access: Any) -> None:
    """tests/web/two_ways.py compares as many as there is time for."""
    verified = Sent((get(PATH, BEARER),))
    lanes = run(300, access=access, first=[verified, verified])

    assert lanes.opened > 0


async def test_a_token_takes_the_short_way_once_it_was_verified() -> None:
    async with both(ALL_WAYS) as (ways, lanes):
        await compare(ways, Sent((get(PATH, "Authorization: Bearer x"),)))
        await compare(ways, Sent((get(PATH),)))
        await compare(ways, Sent((get(PATH, BEARER),)))
        assert lanes.opened == 0
        await compare(ways, Sent((get(PATH, BEARER),)))
        assert lanes.opened == 1
        await compare(ways, Sent((get(f"{PATH}?ticket=x", BEARER),)))

    assert lanes.opened == 1


async def test_a_stream_on_the_short_way_goes_on_and_ends_in_order() -> None:
    async with a_relay() as relay, AsyncExitStack() as stack:
        here = await stack.enter_async_context(served(create_app(relay)))
        job = relay.follow("scripted", "t")
        reader, writer = await connected(here.port, get(f"/v1/jobs/{job.id}/events"))
        await reader.readuntil(b"\r\n\r\n")
        for line in ("one", "two", "three"):
            relay.bus.publish(job, Log(line=line))
            await reader.readuntil(line.encode())
        await stack.aclose()
        rest = await reader.read()
        writer.close()

    assert b"event: bye" in rest
    assert rest.endswith(b"\r\n0\r\n\r\n")
    assert here.lanes.opened == 1


async def test_without_the_switch_nothing_takes_the_short_way() -> None:
    async with a_relay() as relay, served(create_app(relay), fast_accept=False) as here:
        assert await status_of(here.port, get("/v1/events")) == 200

    assert here.lanes == Lanes()


@pytest.mark.parametrize("what", ["a middleware", "a signal", "streams that stay"])
async def test_an_application_with_more_than_it_was_made_with_sees_every_request(what: str) -> None:
    seen: list[str] = []

    @middleware
    async def sees(request: Request, handler: Handler) -> StreamResponse:
        seen.append(request.path)
        return await handler(request)

    async def signalled(request: Request, _: StreamResponse) -> None:
        seen.append(request.path)

    async with a_relay() as relay:
        app = create_app(relay, take_over=what != "streams that stay")
        if what == "a middleware":
            app.middlewares.append(sees)
        elif what == "a signal":
            app.on_response_prepare.append(signalled)
        async with served(app) as here:
            assert await status_of(here.port, get("/v1/events")) == 200

    assert here.lanes.opened == 0
    assert seen == ([] if what == "streams that stay" else ["/v1/events"])


async def test_the_decision_of_the_application_is_made_with_its_own_request() -> None:
    asked: list[Request] = []

    async def authorize(request: Request) -> Access | None:
        asked.append(request)
        return Access(subject="ann", jobs="*")

    async with a_relay() as relay, served(create_app(relay, authorize=authorize)) as here:
        assert await status_of(here.port, get("/v1/events")) == 200

    assert [request.match_info.route.method for request in asked] == ["GET"]
    assert here.lanes.opened == 0


@pytest.mark.parametrize("limit", ["max_streams", "max_streams_per_client"])
async def test_the_limits_of_streams_hold_on_the_short_way(limit: str) -> None:
    async with a_relay() as relay:
        app = create_app(relay, **{limit: 1})  # type: ignore[arg-type]
        async with served(app) as here:
            job = relay.follow("scripted", "t")
            first, kept = await connected(here.port, get(f"/v1/jobs/{job.id}/events"))
            await first.readuntil(b"\r\n\r\n")
            second, writer = await connected(here.port, get("/v1/events"))
            await second.readuntil(b"event: busy")
            kept.close()
            writer.close()

    assert here.lanes.opened == 1
    assert app[STREAMS].counts.refused == 1


async def test_a_connection_that_sends_nothing_becomes_aiohttps_which_closes_it_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web.bulk_accept, "HEAD_WITHIN", 0.0)
    made = connections(monkeypatch)
    async with a_relay() as relay, served(create_app(relay)) as here:
        status = await answered_by_aiohttp(here.port, made)

    assert status == 200
    assert here.lanes == Lanes()


async def test_a_head_that_comes_in_pieces_is_aiohttps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = connections(monkeypatch)
    async with a_relay() as relay, served(create_app(relay)) as here:
        reader, writer = await connected(here.port, get("/v1/events")[:20])
        async with asyncio.timeout(PATIENCE):
            await made.get()
        writer.write(get("/v1/events")[20:])
        assert (await reader.readline()).split()[1] == b"200"
        writer.close()

    assert here.lanes == Lanes(offered=1)


async def test_only_so_many_connections_wait_for_their_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.bulk_accept, "HEAD_WITHIN", 3_600.0)
    monkeypatch.setattr(web.bulk_accept, "MOST_WAITING", 2)
    made = connections(monkeypatch)
    async with a_relay() as relay, served(create_app(relay)) as here:
        silent = [await connected(here.port) for _ in range(5)]
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                await made.get()
        assert made.empty()
        for _, writer in silent:
            writer.write(get("/v1/events"))
        for reader, writer in silent:
            assert (await reader.readline()).split()[1] == b"200"
            writer.close()

    assert here.lanes.opened == 2


class FullEpoll:
    """An epoll of a user who watches as many descriptors as the system lets him."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def register(self, *_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_connection_that_cannot_wait_here_is_aiohttps(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[dict[str, Any]] = []
    made = connections(monkeypatch)
    async with a_relay() as relay:
        epolls = SimpleNamespace(epoll=FullEpoll, EPOLLIN=select.EPOLLIN)
        monkeypatch.setattr(web.bulk_accept, "select", epolls)
        async with served(create_app(relay)) as here:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
            status = await answered_by_aiohttp(here.port, made)

    assert (status, reported) == (200, [])


async def test_a_connection_that_waits_is_closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.bulk_accept, "HEAD_WITHIN", 3_600.0)
    async with a_relay() as relay:
        async with served(create_app(relay)) as here:
            silent, writer = await connected(here.port)
            assert await status_of(here.port, get("/healthz")) == 200
        async with asyncio.timeout(PATIENCE):
            assert await silent.read() == b""
        writer.close()


async def test_a_client_that_leaves_before_its_request_is_no_trouble() -> None:
    async with a_relay() as relay, served(create_app(relay)) as here:
        for aborts in (True, False) * 5:
            _, writer = await connected(here.port)
            await asyncio.sleep(0)
            if aborts:
                writer.transport.abort()
            else:
                writer.close()
        assert await status_of(here.port, get("/healthz")) == 200

        assert here.app[FAILURES].counts == {"malformed": 0, "failed": 0}


async def test_an_error_on_the_short_way_is_counted_and_aiohttp_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("secret")

    monkeypatch.setattr(web.stream_lane, "open_at_once", fails)
    async with a_relay() as relay, served(create_app(relay)) as here:
        assert await status_of(here.port, get("/v1/events")) == 200

        assert here.app[FAILURES].counts == {"malformed": 0, "failed": 1}


async def test_a_crowd_is_served_in_slices_so_that_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.bulk_accept, "SLICE", 0.0)
    turns: list[str] = []
    opens = web.stream_lane.StreamLane.open

    def opened(*args: Any) -> bool:
        turns.append("opened")
        return opens(*args)

    async def others() -> None:
        while True:
            turns.append("other")
            await asyncio.sleep(0)

    monkeypatch.setattr(web.stream_lane.StreamLane, "open", opened)
    async with a_relay() as relay, served(create_app(relay)) as here:
        crowd = [socket.create_connection(("127.0.0.1", here.port)) for _ in range(50)]
        for one in crowd:
            one.sendall(get("/v1/events"))
        other = asyncio.create_task(others())
        async with asyncio.timeout(PATIENCE):
            for one in crowd:
                one.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(one, 4) == b"HTTP"
        other.cancel()
        for one in crowd:
            one.close()

    assert turns.count("opened") == len(crowd)
    assert not any(one == other == "opened" for one, other in pairwise(turns))


class Exhausted:
    """A listener for whose next connection there is no descriptor."""

    def __init__(self, listener: socket.socket, error: OSError) -> None:
        self._listener = listener
        self._error: OSError | None = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def accept(self) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._listener.accept()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EPERM])
async def test_connections_are_accepted_again_after_there_was_no_descriptor(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web.bulk_accept, "AGAIN_AFTER", 0.0)
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    failures, accepted = RequestFailures(lambda _: None), asyncio.Event()

    def opens(data: bytes, sock: socket.socket, peername: Any) -> bool:
        sock.close()
        accepted.set()
        return data == b"hello"

    with listening("127.0.0.1", 0) as listeners:
        listener: Any = Exhausted(listeners.sockets[0], OSError(number, "no"))
        accept = BulkAccept(listener, opens, asyncio.Protocol, failures)
        accept.start()
        _, writer = await connected(listeners.sockets[0].getsockname()[1], b"hello")
        async with asyncio.timeout(PATIENCE):
            await accepted.wait()
        writer.close()
        await accept.close()

    exhausted = number == errno.EMFILE
    assert [context["exception"].errno for context in reported] == [number] * exhausted
    assert failures.counts["failed"] == (not exhausted)


async def answered_by_aiohttp(port: int, made: asyncio.Queue[Connection]) -> int:
    """The status of the answer to a request that comes once its connection is one of *made*, those of aiohttp."""
    reader, writer = await connected(port)
    async with asyncio.timeout(PATIENCE):
        await made.get()
    writer.write(get("/healthz"))
    answered = await read_answer(reader)
    writer.close()
    assert answered is not None
    return answered.status


def connections(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[Connection]:
    """Those that aiohttp has from now on."""
    made: asyncio.Queue[Connection] = asyncio.Queue()
    make = Connection.connection_made

    def connection_made(self: Connection, transport: asyncio.BaseTransport) -> None:
        made.put_nowait(self)
        make(self, transport)

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    return made
