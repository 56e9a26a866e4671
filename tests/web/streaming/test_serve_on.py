"""A stream that begins on a bare descriptor: its head and its first page are one write."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress

import pytest
from aiohttp.web import Application

from relay import Relay
from relay.events import Done, Log
from relay.testing import ManualClock
from sinks import frame
from tests.web.conftest import without_reactor
from tests.web.serving import serve_app
from web import create_app
from web.access.access import ANYBODY
from web.app_keys import RELAY
from web.streaming.connections import framed
from web.streaming.keys import REACTOR, STREAMS, TURNS
from web.streaming.patience import ClientWaits
from web.streaming.resume import start_stream
from web.streaming.selection import Selection
from web.streaming.session import StreamSession
from web.streaming.wire import SSE

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay([], clock=ManualClock()) as relay:
        yield relay


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Application]:
    app = create_app(relay, heartbeat=3_600)
    async with serve_app(app):
        yield app


def session_of(app: Application, selection: Selection | None = None) -> StreamSession:
    start = start_stream(app[RELAY].bus, selection or Selection(None), None)
    return StreamSession(app, "somebody", ANYBODY, SSE, start, "debug")


class Pair:
    """Both ends of a connection: a descriptor to serve on, and the client."""

    def __init__(self, stack: ExitStack) -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.fd = near.detach()
        self.far = stack.enter_context(far)

    async def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := await asyncio.get_running_loop().sock_recv(self.far, size - len(data))):
            data += more
        return data


async def test_head_and_first_page_are_written_at_once_and_the_stream_is_live(relay: Relay) -> None:
    job = relay.registry.admit()
    relay.bus.publish(job, Log(line="before"))
    async with running(relay) as app:
        with ExitStack() as stack:
            pair, session = Pair(stack), session_of(app)
            assert session.serve_on(pair.fd, HEAD, chunked=True)
            (record,) = relay.journal.read(0)
            expected = HEAD + framed(b":\n" + frame(record), chunked=True)
            assert pair.far.recv(65_536) == expected, "in the same call"
            assert session.state == "live"

            relay.bus.publish(job, Log(line="after"))
            _, after = relay.journal.read(0)
            assert await pair.read(len(framed(frame(after), chunked=True))) == framed(frame(after), chunked=True)
            pair.far.close()
            await session.done.wait()
        assert (len(app[STREAMS]), len(app[REACTOR])) == (0, 0)


async def test_the_first_page_is_written_at_once_though_others_have_every_turn(relay: Relay) -> None:
    relay.bus.publish(relay.registry.admit(), Log(line="before"))
    async with running(relay) as app:
        with ExitStack() as stack:
            while app[TURNS].has_turn():
                pass
            pair, session = Pair(stack), session_of(app)
            assert session.serve_on(pair.fd, HEAD, chunked=False)
            (record,) = relay.journal.read(0)
            assert (pair.far.recv(65_536), session.state) == (HEAD + b":\n" + frame(record), "live")


async def test_a_client_that_reads_nothing_yet_is_served_the_whole_by_a_task(relay: Relay) -> None:
    job = relay.registry.admit()
    for _ in range(400):
        relay.bus.publish(job, Log(line="x" * 4_000))
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    async with running(relay) as app:
        with ExitStack() as stack:
            pair, session = Pair(stack), session_of(app, Selection([job]))
            assert session.serve_on(pair.fd, HEAD, chunked=False)
            expected = HEAD + b":\n" + b"".join(frame(record) for record in relay.journal.read(0))
            assert await pair.read(len(expected)) == expected
            assert await pair.read(1) == b"", "it ends in order"
            assert session.complete


async def test_a_story_that_has_ended_ends_in_order(relay: Relay) -> None:
    relay.bus.publish(job := relay.registry.admit(), Done(urls=("https://a/b",)))
    async with running(relay) as app:
        with ExitStack() as stack:
            pair, session = Pair(stack), session_of(app, Selection([job]))
            assert session.serve_on(pair.fd, HEAD, chunked=True)
            (record,) = relay.journal.read(0)
            expected = HEAD + framed(b":\n" + frame(record), chunked=True) + LAST
            assert await pair.read(len(expected) + 1) == expected
            assert session.complete


async def test_a_client_that_has_left_already_is_no_stream(relay: Relay) -> None:
    async with running(relay) as app:
        with ExitStack() as stack:
            pair, session = Pair(stack), session_of(app)
            pair.far.close()
            assert session.serve_on(pair.fd, HEAD, chunked=True)
        assert (len(app[STREAMS]), len(app[REACTOR])) == (0, 0)


async def test_a_descriptor_that_cannot_be_adopted_remains_the_callers(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_reactor(monkeypatch)
    async with running(relay) as app:
        with ExitStack() as stack:
            pair, session = Pair(stack), session_of(app)
            assert not session.serve_on(pair.fd, HEAD, chunked=True)
            assert len(app[STREAMS]) == 0
            socket.socket(fileno=pair.fd).close()
            assert pair.far.recv(1) == b""


def full(fd: int) -> bytes:
    """Write to *fd* until the kernel accepts no more. Returns that."""
    sent = b""
    with suppress(BlockingIOError):
        while True:
            sent += b"x" * os.write(fd, b"x" * 65_536)
    return sent


async def test_the_rest_of_a_stream_that_has_ended_is_given_up_in_running_time(relay: Relay) -> None:
    now = 1_000.0
    waits = ClientWaits(1e-9, now=lambda: now)
    async with running(relay) as app:
        app[REACTOR].waits = waits
        with ExitStack() as stack:
            read, unread = Pair(stack), Pair(stack)
            sent = []
            for pair in (read, unread):
                session = session_of(app)
                assert session.serve_on(pair.fd, HEAD, chunked=True)
                sent.append(full(pair.fd))
                session.close()
                assert session.done.is_set(), "it is over, and its last bytes are left"
            for _ in range(100):  # time passes, and the relay does not run
                await asyncio.sleep(0)
            assert len(app[REACTOR]) == 2
            received = await read.read(2**30)
            assert received.startswith(HEAD)
            assert sent[0] in received
            assert b"event: bye" in received
            assert received.endswith(LAST)
            while app[REACTOR]:
                now += 1.0
                waits.look()
                await asyncio.sleep(0)
            assert LAST not in await unread.read(2**30)
