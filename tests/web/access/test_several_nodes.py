"""Access at several nodes: what one of them gives out all accept, and what one of them withdraws none accepts."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from aiohttp import ClientSession
from aiohttp.web import Application

from tests.cluster.house import Cluster, cluster
from tests.web.access.keys import ANN, BOB, SETTINGS, bearer
from tests.web.serving import serve_app
from web import GUARD, create_app


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
