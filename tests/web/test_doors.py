"""Requests that are odd, broken or meant to cost much: each has one clear answer, and costs the operator no more than
a line."""

import asyncio
import gzip
import json
import logging
import zlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from aiohttp import ClientSession
from aiohttp.web import Application, Request, RequestHandler, Response

from relay import Relay
from relay.cli.serving import serving
from relay.errors import JournalError
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.raw import Door, door, read_answer, request
from tests.web.serving import serve, serve_app
from web import create_app
from web.app_keys import RELAY
from web.bodies import BODIES_LIMIT, BODY_LIMIT
from web.middleware.request_checks import PATH_LIMIT
from web.request_heads import HEADS_LIMIT, REQUEST_LINE, Connection
from web.server import READ_AT_ONCE
from web.streaming.session import StreamSession

FOLLOW = b'{"upstream": "scripted", "task": "t"}'
SUBMIT = b'{"upstream": "scripted", "input": {}}'
JSON = "Content-Type: application/json"
BOMB = gzip.compress(b"\0" * 50_000_000)


def a_relay() -> Relay:
    return Relay([TwoStep(story({"t": RUNNING}))], clock=ManualClock())


@pytest.fixture
async def here(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Door]:
    """A relay that must not say more than a line about anything."""
    async with door(a_relay(), hosts={"localhost"}) as found:
        yield found
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []


def posted(body: bytes, *fields: str, path: str = "/v1/jobs") -> bytes:
    return request(f"POST {path} HTTP/1.1", JSON, *fields, body=body)


def got(path: str, *fields: str) -> bytes:
    return request(f"GET {path} HTTP/1.1", *fields)


ODD: list[tuple[bytes, int, str]] = [
    # An encoded body is not inflated, wherever it is sent.
    (posted(gzip.compress(FOLLOW), "Content-Encoding: gzip"), 415, "without a Content-Encoding"),
    (posted(FOLLOW, "Content-Encoding: gzip"), 415, "without a Content-Encoding"),
    (posted(zlib.compress(FOLLOW), "Content-Encoding: deflate"), 415, "without a Content-Encoding"),
    (posted(FOLLOW, "Content-Encoding: br"), 415, "without a Content-Encoding"),
    (posted(FOLLOW, "Content-Encoding: zstd"), 415, "without a Content-Encoding"),
    (posted(FOLLOW, "Content-Encoding: GZIP, \xff"), 415, "without a Content-Encoding"),
    (posted(FOLLOW, "Content-Encoding: identity", "Content-Encoding: gzip"), 415, "without a Content-Encoding"),
    (posted(FOLLOW, "Content-Encoding:", "Content-Encoding: identity, , IDENTITY"), 201, ""),
    (posted(BOMB, "Content-Encoding: gzip", path="/healthz"), 415, "without a Content-Encoding"),
    (posted(BOMB, "Content-Encoding: gzip", path="/v1/webhooks/a/b/c"), 415, "without a Content-Encoding"),
    (posted(FOLLOW, "Content-Encoding: identity"), 201, ""),
    # Files: only the names that there are.
    (got(f"/static/{'a' * 300}"), 404, "no file of the page"),
    (got("/static/a%00b"), 404, "no file of the page"),
    (got("/static/%ff"), 404, "no file of the page"),
    (got("/static/..%2fapp.py"), 404, "no file of the page"),
    (got("/static/%2e%2e/app.py"), 404, "nothing is at"),
    (got("/static/../app.py"), 404, "nothing is at"),
    (got("/static/"), 404, "nothing is at"),
    (request("POST /static/relay.js HTTP/1.1"), 405, "try GET,HEAD"),
    (got("/static/relay.js", "Range: bytes=0-3"), 200, ""),
    (got("/static/relay.js", f"Range: bytes={'9' * 5_000}-"), 200, ""),
    (got("/static/relay.js", "Range: \xff", "If-Range: \xff"), 200, ""),
    (got("/static/relay.js", 'If-None-Match: "\xff", W/"', "If-Modified-Since: 99 99 9999"), 200, ""),
    (got("/static/relay.js", "If-None-Match: *"), 304, ""),
    # Targets and methods.
    (got(f"/{'a' * PATH_LIMIT}"), 414, "a path has at most 4,096 characters"),
    (got(f"/{'a' * (PATH_LIMIT - 1)}"), 404, "nothing is at /aaa"),
    # Each of these held up everything for up to a minute, while aiohttp looked for its route.
    (got("/" * 250_000), 414, "a path has at most 4,096 characters"),
    (got("/" + "a/../" * 50_000), 414, "a path has at most 4,096 characters"),
    (got("http://localhost" + "/" * 250_000), 414, "a path has at most 4,096 characters"),
    (request(f"OPTIONS /{'%2f/' * 50_000} HTTP/1.1"), 414, "a path has at most 4,096 characters"),
    (posted(FOLLOW, path="/" + "a/" * 100_000), 414, "a path has at most 4,096 characters"),
    # Nor may a query or a body hold it up.
    (got("/v1/events?" + "a&" * 100_000), 413, "at most 1,000 jobs"),
    (got("/v1/jobs/x/events?" + "lastEventId=&" * 10_000), 413, "at most 1,000 jobs"),
    (posted(b'{"upstream": "scripted", "input": {"a": [%b1]}}' % (b"[]," * 300_000)), 400, "more than 20,000 values"),
    (posted(b'{"upstream": "scripted", "input": {%b"": 1}}' % (b'"":1,' * 150_000)), 400, "more than 20,000 values"),
    (
        posted(b'{"upstream": "scripted", "input": {"a": [%b1]}}' % (b'"\\"",' * 100_000)),
        400,
        "more than 20,000 values",
    ),
    (posted(b'"' * BODY_LIMIT), 400, "more than 20,000 values"),
    (
        posted(b'{"upstream": "scripted", "input": {"a": [%b1]}}' % ((b"9" * 401 + b",") * 1_000)),
        400,
        "send it as text",
    ),
    (posted(b'{"upstream": "scripted", "input": {"a": "%b"}}' % (b"[{, " * 200_000)), 201, ""),
    (posted(b'{"upstream": "scripted", "input": {"a": "%b\\\\"}}' % (b'[\\"' * 200_000)), 201, ""),
    (posted(b'{"upstream": "scripted", "input": {"a": [%b1]}}' % (b"1e-7," * 19_000)), 201, ""),
    (got(f"/{'a' * (REQUEST_LINE + 1)}"), 400, "too long"),
    (got("/v1/jobs/%ff%fe"), 404, "no job"),
    (got("/v1/jobs/\xff"), 400, "cannot be read"),
    (got("/v1/jobs/a%00b"), 400, "no control character"),
    (got("http://localhost/healthz"), 200, ""),
    (got("http://evil.example/healthz"), 421, "host name"),
    (request("OPTIONS * HTTP/1.1"), 404, "nothing is at"),
    (request("CONNECT evil.example:80 HTTP/1.1"), 421, "host name"),
    (request("TRACE / HTTP/1.1"), 405, "TRACE is not possible here"),
    (request("get / HTTP/1.1"), 400, "Invalid method"),
    (request(f"{'G' * 1_000_000} / HTTP/1.1"), 400, "Invalid method"),
    (request("GET / HTTP/2.0"), 505, "HTTP/1.1"),
    (request("GET / HTTP/1.2"), 400, "Bad status line"),
    (b"GET /\r\n\r\n", 505, "HTTP/1.1"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "cannot be read"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "HTTPS"),
    # Headers.
    (got("/", f"X: {'a' * 9_000}"), 400, "too long"),
    (got("/", *["X: a"] * 200), 400, "Too many headers"),
    (got("/", "X: a\0b"), 400, "Invalid header value"),
    (got("/", "X\x01: a"), 400, "Invalid header token"),
    (got("/", "X: a", " b"), 400, "whitespace after header value"),
    (got("/healthz", "Expect: 200-ok"), 417, "Expect"),
    (got("/healthz", "Expect: 100-continue, 200-ok"), 417, "Expect"),
    (got("/healthz", "Expect: 100-continue", "Expect: 200-ok"), 417, "Expect"),
    (got("/healthz", "Expect:"), 200, ""),
    (posted(SUBMIT, "Idempotency-Key: a", "Idempotency-Key: b"), 400, "one Idempotency-Key"),
    (posted(SUBMIT, "Idempotency-Key: a", "Idempotency-Key: a"), 400, "one Idempotency-Key"),
    (posted(FOLLOW, "Idempotency-Key: a\tb"), 400, "characters that print"),
    (posted(FOLLOW, "Idempotency-Key: a"), 201, ""),
    (request("HEAD /v1/jobs/x/events HTTP/1.1"), 404, ""),
    (request("HEAD /v1/events?job=x HTTP/1.1"), 404, ""),
    (got("/healthz", "Connection: Upgrade", "Upgrade: websocket"), 200, ""),
    (request("GET /healthz HTTP/1.0", host=None), 200, ""),
    (request("GET /healthz HTTP/1.1", host=None), 400, "Missing 'Host' header"),
    (request("GET /healthz HTTP/1.1", "Host: localhost"), 400, "Duplicate 'Host' header"),
    # Bodies, and how they are framed.
    (posted(b"\xef\xbb\xbf" + FOLLOW), 201, ""),
    (posted(FOLLOW.decode().encode("utf-16")), 400, "UTF-16"),
    (posted(FOLLOW.decode().encode("utf-16-be")), 400, "UTF-16"),
    (posted(FOLLOW.decode().encode("utf-32")), 400, "UTF-16 or UTF-32"),
    (request("POST /v1/jobs HTTP/1.1", JSON, "Content-Length: 0"), 400, "the body is empty"),
    (posted(b" \n\t"), 400, "the body is empty"),
    (posted(b"\xef\xbb\xbf"), 400, "the body is empty"),
    (posted(b'{"upstream": "scripted", "upstream": "other", "task": "t"}'), 400, "a key twice"),
    (posted(b'{"upstream": "scripted", "input": {"a": {"b": 1, "b": 2}}}'), 400, "a key twice"),
    (posted(b'{"upstream": "scripted", "input": {"a": NaN}}'), 400, "is not JSON"),
    (posted(b'{"upstream": "scripted", "input": {"a": 1e999}}'), 400, "Number out of range"),
    (posted(b'{"upstream": "scripted", "input": {"a": "\\ud800"}}'), 400, "is not JSON"),
    (posted(b'{"upstream": "\\udc00", "task": "t"}'), 400, "is not JSON"),
    (posted(b'{"upstream": "scripted", "input": {"a": %b}}' % (b"[" * 198 + b"]" * 198)), 201, ""),
    (posted(b'{"upstream": "scripted", "input": {"a": %b}}' % (b"[" * 199 + b"]" * 199)), 400, "200 levels"),
    (posted(b'{"upstream": "scripted", "input": {"a": %b}}' % (b"[" * 900 + b"]" * 900)), 400, "200 levels"),
    (posted(b'{"upstream": "%b", "task": "t"}' % (b"x" * 1_000_000)), 400, "no upstream is called"),
    (posted(b'{"upstream": "scripted", "task": "%b"}' % (b"x" * 1_000_000)), 400, "a task id is"),
    (posted(FOLLOW, "Transfer-Encoding: chunked"), 400, "can't be present"),
    (request("POST /v1/jobs HTTP/1.1", JSON, "Content-Length: -1"), 400, "Content-Length"),
    (request("POST /v1/jobs HTTP/1.1", JSON, f"Content-Length: {'9' * 30}"), 400, "Content-Length"),
    (request("POST /v1/jobs HTTP/1.1", JSON, f"Content-Length: {BODY_LIMIT + 1}"), 413, "at most 1,048,576 bytes"),
    (request("POST /v1/jobs HTTP/1.1", JSON, "Transfer-Encoding: gzip"), 400, "Transfer-Encoding"),
    (request("POST /v1/jobs HTTP/1.1", JSON, "Transfer-Encoding: chunked") + b"zz\r\n", 400, "chunk size"),
    (request("POST /v1/jobs HTTP/1.1", "Content-Type: multipart/form-data", body=FOLLOW), 415, "application/json"),
    (request("POST /v1/jobs HTTP/1.1", "Content-Type: \xff;;=", body=FOLLOW), 415, "application/json"),
    (request("POST /v1/jobs HTTP/1.1", body=FOLLOW), 415, "application/json"),
]


@pytest.mark.parametrize(
    ("raw", "status", "detail"), ODD, ids=[f"{n} {raw[:40]!r}" for n, (raw, _, _) in enumerate(ODD)]
)
async def test_an_odd_request_has_one_clear_answer_and_leaves_no_traceback(
    here: Door, raw: bytes, status: int, detail: str
) -> None:
    answered = await here.ask(raw)

    assert answered is not None
    assert answered.status == status
    assert here.failures.counts["failed"] == 0
    if status >= 400 and not raw.startswith(b"HEAD"):
        assert answered.headers["content-type"] == "application/problem+json"
        assert answered.headers["cache-control"] == "no-store"
        problem = json.loads(answered.body)
        assert problem["status"] == status
        assert detail in problem["detail"]
        assert len(problem["detail"]) <= 500
    assert (await here.ask(got("/healthz"))) is not None


@pytest.mark.skipif(aiohttp.__version__ == "3.14.3", reason="this aiohttp closes the connection, or knows no better")
@pytest.mark.parametrize("target", ["http://[::1/healthz", "http://a:99999/healthz", "*", "healthz", "http:", "\\"])
async def test_a_target_that_is_no_url_is_said_to_be_none(here: Door, target: str) -> None:
    answered = await here.ask(got(target))

    assert answered is not None
    assert answered.status == 400
    assert json.loads(answered.body)["detail"] == "this request cannot be read: its target is no URL"


async def test_a_parser_that_fails_is_one_line_and_the_end_of_its_connection(
    here: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(self: RequestHandler, data: bytes) -> None:
        raise ValueError("secret")

    with monkeypatch.context() as patched:
        patched.setattr(RequestHandler, "data_received", fails)
        assert [await here.ask(got("/healthz")) for _ in range(3)] == [None] * 3
    answered = await here.ask(got("/healthz"))

    assert answered is not None
    assert answered.status == 200
    assert caplog.messages == ["a request from a client could not be read: it is no HTTP/1.1"]


async def test_no_more_is_parsed_at_once_than_holds_up_nobody(here: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[int] = []
    receive = Connection.data_received

    def counted(self: Connection, data: bytes) -> None:
        received.append(len(data))
        receive(self, data)

    monkeypatch.setattr(Connection, "data_received", counted)
    body = FOLLOW.ljust(BODY_LIMIT)
    answered = await here.ask(request("POST /v1/jobs HTTP/1.1", JSON, body=body))

    assert answered is not None
    assert answered.status == 201
    assert sum(received) > len(body)
    assert max(received) <= 3 * READ_AT_ONCE


BROKEN_OFF = request("POST /v1/jobs HTTP/1.1", JSON, "Transfer-Encoding: chunked")


async def test_a_body_whose_framing_breaks_is_the_clients_fault(here: Door) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(BROKEN_OFF + b"2\r\n{}\r\n")
    await writer.drain()
    # One that the handler is reading already, or it would be the head's fault.
    assert (await here.ask(got("/healthz"))) is not None
    writer.write(b"no chunk\r\n")

    answered = await read_answer(reader)

    assert answered is not None
    assert answered.status == 400
    assert here.failures.counts["failed"] == 0
    writer.close()


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_trouble(here: Door) -> None:
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(request("POST /v1/jobs HTTP/1.1", JSON, "Content-Length: 100") + b"{")
        await writer.drain()
        assert (await here.ask(got("/healthz"))) is not None
        writer.transport.abort()

    assert (await here.ask(got("/healthz"))) is not None
    assert here.failures.counts == {"malformed": 0, "failed": 0}


async def test_a_body_that_is_refused_is_not_asked_for(here: Door) -> None:
    """A client that expects `100-continue` keeps its body until it is told to go on."""
    head = request("POST /v1/jobs HTTP/1.1", "Expect: 100-continue", "Content-Length: 37", "{}")
    wrong, right = head.replace(b"{}", b"Content-Type: text/plain"), head.replace(b"{}", JSON.encode())
    for sent, line in ((wrong, b"HTTP/1.1 415 Unsupported Media Type\r\n"), (right, b"HTTP/1.1 100 Continue\r\n")):
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(sent)
        assert await reader.readline() == line
        if sent is right:
            writer.write(FOLLOW)
            answered = await read_answer(reader) if await reader.readline() == b"\r\n" else None
            assert answered is not None
            assert answered.status == 201
        writer.close()
        await writer.wait_closed()


async def test_an_embedded_relay_refuses_what_is_encoded_before_it_is_inflated() -> None:
    """aiohttp inflates by itself, where its server is not told otherwise; what it has not been given it cannot."""
    async with serve(a_relay()) as client:
        response = await client.post("/healthz", data=BOMB[:1_000], headers={"Content-Encoding": "gzip"})
        assert response.status == 415
        broken = await client.post("/v1/jobs", data=b"{}", headers={"Content-Encoding": "gzip", **_JSON})
        assert broken.status == 415


_JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost.", 200),
        ("LocalHost.:8080", 200),
        ("localhost:", 200),
        ("[::1]", 200),
        ("[0:0:0:0:0:0:0:1]:8080", 200),
        ("", 200),
        ("localhost.:8080.", 421),
        ("localhost..", 421),
        ("[::2]", 421),
        ("::1", 421),
        ("[127.0.0.1]", 421),
        ("user@localhost", 421),
        ("localhost:port", 421),
        ("\xff", 421),
        ("rebound.example", 421),
    ],
)
async def test_a_host_is_known_in_every_spelling_of_it(host: str, status: int) -> None:
    async with door(a_relay(), hosts={"localhost", "[::1]"}) as found:
        answered = await found.ask(request("GET /healthz HTTP/1.1", host=host))

    assert answered is not None
    assert answered.status == status


@pytest.mark.parametrize(
    ("host", "hosts", "status"),
    [
        ("127.0.0.1:8080", None, 200),
        ("[::1]:8080", None, 200),
        ("192.0.2.1", None, 200),
        ("localhost.", None, 200),
        ("job.localhost:8080", None, 200),
        ("relay:8080", None, 200),
        ("relay.example.org", None, 421),
        ("localhost.example.org", None, 421),
        ("127.0.0.1.example.org", None, 421),
        ("relay.example.org", {"*"}, 200),
        ("relay.example.org.", {"Relay.Example.Org"}, 200),
        ("127.0.0.1", {"relay.example.org"}, 421),
    ],
)
async def test_an_embedded_relay_answers_to_no_name_that_another_site_can_have(
    host: str, hosts: set[str] | None, status: int
) -> None:
    async with serve(a_relay(), hosts=hosts) as client, client.get("/v1/jobs", headers={"Host": host}) as response:
        assert response.status == status


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs",
        "/v1/jobs/job_x",
        "/v1/jobs/job_x/events",
        "/v1/events",
        "/readyz",
        "/metrics",
        "/healthz",
        "/nowhere",
    ],
)
async def test_nothing_about_jobs_is_kept_by_a_cache(path: str) -> None:
    async with serve(a_relay()) as client, client.get(path, headers={"Accept": "application/json"}) as response:
        assert response.headers["Cache-Control"] == "no-store"


async def test_the_page_may_be_kept_and_is_asked_for_anew() -> None:
    async with serve(a_relay()) as client:
        for path, kind in (
            ("/", "text/html"),
            ("/static/relay.js", "text/javascript"),
            ("/static/style.css", "text/css"),
        ):
            first = await client.get(path)
            again = await client.get(path, headers={"If-None-Match": f'W/"a", {first.headers["ETag"]}'})
            other = await client.get(path, headers={"If-None-Match": '"a"'})

            assert [response.status for response in (first, again, other)] == [200, 304, 200]
            assert {response.headers["Cache-Control"] for response in (first, again, other)} == {"no-cache"}
            assert first.content_type == kind
            assert await first.read() == await other.read() != b""
            assert await again.read() == b""


async def test_a_fault_of_ours_is_one_line_with_its_place_and_without_its_text(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Relay) -> None:
        raise ValueError("secret")

    monkeypatch.setattr(Relay, "jobs", breaks)
    async with door(a_relay()) as found:
        answers = [await found.ask(got("/v1/jobs?token=secret")) for _ in range(100)]

    answered = answers[-1]
    assert answered is not None
    assert (answered.status, answered.headers["cache-control"]) == (500, "no-store")
    assert json.loads(answered.body)["detail"] == "the relay failed; its log says why"
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.getMessage().startswith("a request to /v1/jobs could not be answered: ValueError in breaks, line ")
    assert line.exc_info is None
    assert "secret" not in caplog.text
    assert found.failures.counts["failed"] == 100


class PanicError(BaseException):
    """What an extension in another language raises when it gives up."""


async def test_not_even_a_panic_of_a_handler_is_a_traceback(
    here: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(self: Relay) -> None:
        raise PanicError("secret")

    with monkeypatch.context() as patched:
        patched.setattr(Relay, "jobs", breaks)
        answered = await here.ask(got("/v1/jobs"))

    assert answered is not None
    assert answered.status == 500
    assert "secret" not in caplog.text
    assert here.failures.counts["failed"] == 1


async def test_a_stream_that_fails_is_one_line_and_is_counted(
    here: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = asyncio.Event()

    async def breaks(self: StreamSession) -> bool:
        failed.set()
        raise ValueError("secret")

    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    writer.write(got("/v1/events"))
    await reader.readuntil(b"\r\n\r\n")
    (stream,) = here.streams
    monkeypatch.setattr(StreamSession, "serve", breaks)
    stream.wake()
    await failed.wait()
    with suppress(ConnectionError):
        await reader.read()
    writer.close()

    (line,) = caplog.messages
    assert line.startswith("a stream could not be served: ValueError in breaks, line ")
    assert here.failures.counts["failed"] == 1


async def test_a_journal_that_cannot_be_used_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(self: Relay) -> None:
        raise JournalError("the journal is gone")

    monkeypatch.setattr(Relay, "jobs", breaks)
    async with door(a_relay()) as found:
        answered = await found.ask(got("/v1/jobs"))

    assert answered is not None
    assert (answered.status, json.loads(answered.body)["detail"]) == (503, "the journal is gone")


async def test_a_fault_outside_of_the_relays_routes_is_one_line_too(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(_: Request) -> Response:
        raise ValueError("secret")

    outer = Application()
    outer.router.add_get("/other", breaks)
    outer.add_subapp("/relay", create_app(a_relay()))
    async with serving(outer, "127.0.0.1", 0) as address, ClientSession() as client:
        response = await client.get(f"{address}/other")
        assert (response.status, response.content_type) == (500, "application/problem+json")

    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.exc_info is None
    assert "ValueError in breaks" in line.getMessage()


async def test_heads_that_cannot_be_read_are_one_line_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with door(a_relay()) as found:
        for _ in range(200):
            await found.ask(got("/", f"Authorization: Bearer {'s3cret' * 2_000}"))
        figures = await found.ask(got("/metrics"))

    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line == "a request from 127.0.0.1 could not be read: its address or a header is too long"
    assert figures is not None
    assert b'relay_http_troubles_total{kind="malformed"} 200.0\n' in figures.body
    assert b'relay_http_troubles_total{kind="failed"} 0.0\n' in figures.body


class Unfinished:
    """A connection that sends the head of a request, and never its end."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def at(cls, found: Door) -> "Unfinished":
        return cls(*await asyncio.open_connection("127.0.0.1", found.port))

    async def sends(self, data: bytes) -> bool:
        """Send, and whether the connection is still there."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            return False
        return True

    async def is_cut(self) -> bool:
        try:
            return await self._reader.read(1) == b""
        except ConnectionError:
            return True

    async def is_answered(self, rest: bytes) -> bool:
        answered = await read_answer(self._reader) if await self.sends(rest) else None
        return answered is not None and answered.status == 200

    def close(self) -> None:
        self._writer.transport.abort()


LONG_FIELDS = b"".join(b"X-%03d: %b\r\n" % (n, b"a" * 8_000) for n in range(100))


@pytest.mark.parametrize("before", [b"", got("/healthz")], ids=["the first", "behind another request"])
async def test_unfinished_heads_share_a_room_and_the_largest_gives_way(before: bytes) -> None:
    async with door(a_relay()) as found:
        small = await Unfinished.at(found)
        assert await small.sends(before + got("/healthz")[:-2])
        large = [await Unfinished.at(found) for _ in range(2 * HEADS_LIMIT // len(LONG_FIELDS))]
        sent = [await one.sends(before + got("/healthz")[:-2] + LONG_FIELDS) for one in large]
        # What was sent is taken a little at each turn of the loop.
        while found.failures.counts["malformed"] * len(LONG_FIELDS) < HEADS_LIMIT * 0.9:
            assert (await found.ask(got("/healthz"))) is not None

        # Those that are left have room, and so has whoever comes now.
        assert all(sent[:5])
        assert (await found.ask(got("/healthz"))) is not None
        for one in [small, *large]:
            one.close()


async def test_bodies_share_a_room_and_the_largest_gives_way(caplog: pytest.LogCaptureFixture) -> None:
    head = request("POST /v1/jobs HTTP/1.1", JSON, f"Content-Length: {BODY_LIMIT}")
    async with door(a_relay()) as found:
        small = await asyncio.open_connection("127.0.0.1", found.port)
        small[1].write(request("POST /v1/jobs HTTP/1.1", JSON, f"Content-Length: {len(FOLLOW)}") + FOLLOW[:5])
        large = []
        for _ in range(BODIES_LIMIT // BODY_LIMIT + 2):
            reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
            writer.write(head + b" " * (BODY_LIMIT - 1))
            await writer.drain()
            large.append((reader, writer))

        refused = await asyncio.wait_for(_first_answer([reader for reader, _ in large]), 60)
        small[1].write(FOLLOW[5:])
        answered = await read_answer(small[0])

        assert refused == (503, "too many large bodies arrive at one time")
        assert answered is not None
        assert answered.status == 201
        for _, writer in [small, *large]:
            writer.transport.abort()


async def _first_answer(readers: list[StreamReader]) -> tuple[int, str]:
    waiting = [asyncio.create_task(read_answer(reader)) for reader in readers]
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    answered = next(iter(done)).result()
    assert answered is not None
    return answered.status, json.loads(answered.body)["detail"]


async def test_the_relay_of_an_application_is_the_one_it_was_made_with() -> None:
    relay = a_relay()
    app = create_app(relay)
    async with serve_app(app) as client:
        assert (await client.get("/readyz")).status == 200
        assert app[RELAY] is relay
