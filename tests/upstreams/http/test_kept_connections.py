"""Connections between two polls: few enough to leave others room, and none for longer than it may be."""

import asyncio
from typing import Any, cast

import pytest

from relay.upstreams.http import kept_connections
from relay.upstreams.http.client import HttpClient
from relay.upstreams.http.kept_connections import KEPT_SECONDS, KeptConnections
from tests.manual_timers import ManualTimers
from tests.upstreams.http.test_pooled_get import Connection, echo, serving, target
from tests.upstreams.stub import reply


async def test_idle_connections_leave_room_for_other_requests() -> None:
    """All that is posted here is answered once all of it has come: that takes a connection each."""
    posts: list[Connection] = []

    def serve(connection: Connection, head: bytes) -> None:
        if head.startswith(b"GET"):
            return echo(connection, head)
        posts.append(connection)
        if len(posts) == kept_connections.KEPT:
            for each in posts:
                each.transport.write(reply("{}"))
        return None

    async with serving(serve) as server, HttpClient(server.url, upstream="test") as http:
        await asyncio.gather(*(http.request("GET", str(number)) for number in range(150)))
        answers = [http.request("POST", "new", json={}) for _ in range(kept_connections.KEPT)]
        assert {answer.status for answer in await asyncio.gather(*answers)} == {200}


async def test_a_connection_that_is_idle_for_too_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_connections, "KEPT_SECONDS", 0.0)
    closed = asyncio.Event()
    monkeypatch.setattr(Connection, "connection_lost", lambda *_: closed.set(), raising=False)

    async with serving(echo) as server, HttpClient(server.url, upstream="test") as http:
        await http.request("GET", "a")
        await asyncio.wait_for(closed.wait(), 30)


async def test_a_connection_that_is_too_old_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(echo) as server, HttpClient(server.url, upstream="test") as http:
        await http.request("GET", "a")
        monkeypatch.setattr(kept_connections, "KEPT_SECONDS", -1.0)
        assert (await http.request("GET", "b")).json() == "/b"
    assert [connection.asked for connection in server.connections] == [1, 1]


async def test_a_client_that_is_left_closes_its_connections() -> None:
    async with serving(echo) as server:
        async with HttpClient(server.url, upstream="test") as http:
            await http.request("GET", "a")
        for _ in range(100):
            await asyncio.sleep(0)
        assert [connection.transport.is_closing() for connection in server.connections] == [True]


async def test_the_connection_that_was_used_last_is_the_first_to_be_used_again() -> None:
    """So those that are not needed become old."""
    async with serving(echo) as server, HttpClient(server.url, upstream="test") as http:
        await asyncio.gather(http.request("GET", "a"), http.request("GET", "b"))
        for path in ("c", "d", "e"):
            await http.request("GET", path)
    assert sorted(connection.asked for connection in server.connections) == [1, 4]


async def test_what_came_over_an_idle_connection_is_no_answer_to_the_next_request() -> None:
    def serve(connection: Connection, head: bytes) -> None:
        answer = reply(f'"{target(head)}"')
        connection.transport.write(answer[:-2])  # not in one piece: it is parsed
        asyncio.get_running_loop().call_later(0.0, connection.transport.write, answer[-2:])

    async with serving(serve) as server, HttpClient(server.url, upstream="test") as http:
        assert (await http.request("GET", "a")).json() == "/a"
        server.connections[0].transport.write(reply('"of nobody"'))
        idle = http._transport._quick._kept._idle  # type: ignore[union-attr]
        while not idle[0][0].protocol.should_close:  # type: ignore[union-attr]  # noqa: ASYNC110 - until it is there
            await asyncio.sleep(0)
        assert (await http.request("GET", "b")).json() == "/b"
    assert [connection.asked for connection in server.connections] == [1, 1]


class Idle:
    """A connection, and its protocol."""

    def __init__(self) -> None:
        self.closed = self.should_close = False
        self.protocol = self

    def is_connected(self) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True


def test_each_idle_connection_is_closed_in_its_time_and_no_timer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, kept = ManualTimers(), KeptConnections()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    first, second, third = Idle(), Idle(), Idle()
    kept.keep(cast(Any, first))
    loop.now = 5.0
    kept.keep(cast(Any, second))
    assert loop.times == [KEPT_SECONDS]
    loop.passes_to(KEPT_SECONDS)
    assert (first.closed, second.closed) == (True, False)
    assert loop.times == [5.0 + KEPT_SECONDS]
    loop.passes_to(5.0 + KEPT_SECONDS)
    assert (second.closed, loop.timers, len(kept)) == (True, [], 0)

    kept.keep(cast(Any, third))
    assert (len(loop.timers), len(kept)) == (1, 1)
    kept.close()
    assert (third.closed, loop.timers, len(kept)) == (True, [], 0)
