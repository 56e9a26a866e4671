"""What limits a connection does so over TLS and over a unix socket as well, where a client has no address."""

import asyncio
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
from relay.events import Log
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, OneStep, story
from web import create_app
from web.middleware.idle_timeout import reap_idle_connections
from web.streaming.bare import BareConnection
from web.streaming.keys import STREAMS
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

    async def connect(self) -> tuple[StreamReader, StreamWriter]:
        if self.kind == "unix":
            return await asyncio.open_unix_connection(self.host.removeprefix("unix:"))
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust)

    @asynccontextmanager
    async def serving(self, app: Application) -> AsyncGenerator[None]:
        with listening(self.host, 0) as listeners:
            self.port = listeners.sockets[0].getsockname()[1] if self.kind == "tls" else 0
            async with serving_on(app, listeners, self.certificate):
                yield

    @asynccontextmanager
    async def timed(self, app: Application, clock: ManualClock) -> AsyncGenerator[None]:
        """Serve *app* with an idle timeout by *clock*."""
        runner = AppRunner(app, access_log=None)
        with listening(self.host, 0) as listeners:
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
