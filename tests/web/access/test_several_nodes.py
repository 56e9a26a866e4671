"""Access at several nodes: what one of them gives out all accept, and what one of them withdraws none accepts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest
from aiohttp import ClientSession
from aiohttp.web import Application

from tests.cluster.house import Cluster, cluster
from tests.web.access.keys import ANN, BOB, SETTINGS, bearer
from tests.web.serving import serve_app
from web import GUARD, create_app
from web.access import ticket_uses


class Nodes(NamedTuple):
    nodes: Cluster
    apps: list[Application]
    clients: list[ClientSession]

    async def status(self, node: int, headers: dict[str, str]) -> int:
        async with self.clients[node].get("/v1/jobs", headers=headers) as answer:
            return answer.status


@asynccontextmanager
async def served() -> AsyncGenerator[Nodes]:
    async with cluster(2) as nodes, AsyncExitStack() as stack:
        apps = [create_app(house.relay, access=SETTINGS, send_timeout=3_600) for house in nodes.houses]
        yield Nodes(nodes, apps, [await stack.enter_async_context(serve_app(app)) for app in apps])


async def session(client: ClientSession, key: str) -> dict[str, str]:
    """The field of a session that was begun at one node."""
    async with client.post("/v1/session", headers=bearer(key)) as answer:
        assert answer.status == 200
        return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


async def test_a_session_of_one_node_holds_at_another_until_its_user_leaves_at_either() -> None:
    async with served() as several:
        first, second = several.clients
        mine, other = await session(first, ANN), await session(second, ANN)
        assert [await several.status(node, of) for node in (0, 1) for of in (mine, other)] == [200] * 4
        async with first.delete("/v1/session", headers=mine) as answer:
            assert answer.status in (200, 204)
        await several.nodes.advance(0.1)
        assert [await several.status(node, of) for node in (0, 1) for of in (mine, other)] == [401, 200, 401, 200]


async def test_what_one_node_revokes_ends_at_every_node_with_its_streams_and_nothing_else_does() -> None:
    async with served() as several:
        first, second = several.clients
        ann, bob = await session(first, ANN), await session(first, BOB)
        async with second.get("/v1/events", headers=ann) as stream, second.get("/v1/events", headers=bob) as other:
            several.apps[0][GUARD].revoke(subject="key:ann")
            await several.nodes.advance(0.1)
            assert b"event: denied" in await stream.read()
            assert [await several.status(node, of) for node in (0, 1) for of in (ann, bob)] == [401, 200, 401, 200]
            assert not other.content.at_eof()


async def test_a_clock_that_is_late_revokes_what_was_issued_before_by_the_others() -> None:
    async with served() as several:
        guard = several.apps[1][GUARD]
        ahead = guard.now() + 60.0
        guard._elsewhere._receive({"credential": "c", "at": repr(ahead)})
        assert not guard._revocations.holds("s", "c", ahead)
        assert guard._revocations.holds("s", "c", ahead + 1.0)


async def test_news_that_cannot_be_read_is_a_notice() -> None:
    async with served() as several:
        here, there = several.nodes.houses
        assert here.relay.cluster is not None
        here.relay.cluster.announce("access", {"at": "no time"})
        here.relay.cluster.announce("another topic", {})
        await several.nodes.advance(0.1)
        assert [notice.partition(":")[0] for notice in there.notices] == ["news of 'access' from another node failed"]
        assert here.notices == []


async def ticket(client: ClientSession, key: str) -> str:
    async with client.post("/v1/tickets", json={}, headers=bearer(key)) as answer:
        assert answer.status == 201
        return str((await answer.json())["ticket"])


async def opened(several: Nodes, node: int, ticket: str) -> int:
    """The status of a stream that a program without cookies opens with *ticket* at a node: 204 if that is refused."""
    async with several.clients[node].get("/v1/events", params={"ticket": ticket}) as answer:
        return answer.status


@pytest.fixture
async def several() -> AsyncIterator[Nodes]:
    async with served() as made:
        await made.nodes.advance(2.0)  # a ticket of the second in which a node began may have been used before
        yield made


async def test_a_ticket_opens_one_stream_at_whichever_node(several: Nodes) -> None:
    for issuer, user in ((0, 1), (1, 0), (0, 0)):
        one = await ticket(several.clients[issuer], ANN)
        assert await opened(several, user, one) == 200
        assert [await opened(several, node, one) for node in (0, 1)] == [204, 204]


async def test_of_the_first_uses_at_all_nodes_at_once_one_opens_a_stream(several: Nodes) -> None:
    for _ in range(10):
        one = await ticket(several.clients[0], ANN)
        uses = [asyncio.ensure_future(opened(several, n % 2, one)) for n in range(6)]
        assert sorted(await asyncio.gather(*uses)) == [200, *[204] * 5]


async def test_a_ticket_that_is_older_than_a_node_or_than_its_time_opens_nothing_there(several: Nodes) -> None:
    early, late = [await ticket(several.clients[0], ANN) for _ in range(2)]
    joined = await several.nodes.add()
    app = create_app(joined.relay, access=SETTINGS, send_timeout=3_600)
    async with serve_app(app) as third, third.get("/v1/events", params={"ticket": early}) as answer:
        assert answer.status == 204
    await several.nodes.advance(31.0)
    assert await opened(several, 1, late) == 204


async def test_used_tickets_count_no_more_against_their_subject(several: Nodes) -> None:
    first, _ = several.clients
    for _ in range(2):
        tickets = [await ticket(first, ANN) for _ in range(60)]
        assert {await opened(several, 1, one) for one in tickets} == {200}
        await several.nodes.advance(0.0)


async def test_while_the_engine_is_away_a_ticket_has_to_wait_and_is_not_used_up(
    several: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert several.nodes.engine is not None
    one = await ticket(several.clients[0], ANN)
    monkeypatch.setattr(ticket_uses, "CONFIRMED_WITHIN", 0.0)
    several.nodes.engine.down = True
    assert await opened(several, 1, one) == 503
    several.nodes.engine.down = False
    monkeypatch.undo()
    assert await opened(several, 1, one) == 200
