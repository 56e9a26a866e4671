"""Leases on real servers: one owner at a time, tokens that grow, no clock, and none lost to a full server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from relay.errors import JournalError
from relay.journal.redis._client import EngineClient
from relay.journal.redis._leases import FORGET_AFTER, RedisLeases
from relay.journal.redis._place import read_url
from relay.journal.shared import Claimed, Lease, LeaseStore
from tests.journal.redis.servers import EngineServer


class Nodes:
    """Makes the leases of nodes, all on one engine that has an epoch."""

    def __init__(self, engine: EngineServer) -> None:
        self.engine = engine
        self.clients: list[EngineClient] = []

    def __call__(self, node: str) -> RedisLeases:
        client = EngineClient(read_url(self.engine.url), read_timeout=20)
        self.clients.append(client)
        return RedisLeases(client, "r", node)

    async def begin(self, head: int = 7) -> None:
        await self.engine.call("HSET", "{r}:m", "epoch", "e1", "head", head)


@pytest.fixture
async def nodes(engine: EngineServer) -> AsyncIterator[Nodes]:
    made = Nodes(engine)
    await made.begin()
    yield made
    for client in made.clients:
        await client.close()


async def owned(leases: RedisLeases, *shards: int) -> dict[int, int]:
    """Claim free *shards*: shard and token of each."""
    held = {}
    for shard in shards:
        claimed = await leases.claim(shard, (await leases.view()).leases.get(shard))
        assert claimed is not None
        held[shard] = claimed.token
    return held


async def test_a_claim_is_noted_with_the_head_of_the_journal(nodes: Nodes) -> None:
    a: LeaseStore = nodes("a")

    assert (await a.view())[:2] == ({}, {})
    assert await a.claim(3, None) == Claimed(token=1, head=7)
    assert (await a.view())[:2] == ({3: Lease("a", 1, 0)}, {})
    [(_, fields)] = await nodes.engine.call("XRANGE", "{r}:claims", "-", "+")
    assert fields == [b"shard", b"3", b"token", b"1", b"node", b"a", b"epoch", b"e1", b"head", b"7"]


async def test_two_nodes_that_claim_what_they_saw_alike_get_one_lease(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    await owned(a, 1)
    await a.beat({1: 1})
    seen = (await b.view()).leases[1]

    claims = await asyncio.gather(*(one.claim(1, seen) for one in (nodes("c"), b, nodes("d"))))

    assert sorted(claims, key=str) == [Claimed(2, 7), None, None]
    assert await a.beat({1: 1}) == {1}


async def test_a_lease_that_was_renewed_since_it_was_seen_is_not_claimed(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    held = await owned(a, 1)
    seen = (await b.view()).leases[1]
    assert await a.beat(held) == frozenset()
    assert await b.claim(1, seen) is None
    assert await b.claim(1, None) is None
    assert await b.claim(1, seen._replace(token=9)) is None

    assert [lease.beat for lease in (await b.view()).leases.values()] == [seen.beat + 1]


async def test_each_beat_of_a_node_and_of_its_leases_grows(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    held = await owned(a, 1, 2)
    beats = []
    for _ in range(4):
        await a.beat(held)
        view = await b.view()
        beats.append((view.leases[1].beat, view.leases[2].beat, view.nodes["a"]))

    assert beats == [(beat, beat, beat) for beat in (1, 2, 3, 4)]


async def test_what_was_given_back_has_no_owner_and_can_be_claimed(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    held = await owned(a, 1, 2)
    await a.beat(held)
    await a.release({1: held[1], 2: 99})

    view = await b.view()
    assert view.leases == {1: Lease("", 1, 0), 2: Lease("a", 2, 1)}
    assert await a.beat(held) == {1}
    assert await b.claim(1, view.leases[1]) == Claimed(3, 7)
    assert await a.claim(1, view.leases[1]) is None
    await a.release({1: held[1]})
    assert (await b.view()).leases[1].owner == "b"


async def test_a_node_that_leaves_is_out_of_the_view_at_once(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    await a.beat({})
    await b.beat({})
    assert (await b.view()).nodes == {"a": 1, "b": 1}
    await a.leave()

    assert (await b.view()).nodes == {"b": 1}
    assert not await nodes.engine.call("EXISTS", "{r}:n:a")


async def test_a_node_that_is_silent_for_long_is_forgotten_and_comes_back_with_its_next_beat(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    await a.beat({})
    for _ in range(FORGET_AFTER + 1):
        await b.beat({})
        assert (await b.view()).nodes.get("a") == 1
    await b.beat({})

    assert (await b.view()).nodes.keys() == {"b"}
    await a.beat({})
    assert (await b.view()).nodes == {"a": 2, "b": FORGET_AFTER + 2}


async def test_a_full_server_takes_no_lease_away_and_gives_none(nodes: Nodes) -> None:
    a, b = nodes("a"), nodes("b")
    held = await owned(a, *range(64))
    await a.beat(held)
    await nodes.engine.call("CONFIG", "SET", "maxmemory", "1")

    for beat in (2, 3):
        assert await a.beat(held) == frozenset()
        view = await b.view()
        assert ({lease.beat for lease in view.leases.values()}, view.nodes) == ({beat}, {"a": beat})
    with pytest.raises(JournalError, match="maxmemory"):
        await b.claim(1, view.leases[1])
    with pytest.raises(JournalError, match="maxmemory"):
        await b.beat({})  # a node that the server does not know yet
    await a.release({1: held[1]})
    assert await a.beat(held) == {1}
    await nodes.engine.call("SREM", "{r}:n", "a")
    await nodes.engine.call("DEL", "{r}:l:0")
    assert await nodes("c").beat({1: 99}) == {1}
    assert await a.beat(held) == {1}
    assert (await b.view()).leases[3].beat == 5
    assert await nodes.engine.call("XLEN", "{r}:claims") == 64
    assert await nodes.engine.call("GET", "{r}:t") == b"64"


async def test_a_view_has_the_time_of_day_of_the_engine(nodes: Nodes) -> None:
    before = await engine_time(nodes)
    seen = (await nodes("a").view()).time
    after = await engine_time(nodes)

    assert seen is not None
    assert before <= seen <= after


async def engine_time(nodes: Nodes) -> datetime:
    """In whole milliseconds, as a view has it."""
    seconds, micros = map(int, await nodes.engine.call("TIME"))
    return datetime.fromtimestamp((seconds * 1000 + micros // 1000) / 1000, UTC)


async def test_after_flushall_everything_is_free_once_there_is_an_epoch_again(nodes: Nodes) -> None:
    a = nodes("a")
    held = await owned(a, 1, 2)
    assert a.highest_token == 2
    await nodes.engine.call("FLUSHALL")

    assert (await a.view())[:2] == ({}, {})
    assert await a.claim(1, None) is None
    assert await a.beat(held) == {1, 2}
    await nodes.begin(head=2**20)
    assert await a.claim(1, None) == Claimed(1, 2**20)


async def test_an_engine_that_was_started_again_gives_no_lease_until_a_node_has_looked_at_it(nodes: Nodes) -> None:
    a = nodes("a")
    info: bytes = await nodes.engine.call("INFO", "server")
    await nodes.engine.call("HSET", "{r}:m", "rid", "that of the process before")
    assert await a.claim(1, None) is None

    (run_id,) = (line.removeprefix(b"run_id:") for line in info.splitlines() if line.startswith(b"run_id:"))
    await nodes.engine.call("HSET", "{r}:m", "rid", run_id)
    assert await a.claim(1, None) == Claimed(1, 7)


async def test_a_lease_whose_beat_is_gone_has_the_one_of_its_claim(nodes: Nodes) -> None:
    a = nodes("a")
    await a.beat({})
    held = await owned(a, 1)
    await a.beat(held)
    await nodes.engine.call("DEL", "{r}:l:1")

    assert (await a.view()).leases == {1: Lease("a", 1, 1)}
    assert await a.beat(held) == frozenset()
    assert (await a.view()).leases == {1: Lease("a", 1, 3)}


async def test_the_clock_of_the_server_is_in_no_beat(nodes: Nodes) -> None:
    """What a beat is kept as does not become another beat while time passes, and is thousands of years away."""
    a = nodes("a")
    held = await owned(a, 1)
    await a.beat(held)
    left = await nodes.engine.call("PTTL", "{r}:l:1")
    seen = (await a.view()).leases[1]

    assert left > 2_000 * 365 * 86_400_000
    while await nodes.engine.call("PTTL", "{r}:l:1") > left - 5:  # noqa: ASYNC110 - milliseconds of the server's clock
        await asyncio.sleep(0)
    assert (await a.view()).leases[1] == seen
    assert await nodes("b").claim(1, seen) is not None


async def test_scripts_that_the_server_has_lost_are_sent_again(nodes: Nodes) -> None:
    a = nodes("a")
    for shard in range(2):
        await nodes.engine.call("SCRIPT", "FLUSH")
        assert await a.claim(shard, None) == Claimed(shard + 1, 7)
