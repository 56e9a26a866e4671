"""The same nodes on real servers: their leases are in Redis and Valkey, and their clocks are moved by hand."""

from collections.abc import AsyncIterator, Callable

import pytest

from relay.journal.redis._client import EngineClient
from relay.journal.redis._leases import RedisLeases
from relay.journal.redis._place import read_url
from tests.cluster.members import ALL, LEASE, Member, Watched, advance, share
from tests.journal.redis.servers import ENGINES, EngineServer, Kind, running_engine


class Nodes:
    """Starts nodes on one server."""

    def __init__(self, server: EngineServer) -> None:
        self.server = server
        self.members: list[Member] = []
        self.clients: list[EngineClient] = []

    def __call__(self, name: str) -> Member:
        self.clients.append(client := EngineClient(read_url(self.server.url), read_timeout=20))
        self.members.append(member := Member(Watched(RedisLeases(client, "r", name)), name).start())
        return member

    async def begin_an_epoch(self, head: int = 0) -> None:
        """What a journal does that finds an engine without data."""
        await self.server.call("HSET", "{r}:m", "epoch", f"e{head}", "head", head)

    async def claims(self) -> list[tuple[int, int, str]]:
        """Shard, token and node of each claim that the server noted, in order."""
        entries = await self.server.call("XRANGE", "{r}:claims", "-", "+")
        noted = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in entries]
        return [(int(one[b"shard"]), int(one[b"token"]), one[b"node"].decode()) for one in noted]

    async def close(self) -> None:
        for member in self.members:
            await member.stop()
        for client in self.clients:
            await client.close()


@pytest.fixture
async def nodes(engine: EngineServer) -> AsyncIterator[Nodes]:
    made = Nodes(engine)
    await made.begin_an_epoch()
    yield made
    await made.close()


def shared_out(*members: Member) -> Callable[[], bool]:
    """Whether each of *members* owns what it should own among them."""
    names = [member.membership.node for member in members]
    return lambda: [member.owned for member in members] == [share(name, *names) for name in names]


async def test_three_nodes_share_out_the_shards_and_two_take_over_those_of_a_third(nodes: Nodes) -> None:
    a, b, c = (nodes(name) for name in "abc")
    await advance(3 * LEASE, a, b, c, until=shared_out(a, b, c))
    await advance(0.5, a, b, c)
    await c.stop()

    passed = await advance(2 * LEASE, a, b, until=shared_out(a, b))

    assert passed <= 1.2 * LEASE
    tokens = [token for _, token, _ in await nodes.claims()]
    assert tokens == sorted(set(tokens))


async def test_nodes_that_race_for_the_same_shards_get_each_of_them_once(nodes: Nodes) -> None:
    members = [nodes(name) for name in "abc"]

    await advance(1.2, *members)

    assert sorted(shard for shard, *_ in await nodes.claims() if shard >= 0) == sorted(ALL)
    assert sorted(shard for member in members for shard in member.owned) == sorted(ALL)


async def test_a_node_that_leaves_hands_over_at_once(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    await advance(3 * LEASE, a, b, until=shared_out(a, b))

    await a.membership.leave()
    passed = await advance(LEASE, b, until=lambda: b.owned == ALL)

    assert passed <= 0.11 * LEASE
    assert await nodes.server.call("SMEMBERS", "{r}:n") == [b"b"]


async def test_a_full_server_takes_no_lease_away_and_gives_none(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    await advance(3 * LEASE, a, b, until=shared_out(a, b))
    before = a.fences
    await nodes.server.call("CONFIG", "SET", "maxmemory", "1")
    await b.stop()

    await advance(2 * LEASE, a)

    assert (a.fences, a.membership.problem) == (before, None)
    await nodes.server.call("CONFIG", "SET", "maxmemory", "0")
    await advance(0.2 * LEASE, a, until=lambda: a.owned == ALL)


async def test_after_flushall_each_node_claims_its_own_shards_again_at_once(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    await advance(3 * LEASE, a, b, until=shared_out(a, b))
    await nodes.server.call("FLUSHALL")
    await nodes.begin_an_epoch(head=2**20)

    await advance(0.12 * LEASE, a, b)

    assert shared_out(a, b)()
    assert {*a.fences, *b.fences} == ALL


@pytest.mark.parametrize("kind", ENGINES)
async def test_nodes_go_on_with_their_leases_after_an_engine_was_down_that_keeps_its_data(kind: Kind) -> None:
    with running_engine(kind, "--appendonly", "yes", "--appendfsync", "always") as server:
        nodes = Nodes(server)
        await nodes.begin_an_epoch()
        a, b = nodes("a"), nodes("b")
        await advance(3 * LEASE, a, b, until=shared_out(a, b))
        before = a.fences | b.fences
        server.kill()
        await advance(LEASE, a, b)
        assert (a.fences, b.fences) == ({}, {})
        server.start()

        await advance(LEASE, a, b, until=lambda: (a.fences | b.fences) == before)

        assert (a.membership.counts.losses, b.membership.counts.losses) == (0, 0)
        await nodes.close()


@pytest.mark.parametrize("kind", ENGINES)
async def test_nodes_share_out_the_shards_anew_after_an_engine_was_down_that_lost_its_data(kind: Kind) -> None:
    with running_engine(kind) as server:
        nodes = Nodes(server)
        await nodes.begin_an_epoch()
        a, b = nodes("a"), nodes("b")
        await advance(3 * LEASE, a, b, until=shared_out(a, b))
        server.kill()
        await advance(LEASE, a, b)
        server.start()
        await nodes.begin_an_epoch(head=2**20)

        await advance(1.4 * LEASE, a, b, until=lambda: a.fences.keys() | b.fences.keys() == ALL)

        assert not a.owned & b.owned
        await nodes.close()
