"""Connections between two polls: few enough to leave others room, and none for longer than it may be."""

import asyncio

import pytest

from relay.upstreams.http import kept_connections
from relay.upstreams.http.client import HttpClient
from tests.upstreams.http.test_pooled_get import Connection, echo, serving
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
