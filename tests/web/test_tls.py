"""TLS with real clients: what is spoken, and a certificate that is renewed under open streams."""

import asyncio
import os
import shutil
import ssl
from asyncio.sslproto import SSLProtocol
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct

import web.server
from relay import ConfigError, Relay
from relay.cli.listening import listening
from relay.cli.serving import serving_on
from relay.events import Done, Log
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from web import create_app
from web.streaming.keys import STREAMS
from web.streaming.registry import StreamRegistry
from web.tls import LOOK_EVERY, RECORD, Certificate

EC, RSA = trustme.KeyType.ECDSA, trustme.KeyType.RSA

PATIENCE = 60.0
"""Seconds: a safety net only."""


class Pair:
    """The files of a certificate and of its key, written anew by `renew`."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.cert, self.key = folder / "relay.pem", folder / "relay.key"

    def renew(self, kind: trustme.KeyType = EC, *, only: str = "both") -> None:
        """Write the certificate, or its key, or both; of a key of that *kind*."""
        issued = self.authority.issue_cert("relay.localhost", "127.0.0.1", key_type=kind)
        if only != "key":
            self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        if only != "cert":
            self.key.touch(mode=0o600)
            self.key.write_bytes(issued.private_key_pem.bytes())

    def served(self) -> bytes:
        """The certificate in the file, in DER."""
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n")

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    made = Pair(tmp_path)
    made.renew()
    return made


class House(Struct):
    """A relay with TLS on loopback: its port, its certificate, and what it has reported."""

    relay: Relay
    clock: ManualClock
    pair: Pair
    port: int
    url: str
    streams: StreamRegistry
    notices: list[str]

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[ClientSession]:
        """A client that connects anew for each request."""
        connector = TCPConnector(ssl=self.pair.trust(), force_close=True)
        async with ClientSession(self.url, connector=connector, timeout=ClientTimeout(total=PATIENCE)) as client:
            yield client

    async def shown(self, context: ssl.SSLContext | None = None) -> bytes:
        """The certificate that a new connection is shown, in DER."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context or self.pair.trust())
        try:
            found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return found
        finally:
            writer.close()
            await writer.wait_closed()

    async def looked(self) -> None:
        """Let the relay look at the files once."""
        await self.clock.advance(LOOK_EVERY)


@asynccontextmanager
async def tls_house(pair: Pair, **options: Any) -> AsyncGenerator[House]:
    clock, notices = ManualClock(), list[str]()
    relay = Relay([TwoStep(story({"t": RUNNING}))], clock=clock)
    app = create_app(relay, heartbeat=3_600, **options)
    certificate = Certificate(pair.cert, pair.key, notices.append)
    with listening("127.0.0.1", 0) as listeners:
        async with serving_on(app, listeners, certificate) as url:
            yield House(relay, clock, pair, urlsplit(url).port or 0, url, app[STREAMS], notices)


@pytest.fixture
async def house(pair: Pair) -> AsyncIterator[House]:
    async with tls_house(pair) as opened:
        yield opened


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    async with asyncio.timeout(PATIENCE):
        return (await process.communicate())[0].decode(errors="replace")


async def line(response: ClientResponse) -> str:
    """The data of the next record of a stream."""
    async for text in response.content:
        if text.startswith(b"data: "):
            return text.decode()
    raise AssertionError("the stream has ended")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_sees_https_its_own_origin_and_the_protocol_it_is_offered(
    house: House, version: ssl.TLSVersion
) -> None:
    context = house.pair.trust()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert house.url.startswith("https://127.0.0.1:")
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    origin = f"https://127.0.0.1:{house.port}"
    for said, status in ((origin, b"200"), (origin.replace("https", "http"), b"403")):
        writer.write(f"GET /v1/jobs HTTP/1.1\r\nHost: {origin[8:]}\r\nOrigin: {said}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split()[1] == status
        size = int(head.lower().partition(b"content-length:")[2].split()[0])
        await reader.readexactly(size)
    writer.close()


async def test_older_versions_of_tls_and_plain_http_are_refused_without_a_line(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await house.shown(context)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"HTTP" not in await reader.read()
    writer.close()
    assert (await house.shown(), house.notices, caplog.records) == (house.pair.served(), [], [])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("name", [b"relay.localhost", b"other.example", b"\xff\xfe", b""])
async def test_openssl_is_shown_the_certificate_whatever_server_it_names(
    house: House, name: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    named = ["-servername", os.fsdecode(name)] if name else ["-noservername"]
    shown = await run("openssl", "s_client", "-connect", f"127.0.0.1:{house.port}", *named)
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    found = f"{begin}{shown.partition(begin)[2].partition(end)[0]}{end}\n"
    assert ssl.PEM_cert_to_DER_cert(found) == house.pair.served()
    assert capfd.readouterr().err == ""


@pytest.mark.curl
async def test_curl_reads_a_stream(house: House, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl is installed; on Debian: apt-get install curl")
    house.pair.authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    job = house.relay.registry.admit()
    house.relay.bus.publish(job, Log(line="line"))
    house.relay.bus.publish(job, Done(urls=("https://a/b",)))
    url = f"{house.url}/v1/jobs/{job.id}/events"
    body = await run("curl", "-sS", "--cacert", str(tmp_path / "authority.pem"), url)
    assert [text[6:].encode() for text in body.splitlines() if text.startswith("data: ")] == [
        record.json for record in house.relay.journal.read(0)
    ]


async def test_a_connection_keeps_the_buffer_of_one_record_and_a_larger_body_arrives_whole(house: House) -> None:
    assert SSLProtocol.max_size == RECORD, "asyncio of this Python has another name for it"
    body = {"upstream": "scripted", "input": {"text": "x" * (40 * RECORD)}}
    async with house.client() as client, client.post("/v1/jobs", json=body) as response:
        assert response.status == 201


@pytest.mark.parametrize("kinds", [(EC, EC), (EC, RSA), (RSA, EC)])
async def test_a_renewed_certificate_is_shown_to_new_connections_and_open_streams_go_on(
    pair: Pair, take_over: bool, kinds: tuple[trustme.KeyType, trustme.KeyType]
) -> None:
    pair.renew(kinds[0])
    async with tls_house(pair) as house, house.client() as client:
        job = house.relay.registry.admit()
        house.relay.bus.publish(job, Log(line="before"))
        async with client.get(f"/v1/jobs/{job.id}/events") as stream:
            assert "before" in await line(stream)
            before = await house.shown()
            pair.renew(kinds[1])
            assert await house.shown() == before
            await house.looked()
            assert await house.shown() == pair.served() != before
            without_a_name = pair.trust()
            without_a_name.check_hostname = False
            assert await house.shown(without_a_name) == pair.served()
            house.relay.bus.publish(job, Log(line="after"))
            assert "after" in await line(stream)
            house.relay.bus.publish(job, Done(urls=("https://a/b",)))
            assert "event: done" in await stream.text()
        assert house.notices == [f"the certificate in {pair.cert} is new, and is used for new connections"]


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILS = {
    "the wrong key": lambda pair: pair.renew(only="key"),
    "the certificate without its key": lambda pair: pair.renew(only="cert"),
    "a key of another kind": lambda pair: pair.renew(RSA, only="key"),
    "half a key": lambda pair: halve(pair.key),
    "half a certificate": lambda pair: halve(pair.cert),
    "an empty certificate": lambda pair: pair.cert.write_bytes(b""),
    "no key": lambda pair: pair.key.unlink(),
    "no certificate": lambda pair: pair.cert.unlink(),
    "a folder": lambda pair: (pair.key.unlink(), pair.key.mkdir()),
    "a pipe": lambda pair: become_a_pipe(pair.key),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
async def test_files_that_cannot_be_used_leave_the_certificate_in_use_and_are_one_notice(
    house: House, spoil: Any
) -> None:
    before = await house.shown()
    spoil(house.pair)
    for _ in range(3):
        await house.looked()
        assert await house.shown() == before
    (said,) = house.notices
    assert said.endswith("; the certificate in use is kept, and the files are read again")
    if house.pair.key.is_dir():
        house.pair.key.rmdir()
    house.pair.key.unlink(missing_ok=True)
    house.pair.renew()
    await house.looked()
    assert await house.shown() == house.pair.served() != before
    assert house.notices[1:] == [f"the certificate in {house.pair.cert} is new, and is used for new connections"]


async def test_a_pair_that_is_written_file_by_file_is_used_once_it_is_whole(house: House, tmp_path: Path) -> None:
    other = Pair(tmp_path / "other")
    other.authority = house.pair.authority
    other.cert.parent.mkdir()
    other.renew(RSA)
    before = await house.shown()
    os.replace(other.cert, house.pair.cert)
    await house.looked()
    assert await house.shown() == before
    os.replace(other.key, house.pair.key)
    await house.looked()
    assert await house.shown() == house.pair.served() != before


async def test_a_secret_that_is_exchanged_by_a_link_is_noticed(pair: Pair, tmp_path: Path) -> None:
    """As Kubernetes renews a mounted secret: the names stay, and a link in their path leads elsewhere."""
    for name in ("one", "two"):
        made = Pair(tmp_path / name)
        made.authority = pair.authority
        made.cert.parent.mkdir()
        made.renew()
    link = tmp_path / "data"
    link.symlink_to("one")
    pair.cert, pair.key = link / "relay.pem", link / "relay.key"
    async with tls_house(pair) as house:
        before = await house.shown()
        (tmp_path / "new").symlink_to("two")
        os.replace(tmp_path / "new", link)
        await house.looked()
        assert await house.shown() == pair.served() != before


async def test_files_that_do_not_change_are_not_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = list[str]()
    load = ssl.SSLContext.load_cert_chain

    def count(self: ssl.SSLContext, *arguments: Any) -> None:
        loads.append("load")
        load(self, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", count)
    for _ in range(3):
        await house.looked()
    assert loads == []
    house.pair.renew()
    await house.looked()
    assert loads == ["load"]


def test_a_key_that_every_user_can_read_is_a_notice(pair: Pair) -> None:
    pair.key.chmod(0o644)
    notices = list[str]()
    Certificate(pair.cert, pair.key, notices.append)
    pair.key.chmod(0o640)
    Certificate(pair.cert, pair.key, notices.append)
    assert notices == [f"{pair.key} can be read by every user of this machine; chmod o-rwx {pair.key}"]


REFUSED = {
    "the wrong key": (lambda pair: pair.renew(only="key"), "the key {key} is not that of the certificate {cert}"),
    "a key of another kind": (
        lambda pair: pair.renew(RSA, only="key"),
        "the key {key} is not that of the certificate {cert}",
    ),
    "half a key": (lambda pair: halve(pair.key), "{cert} and {key} are no whole certificate and key in PEM"),
    "no certificate": (lambda pair: pair.cert.unlink(), "cannot read {cert}: No such file or directory"),
    "a folder": (lambda pair: (pair.cert.unlink(), pair.cert.mkdir()), "{cert} is no file"),
}


@pytest.mark.parametrize(("spoil", "line"), REFUSED.values(), ids=REFUSED)
def test_at_the_start_files_that_cannot_be_used_are_an_error(pair: Pair, spoil: Any, line: str) -> None:
    spoil(pair)
    with pytest.raises(ConfigError) as caught:
        Certificate(pair.cert, pair.key)
    assert str(caught.value) == f"[server] tls: {line.format(cert=pair.cert, key=pair.key)}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_an_encrypted_key_is_an_error_and_asks_nobody(pair: Pair) -> None:
    plain = pair.key.rename(pair.key.with_suffix(".plain"))
    await run("openssl", "pkey", "-in", str(plain), "-aes128", "-passout", "pass:canary", "-out", str(pair.key))
    assert b"ENCRYPTED" in pair.key.read_bytes()
    with pytest.raises(ConfigError, match="is encrypted, and the relay asks nobody"):
        Certificate(pair.cert, pair.key)


async def test_the_end_of_serving_ends_streams_under_tls_in_order(pair: Pair, take_over: bool) -> None:
    async with tls_house(pair) as house, house.client() as client:
        job = house.relay.registry.admit()
        house.relay.bus.publish(job, Log(line="line"))
        async with client.get(f"/v1/jobs/{job.id}/events") as stream:
            await line(stream)
            ending = asyncio.ensure_future(house.streams.close())
            body = await stream.text()
            await ending
        assert "event: bye" in body


async def test_a_client_that_begins_no_handshake_is_disconnected(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.server, "HANDSHAKE_WITHIN", 0.01)
    async with tls_house(pair) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        assert house.notices == []
