"""A GET over a kept connection is the one aiohttp's session would have made, and no answer is taken for another."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any, cast

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import UpstreamError
from relay.upstreams.http import transport
from relay.upstreams.http.client import HttpClient
from relay.upstreams.http.pooled_get import quick_gets
from tests.upstreams.stub import Stub, reply

Serve = Callable[["Connection", bytes], None]


class Connection(asyncio.Protocol):
    """One connection of the server: hands each request's head to *serve*."""

    transport: asyncio.Transport

    def __init__(self, serve: Serve, number: int) -> None:
        self._serve = serve
        self._read = b""
        self.number = number
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of uvloop is one without being a subclass.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            self.asked += 1
            self._serve(self, head)


class Server:
    url: str

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    def connect(self, serve: Serve) -> Connection:
        self.connections.append(Connection(serve, len(self.connections)))
        return self.connections[-1]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncGenerator[Server]:
    server = Server()
    listening = await asyncio.get_running_loop().create_server(lambda: server.connect(serve), "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for connection in server.connections:
            connection.transport.abort()
        await listening.wait_closed()


@asynccontextmanager
async def asking(url: str, *, within: float = 30.0) -> AsyncGenerator[Callable[[str], Any]]:
    async with HttpClient(url, "token", upstream="test", timeout=within) as http:

        async def ask(path: str) -> object:
            return (await http.request("GET", path)).json()

        yield ask


def target(head: bytes) -> str:
    return head.split(b" ", 2)[1].decode()


def echo(connection: Connection, head: bytes) -> None:
    connection.transport.write(reply(f'"{target(head)}"'))


@pytest.mark.parametrize(
    "path",
    [
        *(
            "tasks/a",
            "tasks/a%2Fb?x=1&y=%20",
            "tasks/\u00fc/../b c?q=\u00e9#part",
            "",
            "a//b?",
            "a/./b",
            "a/..",
            "../a",
        ),
        *(".well-known/a", "a..b/c.d", "a~b/C_d-9", "a/b/", "a:b/@c", "a%7Eb", "a\u00b2", "a/..."),
    ],
)
async def test_the_request_is_byte_for_byte_that_of_the_session(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stub(reply("[]")) as stub:
        for _ in range(2):
            async with HttpClient(f"{stub.url}/base", "token", upstream="test", headers={"X-Version": "1"}) as http:
                await http.request("GET", path)
                await http.request("GET", path, headers={"X-Version": "2", "X-More": "\u00fc"})
            monkeypatch.setattr(transport, "quick_gets", lambda *_: None)
    assert stub.requests[:2] == stub.requests[2:]
    assert len(set(stub.requests)) == 2


async def test_one_connection_serves_request_after_request() -> None:
    async with serving(echo) as server, asking(server.url) as ask:
        assert [await ask(path) for path in ("a", "b", "c")] == ["/a", "/b", "/c"]
    assert [connection.asked for connection in server.connections] == [3]


async def test_requests_at_once_get_each_its_own_answer() -> None:
    async with serving(echo) as server, asking(server.url) as ask:
        paths = [f"{number}" for number in range(150)]
        assert await asyncio.gather(*map(ask, paths)) == [f"/{path}" for path in paths]
    assert len(server.connections) <= 100


async def test_a_connection_that_the_server_will_close_is_not_used_again() -> None:
    def serve(connection: Connection, _: bytes) -> None:
        connection.transport.write(reply("[]", connection="close"))

    async with serving(serve) as server, asking(server.url) as ask:
        assert [await ask("a"), await ask("b")] == [[], []]
    assert [connection.asked for connection in server.connections] == [1, 1]


async def test_a_kept_connection_that_was_closed_as_it_was_used_costs_no_poll() -> None:
    def serve(connection: Connection, head: bytes) -> None:
        if connection.asked == 2:
            connection.transport.abort()
        else:
            echo(connection, head)

    async with serving(serve) as server, asking(server.url) as ask:
        assert [await ask("a"), await ask("b")] == ["/a", "/b"]
    assert [connection.asked for connection in server.connections] == [2, 1]


async def test_a_connection_that_is_reset_ends_the_request_at_once() -> None:
    """It ends without an end of what is read, which comes first where a server just closes it."""
    asked: list[int] = []

    def serve(connection: Connection, head: bytes) -> None:
        asked.append(connection.number)
        if target(head) == "/b":
            connection.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
            connection.transport.abort()
        else:
            echo(connection, head)

    async with serving(serve) as server, asking(server.url) as ask:
        assert await ask("a") == "/a"
        with pytest.raises(UpstreamError) as raised:
            await ask("b")
        assert (raised.value.kind, asked) == ("network", [0, 0, 1])
        assert await ask("c") == "/c"


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    def serve(connection: Connection, _: bytes) -> None:
        connection.transport.write(b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}')
        connection.transport.close()

    async with serving(serve) as server, asking(server.url) as ask:
        assert [await ask("a"), await ask("b")] == [{"a": 1}, {"a": 1}]
    assert [connection.asked for connection in server.connections] == [1, 1]


async def test_a_server_that_always_closes_is_asked_twice_and_no_more() -> None:
    async with serving(lambda connection, _: connection.transport.abort()) as server, asking(server.url) as ask:
        with pytest.raises(UpstreamError, match="closed the connection without a whole answer"):
            await ask("a")
    assert [connection.asked for connection in server.connections] == [1, 1]


@pytest.mark.parametrize("lane", ["quick", "session"])
async def test_what_nobody_asked_for_is_not_taken_for_the_next_answer(
    lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lane == "session":
        monkeypatch.setattr(transport, "quick_gets", lambda *_: None)

    def serve(connection: Connection, head: bytes) -> None:
        echo(connection, head)
        if connection.number == 0:
            connection.transport.write(reply('"smuggled"'))

    async with serving(serve) as server, asking(server.url) as ask:
        assert [await ask("a"), await ask("b")] == ["/a", "/b"]


async def test_what_comes_on_an_idle_connection_is_not_taken_for_the_next_answer() -> None:
    async with serving(echo) as server, asking(server.url) as ask:
        assert await ask("a") == "/a"
        server.connections[0].transport.write(reply('"unasked"'))
        async with asking(server.url) as another:
            # By the time of this answer, what was sent before it has come.
            assert await another("b") == "/b"
        assert await ask("c") == "/c"


async def test_news_before_the_answer_is_read_over() -> None:
    def serve(connection: Connection, head: bytes) -> None:
        connection.transport.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        echo(connection, head)

    async with serving(serve) as server, asking(server.url) as ask:
        assert [await ask("a"), await ask("b")] == ["/a", "/b"]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_without_a_body_leaves_the_connection_in_order(status: str) -> None:
    def serve(connection: Connection, head: bytes) -> None:
        if target(head) == "/none":
            connection.transport.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        else:
            echo(connection, head)

    async with (
        serving(serve) as server,
        HttpClient(server.url, upstream="test") as http,
    ):
        assert (await http.request("GET", "none", answers=(304,))).body == b""
        assert (await http.request("GET", "a")).json() == "/a"
    assert [connection.asked for connection in server.connections] == [2]


ANSWERS = [
    reply('{"status": "RUNNING", "progress": 0.25}'),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n[1, 2, 3\r\n4;x=y\r\n, 4]\r\n0\r\nX-Sum: 1\r\n\r\n",
]


@given(answer=st.sampled_from(ANSWERS), cuts=st.sets(st.integers(1, 150), max_size=6))
@settings(max_examples=60, deadline=None)
async def test_an_answer_is_the_same_however_it_is_cut(answer: bytes, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(answer)), len(answer)]
    parts = [answer[start:end] for start, end in pairwise(places)]

    def serve(connection: Connection, _: bytes) -> None:
        def send(left: list[bytes]) -> None:
            if left:
                connection.transport.write(left[0])
                asyncio.get_running_loop().call_soon(send, left[1:])

        send(parts)

    async with serving(serve) as server, asking(server.url) as ask:
        found = [await ask("a"), await ask("a")]
    assert found[0] == found[1] != []
    assert [connection.asked for connection in server.connections] == [2]


@given(answer=st.sampled_from(ANSWERS), kept=st.integers(0, 150))
@settings(max_examples=60, deadline=None)
async def test_an_answer_that_breaks_off_anywhere_is_an_error(answer: bytes, kept: int) -> None:
    part = answer[: min(kept, len(answer) - 1)]

    def serve(connection: Connection, _: bytes) -> None:
        connection.transport.write(part)
        connection.transport.close()

    async with serving(serve) as server, asking(server.url) as ask:
        with pytest.raises(UpstreamError) as caught:
            await ask("a")
    assert caught.value.kind in ("network", "malformed")


async def test_what_is_under_way_when_time_is_up_is_closed() -> None:
    closed = asyncio.Event()

    class Silent(Connection):
        def connection_lost(self, exc: Exception | None) -> None:
            closed.set()

    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Silent(lambda *_: None, 0), "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with asking(f"http://127.0.0.1:{port}", within=0.02) as ask:
            with pytest.raises(UpstreamError, match=r"within 0\.02 s"):
                await ask("a")
            await asyncio.wait_for(closed.wait(), 30)


async def test_a_header_with_a_line_break_is_not_sent() -> None:
    async with serving(echo) as server, HttpClient(server.url, upstream="test", headers={"X-A": "b\r\nX-C: d"}) as http:
        with pytest.raises(ValueError, match="line break"):
            await http.request("GET", "a")
    assert server.connections == []


async def test_an_aiohttp_that_looks_otherwise_is_left_to_its_session() -> None:
    class Otherwise(aiohttp.TCPConnector):
        async def connect(self, request: Any) -> Any:  # type: ignore[override]
            raise NotImplementedError

    connector = Otherwise()
    assert quick_gets("http://127.0.0.1:1", connector, aiohttp.ClientTimeout()) is None
    await connector.close()
    assert quick_gets("http://127.0.0.1:1", aiohttp.TCPConnector(), aiohttp.ClientTimeout()) is not None


async def test_a_short_answer_behind_a_long_one_has_nothing_of_it() -> None:
    """All answers are read into one place, and some are longer than it."""
    sizes = [10, 300_000, 3, 70_000, 1]

    def serve(connection: Connection, head: bytes) -> None:
        connection.transport.write(reply('"' + "x" * int(target(head)[1:]) + '"'))

    async with serving(serve) as server, asking(server.url) as ask:
        one_by_one = [len(await ask(f"{size}")) for size in sizes]
        at_once = await asyncio.gather(*(ask(f"{size}") for size in sizes * 5))
    assert one_by_one == sizes
    assert [len(answer) for answer in at_once] == sizes * 5
