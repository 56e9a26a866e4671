"""An answer that is read without a parser is as aiohttp's parser would have read it; the unusual is left to it."""

import asyncio
from typing import Any, Final, cast

import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.upstreams.http.client import HttpClient
from relay.upstreams.http.first_piece import FirstPiece
from relay.upstreams.http.whole_answer import whole_answer
from tests.upstreams.http.test_pooled_get import Connection, serving
from tests.upstreams.stub import reply

LIMIT: Final = 1_000

STATUS_LINES: Final = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200 Fine, really", b"HTTP/1.1 200", b"HTTP/1.0 200 OK"),
    *(
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 503 Busy",
        b"HTTP/1.1 100 Continue",
        b"HTTP/2 200 OK",
        b" HTTP/1.1 200 OK",
    ),
    b"HTTP/1.1 200 \xff",
)
FIELDS: Final = (
    *(b"Content-Length: 2", b"content-length: 2", b"Content-Length: 02", b"Content-Length: 3", b"Content-Length: 2 "),
    *(b"Content-Length: +2", b"Content-Length: 2, 2", b"Content-Length : 2", b"Content-Length:2", b"Content-Length: "),
    *(b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Connection: close", b"Connection: keep-alive"),
    *(b"Connection: keep-alive, close", b"connection: Keep-Alive", b"Upgrade: h2c", b"Trailer: X-Sum"),
    *(b"Retry-After: 7", b"retry-after: 7  ", b"Retry-After:\t7", b"X-Long: " + b"a" * 5_000, b"X-Text: \xc3\xbc"),
    *(b"Set-Cookie: a=b", b"Set-Cookie: c=d", b" folded: line", b"X-Zero: \0", b"X Y: z", b"X-Cut: a\rb", b": none"),
    *(b"X_Under: score", b"Date: Mon, 23 Nov 2026 20:00:00 GMT", b"Content-Type: application/json", b"nothing"),
    *(b"Keep-Alive: timeout=5", b"Content-Length: 2\nX: y"),
)
BODIES: Final = (b"{}", b"", b"{", b"{}\r\n", b"[]HTTP/1.1 200 OK\r\n\r\n", b"\r\n", b"2\r\n{}\r\n0\r\n\r\n")


def parsed(data: bytes) -> tuple[int, list[tuple[str, str]], bytes, bool]:
    """The answer that aiohttp's protocol makes of *data*."""

    async def read() -> tuple[int, list[tuple[str, str]], bytes, bool]:
        handler = ResponseHandler(asyncio.get_running_loop())
        handler.set_response_params(read_until_eof=True)
        handler.data_received(data)
        message, payload = await handler.read()
        assert payload.is_eof()
        return message.code, list(message.headers.items()), payload.read_nowait(), handler.should_close

    return asyncio.run(read())


def held_alike(data: bytes) -> None:
    """Whatever is read as a whole answer is what aiohttp reads."""
    if (answer := whole_answer(data, LIMIT)) is None:
        return
    code, headers, body, closes = parsed(data)
    assert (code, body, closes) == (200, answer.body, False)
    assert [(name.lower(), value) for name, value in answer.headers.items()] == [(n.lower(), v) for n, v in headers]
    assert all(answer.headers.get(name.swapcase()) == value for name, value in headers)


@given(
    status=st.sampled_from(STATUS_LINES[:3]) | st.sampled_from(STATUS_LINES),
    fields=st.lists(st.sampled_from(FIELDS[-7:]) | st.sampled_from(FIELDS), max_size=6),
    length=st.sampled_from(FIELDS[:2]) | st.sampled_from(FIELDS[:10]),
    body=st.sampled_from(BODIES[:2]) | st.sampled_from(BODIES),
)
@settings(max_examples=400, deadline=None)
def test_an_answer_is_read_as_the_parser_reads_it_or_left_to_it(
    status: bytes, fields: list[bytes], length: bytes, body: bytes
) -> None:
    held_alike(b"\r\n".join((status, *fields, length, b"", body)))


@given(at=st.integers(0, 200), change=st.binary(max_size=3), width=st.integers(0, 3))
@settings(max_examples=400, deadline=None)
def test_an_answer_with_a_few_bytes_changed_is_read_as_the_parser_reads_it(at: int, change: bytes, width: int) -> None:
    data = reply('{"status": "RUNNING"}', connection="keep-alive", x_request_id="0123", retry_after="7")
    held_alike(data[:at] + change + data[at + width :])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(reply("[]", "201 Created"), id="another status"),
        pytest.param(reply("[]", connection="keep-alive").replace(b"/1.1", b"/1.0"), id="an older version"),
        pytest.param(reply("[]")[:-1], id="less than an answer"),
        pytest.param(reply("[]") + b"[", id="more than an answer"),
        pytest.param(reply("[]", connection="close"), id="the last of its connection"),
        pytest.param(reply("[]", content_encoding="gzip"), id="compressed"),
        pytest.param(reply("[]", transfer_encoding="chunked"), id="in chunks"),
        pytest.param(reply("[" + " " * LIMIT + "]"), id="too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n[]", id="two lengths"),
        pytest.param(reply("[]", x_long="a" * 5_000), id="a long head"),
        pytest.param(reply("[]", **{f"x{number}": "a" for number in range(70)}), id="many headers"),
    ],
)
def test_what_is_not_a_plain_answer_is_left_to_the_parser(data: bytes) -> None:
    assert whole_answer(data, LIMIT) is None


def test_a_plain_answer_is_read_with_its_headers() -> None:
    answer = whole_answer(reply("[]", retry_after="7 ", connection="keep-alive"), LIMIT)

    assert answer is not None
    assert answer.body == b"[]"
    assert dict(answer.headers) == {
        "Content-Type": "application/json",
        "Content-Length": "2",
        "Retry-After": "7",
        "Connection": "keep-alive",
    }
    assert (answer.headers.get("RETRY-after"), answer.headers.get("Link", "none")) == ("7", "none")
    assert ("retry-after" in answer.headers, "link" in answer.headers, len(answer.headers)) == (True, False, 4)
    with pytest.raises(KeyError):
        answer.headers["link"]


def test_a_body_may_be_as_long_as_the_limit() -> None:
    body = '"' + "a" * (LIMIT - 2) + '"'
    answer = whole_answer(reply(body), LIMIT)

    assert answer is not None
    assert answer.body == body.encode()


class Ends:
    """Both ends of a `FirstPiece`: a transport, and the protocol of aiohttp."""

    def __init__(self) -> None:
        self.protocols: list[object] = []
        self.came: list[bytes] = []

    def set_protocol(self, protocol: object) -> None:
        self.protocols.append(protocol)

    def data_received(self, data: bytes) -> None:
        self.came.append(data)


async def test_an_answer_to_a_request_that_was_given_up_is_left_to_the_parser() -> None:
    """Its connection is about to be closed: nobody waits for what comes until then."""
    ends = Ends()
    both = cast(Any, ends)
    first = FirstPiece(both, both, LIMIT)
    first.answer.cancel()
    first.data_received(reply("[]"))

    assert (ends.came, ends.protocols) == ([reply("[]")], [first, ends])


@pytest.mark.parametrize("pieces", [1, 2])
async def test_an_answer_is_the_same_in_one_piece_and_in_two(pieces: int) -> None:
    answer = reply('{"a": 1}', retry_after="7")

    def serve(connection: Connection, _: bytes) -> None:
        cut = len(answer) - 3 if pieces == 2 else len(answer)
        connection.transport.write(answer[:cut])
        asyncio.get_running_loop().call_later(0.0, connection.transport.write, answer[cut:])

    seen: list[Any] = []
    async with serving(serve) as server, HttpClient(server.url, upstream="test") as http:
        for _ in range(2):
            got = await http.request("GET", "a", on_exchange=seen.append)
            assert (got.status, got.json(), got.poll_after, got.headers["retry-after"]) == (200, {"a": 1}, 7.0, "7")
    assert [connection.asked for connection in server.connections] == [2]
    assert all("Retry-After: 7" in each.response for each in seen)
