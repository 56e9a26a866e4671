"""The HTTP helper gives a whole answer within limits or one typed error, and lets no secret out."""

import asyncio
import gzip
import json
import socket
import traceback
import tracemalloc
from collections.abc import Awaitable
from datetime import timedelta
from email.utils import format_datetime

import msgspec
import pytest

from relay.errors import UpstreamError, UsageError
from relay.events import Exchange
from relay.testing import ManualClock
from relay.upstreams.http import transport
from relay.upstreams.http.client import BODY_LIMIT, HttpClient
from relay.upstreams.reading.values import DEPTH_LIMIT
from tests.upstreams.stub import Stub, reply

CANARY = "canary-7Q/+=token"


@pytest.fixture(params=["quick", "session"], autouse=True)
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to ask keeps each promise here."""
    if request.param == "session":
        monkeypatch.setattr(transport, "quick_gets", lambda *_: None)


async def ask(url: str, *, within: float = 30.0) -> object:
    async with HttpClient(url, "token", upstream="test", timeout=within, clock=ManualClock()) as http:
        return (await http.request("GET", "jobs")).json()


async def failure(*replies: bytes | None, within: float = 30.0) -> UpstreamError:
    async with Stub(*replies) as stub:
        with pytest.raises(UpstreamError) as caught:
            await ask(stub.url, within=within)
    return caught.value


async def outcome(request: Awaitable[object]) -> UpstreamError | None:
    try:
        await request
    except UpstreamError as error:
        return error
    return None


def said(error: UpstreamError) -> tuple[str, str]:
    return error.kind, str(error)


async def test_a_request_carries_the_token_and_the_json_and_joins_the_path_to_the_base() -> None:
    async with (
        Stub(reply('{"id": "a"}', status="201 Created")) as stub,
        HttpClient(f"{stub.url}/backend/", "token", upstream="test") as http,
    ):
        answer = await http.request("POST", "nf/create?a=1", json={"prompt": "ü"})
    head, _, body = stub.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /backend/nf/create?a=1 HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer token\r\n" in head
    assert (json.loads(body), answer.status, answer.json()) == ({"prompt": "ü"}, 201, {"id": "a"})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", "refused"),
        ("401 Unauthorized", "auth"),
        ("403 Forbidden", "auth"),
        ("404 Not Found", "not-found"),
        ("408 Request Timeout", "timeout"),
        ("409 Conflict", "server"),
        ("410 Gone", "not-found"),
        ("425 Too Early", "server"),
        ("429 Too Many Requests", "rate-limit"),
        ("500 Internal Server Error", "server"),
        ("503 Service Unavailable", "server"),
    ],
)
async def test_each_status_has_its_kind_and_the_upstreams_own_words(status: str, kind: str) -> None:
    body = '{"error": {"message": "it is so", "code": "because"}}'
    assert said(await failure(reply(body, status))) == (kind, f"the upstream answered {status[:3]}: it is so")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": null, "code": "heavy_load"}}', ": heavy_load"),
        ('{"error": "no credit"}', ": no credit"),
        ('{"message": "no credit"}', ": no credit"),
        ('{"detail": "no credit"}', ": no credit"),
        ('{"error": {"message": "two\\nlines\\u001b[2J"}}', ": two\\nlines\\x1b[2J"),
        ("<!DOCTYPE html><html>Just a moment", ": an HTML page"),
        ("plain text", ""),
        ("", ""),
        ("[" * 5000, ""),
    ],
)
async def test_the_words_are_found_in_any_usual_form_and_made_inert(body: str, words: str) -> None:
    assert said(await failure(reply(body, "400 Bad Request"))) == ("refused", f"the upstream answered 400{words}")


async def test_the_words_of_the_upstream_are_kept_short() -> None:
    error = await failure(reply(json.dumps({"message": "x" * 5000}), "500 Oops"))
    assert len(str(error)) < 250
    assert str(error).endswith("... [5,000 characters in all]")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "304 Not Modified", "307 Temporary Redirect"])
async def test_a_redirect_is_refused_and_not_followed(status: str) -> None:
    async with Stub(reply("[]")) as target, Stub(reply("", status, location=target.url)) as stub:
        with pytest.raises(UpstreamError) as caught:
            await ask(stub.url)
    message = f"the upstream answered {status[:3]}, a redirect, which is not followed; set base_url to where it leads"
    assert (said(caught.value), target.requests) == (("refused", message), [])


def http_date(offset: float) -> str:
    return format_datetime(ManualClock().now() + timedelta(seconds=offset), usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5.0),
        ("1.5", 1.5),
        ("0", 0.2),
        ("86400", 60.0),
        ("9" * 400, 60.0),
        (http_date(20), 20.0),
        (http_date(-3600), 0.2),
        (http_date(86400), 60.0),
        ("Thu, 01 Jan 2026 00:00:07 -0000", 7.0),
        ("-5", None),
        ("nan", None),
        ("soon", None),
        ("Thu, 99 Jan 2026 00:00:07 GMT", None),
        (f"Thu, 01 Jan {'9' * 20} 00:00:07 GMT", None),
        ("", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date_and_is_clamped(header: str, seconds: float | None) -> None:
    for status in ("429 Too Many Requests", "503 Service Unavailable"):
        assert (await failure(reply("{}", status, retry_after=header))).retry_after == seconds


async def test_a_limited_answer_without_retry_after_names_no_time() -> None:
    assert (await failure(reply("{}", "429 Too Many Requests"))).retry_after is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "the answer is empty; JSON was expected"),
        (" \n", "the answer is empty; JSON was expected"),
        ("<html><body>hello", "the answer is an HTML page; JSON was expected"),
        ('{"a": ', "the answer is not JSON; JSON was expected"),
        ("hello", "the answer is not JSON; JSON was expected"),
        ("[] []", "the answer is not JSON; JSON was expected"),
    ],
)
async def test_a_body_that_is_no_json_is_malformed(body: str, message: str) -> None:
    assert said(await failure(reply(body))) == ("malformed", message)


async def test_json_is_read_with_a_byte_order_mark_and_with_broken_characters() -> None:
    async with Stub(reply(b'\xef\xbb\xbf["\xff", "ok"]')) as stub:
        assert await ask(stub.url) == ["�", "ok"]


async def test_figures_that_json_forbids_do_not_cost_the_rest_of_the_answer() -> None:
    async with Stub(reply("[NaN, -Infinity, 1e999, 0.29, " + "7" * 5000 + "]")) as stub:
        answer = await ask(stub.url)
    assert isinstance(answer, list)
    assert [getattr(value, "wire", value) for value in answer] == ["NaN", "-Infinity", "1e999", 0.29, "7" * 5000]


def nested(levels: int) -> str:
    return '{"a":[' * (levels // 2) + "[" * (levels % 2) + "]" * (levels % 2) + "]}" * (levels // 2)


async def test_json_may_nest_as_deep_as_the_limit() -> None:
    async with Stub(reply(nested(DEPTH_LIMIT))) as stub:
        assert await ask(stub.url) == json.loads(nested(DEPTH_LIMIT))


@pytest.mark.parametrize("levels", [DEPTH_LIMIT + 1, 990, 100_000])
async def test_json_that_nests_deeper_is_malformed(levels: int) -> None:
    assert said(await failure(reply(nested(levels)))) == ("malformed", "the answer nests deeper than 32 levels")


def text_of(size: int) -> bytes:
    return b'"' + b"a" * (size - 2) + b'"'


async def test_an_answer_may_be_as_long_as_the_limit() -> None:
    async with Stub(reply(text_of(BODY_LIMIT))) as stub:
        assert await ask(stub.url) == "a" * (BODY_LIMIT - 2)


async def test_one_byte_more_is_malformed() -> None:
    error = await failure(reply(text_of(BODY_LIMIT + 1)))
    assert said(error) == ("malformed", "the answer is longer than 1,048,576 bytes")


async def test_an_endless_answer_is_left_at_the_limit() -> None:
    """The server says 500 MB and sends 4: the client is gone long before the rest could come."""
    error = await failure(reply(text_of(4 * BODY_LIMIT), content_length="500000000"))
    assert said(error) == ("malformed", "the answer is longer than 1,048,576 bytes")


async def test_a_gzip_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(text_of(64 * BODY_LIMIT), 9)
    async with Stub(reply(bomb, content_encoding="gzip")) as stub:
        tracemalloc.start()
        try:
            with pytest.raises(UpstreamError, match="longer than") as caught:
                await ask(stub.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert caught.value.kind == "malformed"
    assert peak < 8 * BODY_LIMIT, "the limit counts bytes after decompression, and memory keeps to it"


async def test_a_compressed_answer_is_read() -> None:
    async with Stub(reply(gzip.compress(b'["a"]'), content_encoding="gzip")) as stub:
        assert await ask(stub.url) == ["a"]


async def test_what_is_not_compressed_as_it_says_is_malformed() -> None:
    error = await failure(reply('["a"]', content_encoding="gzip"))
    assert (error.kind, "not compressed as it says" in str(error)) == ("malformed", True)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (reply("[1, 2", content_length="100"), "network", "broke off before its end"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n[1, 2", "network", "broke off before its end"),
        (b"", "network", "closed the connection without a whole answer"),
        (b"HTTP/1.1 200", "network", "closed the connection without a whole answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed", "is not valid HTTP"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n[]\r\n0\r\n\r\n",
            "malformed",
            "is not valid HTTP",
        ),
        (b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 20_000 + b"\r\n\r\n[]", "malformed", "is not valid HTTP"),
    ],
)
async def test_an_answer_that_breaks_off_or_is_no_http_is_a_typed_error(answer: bytes, kind: str, words: str) -> None:
    error = await failure(answer)
    assert (error.kind, words in str(error)) == (kind, True), str(error)


async def test_a_server_that_never_answers_is_a_timeout() -> None:
    error = await failure(None, within=0.02)
    assert error.kind == "timeout"
    assert str(error).endswith("within 0.02 s")


async def test_a_server_that_stops_in_the_middle_is_a_timeout() -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(reply("[1, 2", content_length="100"))
            await held.wait()
        finally:
            writer.close()

    held = asyncio.Event()
    async with await asyncio.start_server(half, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamError) as caught:
            await ask(f"http://127.0.0.1:{port}", within=0.05)
        held.set()
    assert caught.value.kind == "timeout"


async def test_a_refused_connection_is_a_network_error_that_says_where() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port, and nobody answers there
        port = taken.getsockname()[1]
        with pytest.raises(UpstreamError) as caught:
            await ask(f"http://127.0.0.1:{port}")
    assert said(caught.value) == (
        "network",
        f"no connection to 127.0.0.1:{port}; check that it runs at this address",
    )


async def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async with Stub(None) as stub, HttpClient(stub.url, upstream="test") as http:
        asking = asyncio.create_task(http.request("GET", "jobs"))
        await stub.asked.wait()
        before = asyncio.all_tasks()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert asyncio.all_tasks() <= before - {asking}


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(UsageError, match="not open; enter it"):
        await HttpClient("http://127.0.0.1:1", upstream="test").request("GET", "jobs")


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "gateway:8000",
        "ftp://gateway",
        "http://",
        "http://user:secret@gateway",
        "http://gateway/?key=1",
        "http://[::1",
    ],
)
def test_a_base_url_that_is_none_is_refused_without_repeating_it(base_url: str) -> None:
    with pytest.raises(UsageError, match="base_url must") as caught:
        HttpClient(base_url, upstream="test")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "two words", f"{CANARY}\n", f"{CANARY}\r\nX: y", f"{CANARY}ü"])
def test_a_token_that_no_header_can_hold_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(UsageError, match="printable ASCII") as caught:
        HttpClient("http://gateway", token, upstream="test")
    assert CANARY not in repr(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": float("nan")}, "cannot be written as JSON"),
        ({"a": object()}, "cannot be written as JSON"),
        ("a" * BODY_LIMIT, "longer than 1,048,576 bytes"),
    ],
)
async def test_input_that_json_cannot_hold_is_the_callers_error(value: object, words: str) -> None:
    async with Stub(reply("[]")) as stub, HttpClient(stub.url, upstream="test") as http:
        with pytest.raises(UsageError, match=words):
            await http.request("POST", "jobs", json=value)
    assert stub.requests == []


async def exchange_of(answer: bytes | None, **request: object) -> Exchange:
    heard: list[Exchange] = []
    async with Stub(answer) as stub:
        patience = 0.05 if answer is None else 60.0
        client = HttpClient(stub.url, CANARY, upstream="test", timeout=patience, clock=ManualClock())
        async with client as http:
            await outcome(http.request("POST", "jobs", jobs=["job-1"], json=request or None, on_exchange=heard.append))
    (exchange,) = heard
    return msgspec.structs.replace(exchange, url=exchange.url.removeprefix(stub.url))


async def test_each_exchange_is_told_whole() -> None:
    exchange = await exchange_of(reply('{"id": "a"}', set_cookie="session=1"), prompt="a cat")
    assert exchange == Exchange(
        jobs=("job-1",),
        upstream="test",
        method="POST",
        url="/jobs",
        status=200,
        seconds=0.0,
        request="Accept: application/json\nUser-Agent: progress-relay\nAuthorization: ***\n"
        'Content-Type: application/json\n\n{"prompt": "a cat"}',
        response="Content-Type: application/json\nContent-Length: 11\nSet-Cookie: ***\n\n" + '{"id": "a"}',
        at=ManualClock().now(),
    )


async def test_an_exchange_without_an_answer_is_told_too() -> None:
    exchange = await exchange_of(None)
    assert (exchange.status, exchange.response) == (None, "")


async def test_an_exchange_is_bounded() -> None:
    exchange = await exchange_of(reply(text_of(100_000)), prompt="b" * 100_000)
    assert len(exchange.request) <= 4096
    assert len(exchange.response) <= 4096


LEAKS = {
    "error message": reply(json.dumps({"error": {"message": f"bad token {CANARY}"}}), "401 Unauthorized"),
    "percent-encoded": reply(json.dumps({"message": "bad token canary-7Q%2F%2B%3Dtoken"}), "401 Unauthorized"),
    "body": reply(json.dumps([f"Bearer {CANARY}"])),
    "body, at the cut": reply(json.dumps(["x" * 8150, CANARY * 20])),
    "header": reply("[]", x_echo=f"Bearer {CANARY}"),
    "redirect": reply("", "302 Found", location=f"http://elsewhere/{CANARY}"),
    "not JSON": reply(CANARY),
    "bad status line": f"HTTP/9 {CANARY}\r\n\r\n".encode(),
    "bad header": f"HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n".encode(),
    "truncated": reply(CANARY, content_length="500"),
}


@pytest.mark.parametrize("leak", LEAKS)
async def test_the_token_is_in_no_exception_and_no_exchange_whatever_is_answered(leak: str) -> None:
    async def ask(http: HttpClient) -> object:
        request = http.request("GET", f"jobs?access_token={CANARY}", json={"told": CANARY}, on_exchange=heard.append)
        return (await request).json()

    heard: list[Exchange] = []
    async with Stub(LEAKS[leak]) as stub, HttpClient(stub.url, CANARY, upstream="test") as http:
        error = await outcome(ask(http))
        printed = [repr(http), repr(heard), msgspec.json.encode(heard).decode()]
    if error is not None:
        printed += [*traceback.format_exception(error), repr(error), repr(vars(error))]
        assert (error.__cause__, error.__context__) == (None, None), "aiohttp's errors hold the request's headers"
    assert len(heard) == 1
    assert f"Bearer {CANARY}".encode() in stub.requests[0], "the canary was sent, or else this shows nothing"
    assert [text for text in printed if "canary" in text] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://v/a.mp4?se=2026&sp=r&sig=abc%2Bd", "https://v/a.mp4?se=***&sp=r&sig=***"),
        ("https://v/a?X-Amz-Signature=abc&X-Amz-Date=1&w=2", "https://v/a?X-Amz-Signature=***&X-Amz-Date=***&w=2"),
        ("https://v/a?x-goog-signature=abc", "https://v/a?x-goog-signature=***"),
        ("https://v/a?Expires=1&Signature=b&Key-Pair-Id=c", "https://v/a?Expires=***&Signature=***&Key-Pair-Id=***"),
        ('{"url": "https://v/a?w=1\\u0026sig=abc\\u0026h=2"}', '{"url": "https://v/a?w=1\\u0026sig=***\\u0026h=2"}'),
        ("https://p/?u=https%3A%2F%2Fv%3Fsig%3Dabc%26h%3D2", "https://p/?u=https%3A%2F%2Fv%3Fsig%3D***%26h%3D2"),
        ("<a href='https://v/a?w=1&amp;sig=abc'>", "<a href='https://v/a?w=1&amp;sig=***'>"),
        ('{"access_token": "abc\\"d", "name": "n"}', '{"access_token": "***", "name": "n"}'),
        ("nothing to hide: design=1, a significant=2", "nothing to hide: design=1, a significant=2"),
    ],
)
def test_what_signs_a_url_or_is_named_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert HttpClient("http://gateway", "unused-token", upstream="test").redactor(text) == shown
