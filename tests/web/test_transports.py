"""What limits a connection does so over TLS and over a unix socket as well, where a client has no address."""

import asyncio
import re
import socket
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import pytest
import trustme
from aiohttp.web import Application, AppRunner, SockSite
from msgspec import Struct

import web.server
from relay import Relay
from relay.cli.listening import listening
from relay.cli.serving import serving_on
from relay.events import Done, Log, Progress
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, OneStep, story
from tests.web.streaming.client import blocks
from tests.web.streaming.test_crowds import seqs
from web import create_app
from web.middleware.idle_timeout import reap_idle_connections
from web.streaming.bare import BareConnection
from web.streaming.keys import REACTOR, STREAMS, WAITS
from web.streaming.patience import LOOK_EVERY, ClientWaits
from web.streaming.session import StreamSession
from web.streaming.takeover import TakenOverConnection
from web.tls import Certificate

PATIENCE = 60.0
"""Seconds: a safety net only."""

STREAM = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Wire(Struct):
    """A way to connect: over TLS to a port of loopback, or to a unix socket."""

    kind: Literal["tls", "unix"]
    host: str
    certificate: Certificate | None = None
    trust: ssl.SSLContext | None = None
    port: int = 0

    async def connect(self, buffered: int | None = None) -> tuple[StreamReader, StreamWriter]:
        """Connect; with *buffered*, the kernel keeps as few bytes as it can, and the reader so many."""
        sock = socket.socket(socket.AF_UNIX if self.kind == "unix" else socket.AF_INET)
        sock.setblocking(False)
        if buffered is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        address = self.host.removeprefix("unix:") if self.kind == "unix" else ("127.0.0.1", self.port)
        await asyncio.get_running_loop().sock_connect(sock, address)
        name = None if self.trust is None else "127.0.0.1"
        limit = 2**16 if buffered is None else buffered
        return await asyncio.open_connection(sock=sock, ssl=self.trust, server_hostname=name, limit=limit)

    @asynccontextmanager
    async def serving(self, app: Application, sends: int | None = None) -> AsyncGenerator[None]:
        """Serve *app*; the kernel keeps about so many bytes of each connection that it *sends*."""
        with listening(self.host, 0) as listeners:
            if sends is not None:
                listeners.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sends)
            self.port = listeners.sockets[0].getsockname()[1] if self.kind == "tls" else 0
            async with serving_on(app, listeners, self.certificate):
                yield

    @asynccontextmanager
    async def timed(self, app: Application, clock: ManualClock, sends: int | None = None) -> AsyncGenerator[None]:
        """Serve *app* with an idle timeout by *clock*; see `serving` for what the kernel *sends*."""
        runner = AppRunner(app, access_log=None)
        with listening(self.host, 0) as listeners:
            if sends is not None:
                listeners.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sends)
            self.port = listeners.sockets[0].getsockname()[1] if self.kind == "tls" else 0
            async with reap_idle_connections(runner, clock=clock):
                await runner.setup()
                context = self.certificate.context if self.certificate is not None else None
                await SockSite(runner, listeners.sockets[0], ssl_context=context).start()
                try:
                    yield
                finally:
                    await runner.cleanup()


@pytest.fixture(params=["tls", "unix"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Wire]:
    if request.param == "unix":
        with TemporaryDirectory(prefix="relay-") as folder:
            yield Wire("unix", f"unix:{folder}/relay.sock")
        return
    authority, trust = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trust)
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "relay.pem", tmp_path / "relay.key"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    yield Wire("tls", "127.0.0.1", Certificate(cert, key), trust)


def a_relay() -> Relay:
    return Relay([OneStep(story({"t": RUNNING}))], clock=ManualClock())


def an_app(relay: Relay, **options: Any) -> Application:
    return create_app(relay, heartbeat=3_600, hosts={"<local>"}, **options)


async def gone(reader: StreamReader) -> None:
    """Return once the server has closed or broken the connection."""
    with suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            await reader.read()


@pytest.mark.parametrize("sent", [b"", b"GET /v1/eve"])
async def test_an_idle_connection_is_closed_and_a_stream_goes_on(wire: Wire, sent: bytes) -> None:
    clock = ManualClock()
    async with a_relay() as relay, wire.timed(an_app(relay), clock):
        patient, kept = await wire.connect()
        kept.write(STREAM)
        await patient.readuntil(b"\r\n\r\n")
        reader, writer = await wire.connect()
        writer.write(sent)
        cut = asyncio.create_task(gone(reader))
        while not cut.done():
            await clock.advance(1)
        relay.bus.publish(relay.registry.admit(), Log(line="still here"))
        await patient.readuntil(b"still here")
        writer.close()
        kept.close()


async def test_a_client_that_pauses_in_the_middle_of_a_response_receives_the_rest(wire: Wire) -> None:
    """It may read nothing for two minutes; only a connection with nothing under way is idle after ten seconds."""
    clock = ManualClock()
    async with a_relay() as relay, wire.timed(an_app(relay), clock, sends=8_192):
        for number in range(200):
            relay.follow("scripted", f"t{number}")
        reader, writer = await wire.connect(buffered=4_096)
        writer.write(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")  # the reader pauses behind it, as its buffer is full
        for _ in range(60):
            await clock.advance(1)
        size = int(head.lower().partition(b"content-length:")[2].split()[0])
        assert len(await reader.readexactly(size)) == size
        writer.close()


async def test_the_largest_unfinished_head_gives_way(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.server, "HEADS_LIMIT", 64 * 1024)
    async with a_relay() as relay, wire.serving(an_app(relay)):
        small, kept = await wire.connect()
        kept.write(b"GET /v1/jobs HTTP/1.1\r\n")
        reader, writer = await wire.connect()
        field = b"X-%d: " + b"a" * 8_000 + b"\r\n"
        with suppress(ConnectionError):
            writer.write(b"GET / HTTP/1.1\r\n" + b"".join(field % number for number in range(20)))
            await writer.drain()
        await gone(reader)
        kept.write(b"Host: localhost\r\n\r\n")
        assert (await small.readuntil(b"\r\n")).split()[1] == b"200"
        writer.close()
        kept.close()


@pytest.mark.parametrize(("sent", "status"), [(b"GET / HTTP/2.0\r\n\r\n", 505), (b"GARBAGE\r\n\r\n", 400)])
async def test_an_odd_request_has_a_clear_answer(wire: Wire, sent: bytes, status: int) -> None:
    async with a_relay() as relay, wire.serving(an_app(relay)):
        reader, writer = await wire.connect()
        writer.write(sent)
        assert int((await reader.readuntil(b"\r\n")).split()[1]) == status
        writer.close()


async def test_a_stream_is_taken_over_and_ends_for_a_client_that_reads_nothing(wire: Wire) -> None:
    async with a_relay() as relay:
        app = an_app(relay, send_timeout=0.01, slow_after=3_600)
        async with wire.serving(app):
            reader, writer = await wire.connect()
            writer.write(STREAM)
            await reader.readuntil(b"\r\n\r\n")
            relay.bus.publish(job := relay.registry.admit(), Log(line="first"))
            await reader.readuntil(b"first")
            (stream,) = app[STREAMS]
            assert isinstance(stream, StreamSession)
            assert isinstance(stream.connection, TakenOverConnection if wire.kind == "tls" else BareConnection)
            cast(asyncio.Transport, writer.transport).pause_reading()
            async with asyncio.timeout(PATIENCE):
                while not stream.done.is_set():
                    relay.bus.publish(job, Log(line="x" * 4_000))
                    await asyncio.sleep(0)
            writer.transport.abort()


async def test_a_reader_that_lags_at_the_end_receives_all_of_its_stream(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transport of TLS has up to 64 KB left to write when it says that it has none."""
    monkeypatch.setattr(web.server, "FAREWELL_WITHIN", PATIENCE)
    async with a_relay() as relay:
        app = an_app(relay, send_timeout=3_600, slow_after=3_600)
        async with wire.serving(app, sends=8_192):
            reader, writer = await wire.connect(buffered=16_384)
            job = relay.registry.admit()
            relay.bus.publish(job, Log(line="first"))
            writer.write(STREAM.replace(b"/v1/events", f"/v1/jobs/{job.id}/events".encode()))
            await reader.readuntil(b"first")
            (stream,) = app[STREAMS]
            assert isinstance(stream, StreamSession)
            cast(asyncio.Transport, writer.transport).pause_reading()
            sent = 0
            while not stream.slow:
                relay.bus.publish(job, Log(line=f"{sent} " + "x" * 4_000))
                sent += 1
                await asyncio.sleep(0)
            relay.bus.publish(job, Done(urls=("https://a/b",)))
            cast(asyncio.Transport, writer.transport).resume_reading()
            body = b""
            async with asyncio.timeout(PATIENCE):
                while more := await reader.read(2_000):
                    body += more
                    await asyncio.sleep(0)
            writer.close()

    assert [int(one) for one in re.findall(rb'"line":"(\d+) x', body)] == list(range(sent))
    assert body.count(b"event: done") == 1
    assert body.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("wire", ["tls"], indirect=True)
async def test_a_reader_that_reads_little_is_told_what_it_misses_and_is_not_cut_off(wire: Wire) -> None:
    """It reads 8 kB in 6 s, of pages of 48 kB, and a client that reads nothing for 10 s is cut off."""
    seconds, records = 1_000.0, 3_000
    async with a_relay() as relay:
        app = an_app(relay, slow_after=2.0)
        app[WAITS] = app[REACTOR].waits = waits = ClientWaits(10.0, now=lambda: seconds)
        async with wire.serving(app, sends=8_192):
            reader, writer = await wire.connect(buffered=4_096)
            job = relay.registry.admit()
            relay.bus.publish(job, Log(line="first"))
            writer.write(f"GET /v1/jobs/{job.id}/events HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            body = (await reader.readuntil(b"\n\n")).partition(b"\r\n\r\n")[2]
            (stream,) = app[STREAMS]
            for number in range(records - 2):
                relay.bus.publish(job, Progress(percent=number // 100, status="running"))
                if number % 100 == 0:
                    await asyncio.sleep(0)
            relay.bus.publish(job, Done(urls=("https://a/b",)))
            while not stream.done.is_set():
                more = len(body) + 8_192
                while len(body) < more and (data := await reader.read(2_048)):
                    body += data
                for _ in range(60):
                    seconds += LOOK_EVERY
                    waits.look()
                    await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                body += await reader.read()
            writer.close()

    heard = list(blocks(body.replace(b":\n", b"")))
    missed = sum(block.says["missed"] for block in heard if block.event == "skipped")
    received = seqs(heard)
    assert missed > 0
    assert (len(received) + missed, received[-1]) == (records, records)


async def test_clients_of_a_unix_socket_count_as_one(wire: Wire) -> None:
    """They have no address; those over TLS here have the same one."""
    async with a_relay() as relay, wire.serving(an_app(relay, max_streams_per_client=1)):
        relay.bus.publish(relay.registry.admit(), Log(line="line"))
        first, kept = await wire.connect()
        kept.write(STREAM)
        await first.readuntil(b"event: ")
        second, writer = await wire.connect()
        writer.write(STREAM)
        await second.readuntil(b"event: busy")
        writer.close()
        kept.close()
