"""A stream that is up to date is out of aiohttp's hands: nothing of aiohttp is left of it, and nobody notices."""

import asyncio
import gc
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import pytest
import trustme
from aiohttp import ClientSession
from aiohttp.web import (
    Application,
    AppRunner,
    BaseRequest,
    Request,
    RequestHandler,
    StreamResponse,
    TCPSite,
    middleware,
)

from relay import Relay
from relay.events import Done, Log
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from sinks.sse import PAGE_BYTES, frame
from tests.relay.scripted import RUNNING, OneStep, story
from tests.web.conftest import without_reactor
from web import create_app
from web.middleware.idle_timeout import reap_idle_connections
from web.middleware.problems import Handler
from web.streaming.bare import BareConnection
from web.streaming.connections import CHUNK, IGNORED_BYTES, HandlerConnection, StreamConnection
from web.streaming.keys import STREAMS
from web.streaming.session import StreamSession
from web.streaming.takeover import TakenOverConnection

TAKEN_OVER = (BareConnection, TakenOverConnection)
HELLO = b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True, params=["on a descriptor", "on a transport"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[StreamConnection]:
    """Each test holds for a stream on a bare descriptor, and on a transport, as where there is no epoll."""
    if request.param == "on a descriptor":
        return BareConnection
    without_reactor(monkeypatch)
    return TakenOverConnection


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay([OneStep(story({"t": RUNNING}))], clock=ManualClock()) as relay:
        yield relay


class Client:
    """A client of our own making, which sees the bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, head: bytes = HELLO) -> bytes:
        """Send a request; return the head of the response."""
        self.writer.write(head)
        return await self.reader.readuntil(b"\r\n\r\n")

    async def chunk(self) -> bytes:
        """The next chunk; empty for the last one."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def gone(self) -> bool:
        """Return when the server has closed or broken the connection."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    def stop_reading(self) -> None:
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class House:
    """A running server, and clients of it."""

    def __init__(self, app: Application, runner: AppRunner, port: int) -> None:
        self.app = app
        self.runner = runner
        self.port = port

    @property
    def streams(self) -> list[StreamSession]:
        return [stream for stream in self.app[STREAMS] if isinstance(stream, StreamSession)]

    @property
    def connections(self) -> list[RequestHandler]:
        assert self.runner.server is not None
        return self.runner.server.connections

    @asynccontextmanager
    async def client(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, limit=2**20)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Client]:
        """A client with a stream that is up to date, and taken over."""
        known = {*self.streams}
        async with self.client() as client:
            await client.ask()
            await client.chunk()
            assert [isinstance(stream.connection, TAKEN_OVER) for stream in {*self.streams} - known] == [True]
            del known
            yield client


@asynccontextmanager
async def house(
    app: Application, *, outside: Application | None = None, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[House]:
    runner = AppRunner(outside or app, **{"access_log": None, **options})
    await runner.setup()
    await TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield House(app, runner, runner.addresses[0][1])
    finally:
        async with asyncio.timeout(30):
            await runner.cleanup()


@contextmanager
def without_collector() -> Generator[None]:
    """In here only what nobody refers to is freed, at once; cycles stay."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive(*kinds: type) -> dict[int, str]:
    """What there is of these kinds in the whole process, by identity."""
    return {id(thing): type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds)}


async def test_a_stream_is_not_ended_before_its_client_has_taken_all_of_it(relay: Relay) -> None:
    data = b":" + b"x" * 8_000_000 + b"\n"
    async with house(create_app(relay, heartbeat=3_600)) as here, here.watching() as client:
        (stream,) = here.streams
        client.stop_reading()
        stream.write(CHUNK % (len(data), data))
        assert stream.slow

        stream.close()
        assert here.streams == [stream], "it is asked to end, and has something left to say"
        cast(asyncio.Transport, client.writer.transport).resume_reading()
        said = [await client.chunk() for _ in range(3)]
        await stream.done.wait()

    assert (said[0] == data, b"event: bye\n" in said[1], said[2]) == (True, True, b"")


async def test_a_reader_that_takes_nothing_holds_no_more_than_a_page_in_memory(relay: Relay) -> None:
    """Both of what it is written with others, and of what it is behind with when it comes."""
    job = relay.registry.admit()
    async with house(create_app(relay, heartbeat=3_600, send_timeout=3_600)) as here, here.watching() as client:
        client.stop_reading()
        (stream,) = here.streams
        while not stream.slow:
            for _ in range(500):
                relay.bus.publish(job, Log(line="x" * 1_000))
            await asyncio.sleep(0)
        seated = held(stream)
        async with here.client() as late:
            late.stop_reading()
            late.writer.write(HELLO)
            while not (behind := sum(held(one) for one in here.streams if one is not stream)):  # noqa: ASYNC110
                await asyncio.sleep(0)

    assert 0 < seated <= PAGE_BYTES + 2_000
    assert 0 < behind <= PAGE_BYTES + 2_000


def held(stream: StreamSession) -> int:
    match stream.connection:
        case BareConnection(unsent=unsent):
            return unsent
        case HandlerConnection(transport=transport) | TakenOverConnection(transport=transport):
            return transport.get_write_buffer_size()
    raise AssertionError("there is no other way")


async def test_nothing_of_aiohttp_is_left_of_a_stream_that_is_up_to_date(relay: Relay) -> None:
    kinds = (RequestHandler, BaseRequest, StreamResponse)
    async with house(create_app(relay)) as here:
        with without_collector():
            others, tasks = alive(*kinds), asyncio.all_tasks()
            async with here.watching() as one, here.watching() as another:
                relay.bus.publish(relay.registry.admit(), Log(line="by now the handlers have ended"))
                await one.chunk()
                await another.chunk()

                assert alive(*kinds).items() - others.items() == set()
                assert (here.connections, asyncio.all_tasks()) == ([], tasks)


@pytest.mark.parametrize("how", ["closes", "resets", "half-closes"])
async def test_a_client_that_leaves_is_freed_at_once_and_without_the_collector(relay: Relay, how: str) -> None:
    async with house(create_app(relay, heartbeat=3_600)) as here:
        with without_collector():
            others = alive(StreamSession, *TAKEN_OVER)
            async with here.watching() as client:
                done = here.streams[0].done
                match how:
                    case "closes":
                        client.writer.close()
                    case "resets":
                        client.reset()
                    case _:
                        client.writer.write_eof()
                await done.wait()

                assert alive(StreamSession, *TAKEN_OVER).items() - others.items() == set()
                assert not relay.bus._topics


async def test_what_is_told_after_the_takeover_is_what_would_be_told_before(relay: Relay) -> None:
    job = relay.registry.admit()
    relay.bus.publish(job, Log(line="before"))
    async with house(create_app(relay)) as here, here.watching() as client:
        relay.bus.publish(job, Log(line="after"))
        first, second = relay.journal.read(0)

        assert await client.chunk() == frame(second)
        assert second.seq == first.seq + 1


async def test_a_stream_that_ends_after_the_takeover_ends_in_order_and_its_connection_with_it(relay: Relay) -> None:
    job = relay.registry.admit()
    async with house(create_app(relay)) as here, here.client() as client:
        head = await client.ask(HELLO.replace(b"/v1/events", f"/v1/jobs/{job.id}/events".encode()))
        await client.chunk()
        relay.bus.publish(job, Done(urls=("https://a/b",)))

        assert b"\r\nConnection: close\r\n" in head
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert (await client.chunk()).startswith(b"event: done\n")
        assert await client.chunk() == b""
        assert await client.gone()


CHAT = b'{"model": "sora", "stream": true, "messages": [{"role": "user", "content": "a cat"}]}'
POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"X-Relay-Level: debug\r\nContent-Length: %d\r\n\r\n" % len(CHAT)
)


@asynccontextmanager
async def chatting(*pieces: bytes) -> AsyncIterator[tuple[House, Client, Relay]]:
    """A chat that is up to date, and whose request came in these *pieces*, one after the other."""
    clock = ManualClock()
    async with ScriptedUpstream(clock=clock) as upstream:
        relay = Relay([Sora(upstream.url, upstream.token, clock=clock)], clock=clock)
        async with house(create_app(relay, heartbeat=3_600)) as here, here.client() as client:
            for piece in pieces[:-1]:
                client.writer.write(piece)
                await client.writer.drain()
                await asyncio.sleep(0)
            await client.ask(pieces[-1])
            while b"checking (1 of" not in await client.chunk():
                pass
            yield here, client, relay


@pytest.mark.parametrize(
    "pieces", [(POST + CHAT,), (POST, CHAT), (POST + CHAT[:9], CHAT[9:])], ids=["at-once", "apart", "cut"]
)
async def test_a_stream_whose_request_had_a_body_is_taken_over_once_that_is_read(pieces: tuple[bytes, ...]) -> None:
    async with chatting(*pieces) as (here, client, relay):
        (stream,) = here.streams
        (job,) = relay.jobs()
        relay.bus.publish(job, Log(line="by now the handler has ended"))
        while b"by now" not in await client.chunk():
            pass
        assert isinstance(stream.connection, TAKEN_OVER)
        assert here.connections == []

        relay.bus.publish(job, Done(urls=("https://a/b",)))
        last = b""
        while chunk := await client.chunk():
            last = chunk
        assert last.endswith(b"data: [DONE]\n\n")
        assert await client.gone()


async def test_the_request_of_a_chat_is_freed_at_once_and_without_the_collector() -> None:
    earlier = _requests()  # of other tests; they are held here, so that none is freed and its place taken
    with without_collector():
        async with chatting(POST + CHAT) as (here, client, relay):
            (job,) = relay.jobs()
            relay.bus.publish(job, Log(line="by now the handler has ended"))
            while b"by now" not in await client.chunk():
                pass
            known = {id(one) for one in earlier}
            requests = [one for one in _requests() if id(one) not in known]
            assert [one.path for one in requests if one.path.startswith("/v1")] == []
            assert here.connections == []


def _requests() -> list[BaseRequest]:
    return [one for one in gc.get_objects() if isinstance(one, BaseRequest)]


async def test_a_story_that_has_ended_is_told_by_aiohttp_and_leaves_the_connection_open(relay: Relay) -> None:
    job = relay.registry.admit()
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    async with house(create_app(relay)) as here, here.client() as client:
        for _ in range(2):
            head = await client.ask(HELLO.replace(b"/v1/events", f"/v1/jobs/{job.id}/events".encode()))

            assert b"\r\nConnection:" not in head
            assert b"event: done\n" in await client.chunk()
            assert await client.chunk() == b""


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_an_http_1_0_client_is_taken_over_too_and_reads_no_chunks(relay: Relay, connection: str) -> None:
    job = relay.registry.admit()
    async with house(create_app(relay)) as here, here.client() as client:
        await client.ask(f"GET /v1/jobs/{job.id}/events HTTP/1.0\r\nConnection: {connection}\r\n\r\n".encode())
        assert await client.reader.readline() == b":\n"
        relay.bus.publish(job, Done(urls=("https://a/b",)))

        assert await client.reader.read() == b"".join(frame(record) for record in relay.journal.read(0))


async def test_what_a_client_sends_behind_its_request_is_not_answered_and_has_a_limit(relay: Relay) -> None:
    job = relay.registry.admit()
    async with house(create_app(relay)) as here, here.watching() as client:
        client.writer.write(HELLO)
        relay.bus.publish(job, Log(line="unmoved"))
        assert b"unmoved" in await client.chunk()
        client.writer.write(b"x" * (IGNORED_BYTES + 1))

        assert await client.gone()


async def test_a_request_sent_with_the_first_is_not_answered_either(relay: Relay) -> None:
    async with house(create_app(relay)) as here, here.client() as client:
        await client.ask(HELLO * 3)
        assert await client.chunk() == b":\n"
        relay.bus.publish(relay.registry.admit(), Log(line="once"))
        assert b"once" in await client.chunk()

        assert (len(here.streams), here.connections) == (1, [])


async def test_a_slow_client_catches_up_by_itself_and_is_up_to_date_again(relay: Relay) -> None:
    job = relay.registry.admit()
    async with house(create_app(relay)) as here, here.watching() as client:
        for number in range(400):
            relay.bus.publish(job, Log(line=f"{number} " + "x" * 8_000))
        body = b""
        while len(body) < 3 * 2**20:
            body += await client.chunk()
        while b"399 " not in body:
            body += await client.chunk()
        relay.bus.publish(job, Log(line="live"))
        body += await client.chunk()
        (stream,) = here.streams

        assert (body, stream.slow) == (b"".join(frame(record) for record in relay.journal.read(0)), False)


@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_a_middleware_sees_the_response_and_is_left_to_end_in_peace(
    relay: Relay, handler_cancellation: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: asyncio.Queue[int] = asyncio.Queue()

    @middleware
    async def outer(request: Request, handler: Handler) -> StreamResponse:
        response = await handler(request)
        await asyncio.sleep(0)
        seen.put_nowait(response.status)
        return response

    outside = Application(middlewares=[outer])
    app = create_app(relay)
    outside.add_subapp("/relay", app)
    async with (
        house(app, outside=outside, handler_cancellation=handler_cancellation) as here,
        here.client() as client,
    ):
        await client.ask(HELLO.replace(b"/v1", b"/relay/v1"))
        await client.chunk()
        assert await seen.get() == 200
        job = relay.registry.admit()
        relay.bus.publish(job, Log(line="after"))
        assert b"after" in await client.chunk()

    assert caplog.records == []


async def test_a_middleware_that_fails_afterwards_costs_the_stream_nothing(relay: Relay) -> None:
    @middleware
    async def broken(request: Request, handler: Handler) -> StreamResponse:
        await handler(request)
        raise ValueError("too late")

    app = create_app(relay)
    app.middlewares.append(broken)
    async with house(app) as here, here.client() as client:
        await client.ask()
        await client.chunk()
        job = relay.registry.admit()
        relay.bus.publish(job, Log(line="after"))

        assert b"after" in await client.chunk()
        assert here.connections == []


class Lines(logging.Handler):
    """What an access log writes, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.written: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.written.put_nowait(record.getMessage())


async def test_an_access_log_has_the_line_of_a_stream_once_and_when_it_is_taken_over(relay: Relay) -> None:
    log, lines = logging.Logger("access", logging.INFO), Lines()
    log.addHandler(lines)
    app = create_app(relay, heartbeat=3_600)
    async with house(app, access_log=log, access_log_format='"%r" %s %{Content-Type}o') as here:
        async with here.watching() as client:
            while_it_goes_on = await lines.written.get()
            relay.bus.publish(relay.registry.admit(), Log(line="it goes on"))
            await client.chunk()
            (stream,) = here.streams
        await stream.done.wait()

    assert while_it_goes_on == '"GET /v1/events HTTP/1.1" 200 text/event-stream'
    assert lines.written.empty()


async def test_the_doorman_leaves_a_stream_alone(relay: Relay) -> None:
    app = create_app(relay, heartbeat=3_600)
    runner = AppRunner(app, access_log=None)
    async with reap_idle_connections(runner, patience=0.02):
        await runner.setup()
        await TCPSite(runner, "127.0.0.1", 0).start()
        here = House(app, runner, runner.addresses[0][1])
        async with here.watching() as client, here.client() as silent:
            assert await silent.gone(), "by now the doorman has gone round"
            relay.bus.publish(relay.registry.admit(), Log(line="still here"))
            assert b"still here" in await client.chunk()
        await runner.cleanup()


async def test_a_stream_is_on_a_descriptor_where_there_can_be_one(relay: Relay, kind: type[StreamConnection]) -> None:
    async with house(create_app(relay)) as here, here.watching():
        assert [type(stream.connection) for stream in here.streams] == [kind]


async def test_over_tls_a_stream_is_taken_over_too(relay: Relay) -> None:
    authority = trustme.CA()
    server, browser = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(browser)
    app = create_app(relay, heartbeat=3_600)
    async with house(app, tls=server) as here, here.client(browser) as client:
        await client.ask()
        await client.chunk()
        (stream,) = here.streams
        assert isinstance(stream.connection, TakenOverConnection)
        job = relay.registry.admit()
        for number in range(3):
            relay.bus.publish(job, Log(line=f"live {number}"))
            assert f"live {number}".encode() in await client.chunk()
            assert not stream.slow
        await app.shutdown()
        assert b"event: bye\n" in await client.chunk()
        assert await client.chunk() == b""


class Between(asyncio.Protocol):
    """What some library puts between the transport and aiohttp."""

    def __init__(self, handler: RequestHandler) -> None:
        self.data_received = handler.data_received  # type: ignore[method-assign]
        self.connection_lost = handler.connection_lost  # type: ignore[method-assign]


@pytest.mark.parametrize("odd", ["a request with a body", "a debug stream", "a protocol of somebody else"])
async def test_a_connection_that_is_not_as_expected_stays_with_aiohttp(relay: Relay, odd: str) -> None:
    @middleware
    async def put_between(request: Request, handler: Handler) -> StreamResponse:
        assert request.transport is not None
        request.transport.set_protocol(Between(request.protocol))
        return await handler(request)

    app, asked = create_app(relay, debug=True), HELLO
    match odd:
        case "a request with a body":
            asked = HELLO.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n12345")
        case "a debug stream":
            asked = HELLO.replace(b"events", b"events?debug=1")
        case _:
            app.middlewares.append(put_between)
    async with house(app) as here, here.client() as client:
        await client.ask(asked)
        await client.chunk()

        assert [type(stream.connection) for stream in here.streams] == [HandlerConnection]
        job = relay.registry.admit()
        relay.bus.publish(job, Log(line="all the same"))
        assert b"all the same" in await client.chunk()


async def test_a_client_that_takes_nothing_after_the_takeover_is_cut_off(relay: Relay) -> None:
    async with house(create_app(relay, send_timeout=0.1)) as here, here.watching() as client:
        (stream,) = here.streams
        client.stop_reading()
        job = relay.registry.admit()
        for _ in range(1_500):
            relay.bus.publish(job, Log(line="x" * 8_000))
        await stream.done.wait()

        assert not relay.bus._topics


async def test_shutting_down_cuts_who_takes_nothing_and_leaves_no_task(relay: Relay) -> None:
    before = asyncio.all_tasks()
    async with house(create_app(relay, send_timeout=3_600)) as here, here.watching() as stuck, here.watching():
        stuck.stop_reading()
        job = relay.registry.admit()
        for _ in range(1_500):
            relay.bus.publish(job, Log(line="x" * 8_000))
        async with asyncio.timeout(30):
            await here.runner.cleanup()

        assert here.streams == []
        assert asyncio.all_tasks() == before


async def test_a_session_of_aiohttp_reads_a_taken_stream_to_its_orderly_end(relay: Relay) -> None:
    app = create_app(relay)
    async with (
        house(app) as here,
        ClientSession(f"http://127.0.0.1:{here.port}") as session,
        session.get("/v1/events") as response,
    ):
        await response.content.readline()
        await app.shutdown()

        assert b"event: bye\n" in await response.content.read()


async def test_a_stream_of_two_jobs_whose_ends_come_in_one_long_batch_has_both(relay: Relay) -> None:
    """More than is written at once lies between the first end and the second."""
    jobs = [relay.registry.admit(), relay.registry.admit()]
    async with house(create_app(relay)) as here, here.client() as client:
        await client.ask(HELLO.replace(b"events", f"events?job={jobs[0].id}&job={jobs[1].id}".encode()))
        await client.chunk()
        with relay.bus.batch():
            relay.bus.publish(jobs[0], Done(urls=("https://a/b",)))
            for _ in range(12):
                relay.bus.publish(jobs[1], Log(line="x" * 8_000))
            relay.bus.publish(jobs[1], Done(urls=("https://a/b",)))
        body = b""
        while data := await client.chunk():
            body += data

    assert body == b"".join(frame(record) for record in relay.journal.read(0))


async def test_shutting_down_says_goodbye_to_a_hundred_streams_without_a_task_for_any(relay: Relay) -> None:
    job = relay.registry.admit()
    app = create_app(relay)
    async with house(app) as here, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(here.watching()) for _ in range(100)]
        relay.bus.publish(job, Log(line="said in the turn of the goodbye"))
        tasks = asyncio.all_tasks()
        for stream in here.streams:
            stream.close()
        assert asyncio.all_tasks() == tasks
        (record,) = relay.journal.read(0)
        for client in clients:
            assert await client.chunk() == frame(record)
            assert (await client.chunk()).endswith(f"id: {record.position}\n\n".encode())
            assert await client.chunk() == b""
            assert await client.gone()

        assert here.streams == []
