"""The bus on a real engine: the same promises as on the double, over connections that fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.bus.sharing import TakenError
from relay.clock import SystemClock
from relay.events import Accepted
from relay.journal.redis import RedisJournal
from tests.cluster.buses import Node, running
from tests.faults.cluster.proxy import Proxy
from tests.journal.redis.servers import ENGINES, EngineServer, Kind, engine, engine_server, free_ports, running_engine

__all__ = ["engine", "engine_server"]


@asynccontextmanager
async def joined(*urls: str) -> AsyncIterator[list[Node]]:
    """A node for each of *urls*, which all lead to one engine; the first owns shard 0."""
    nodes = [Node(RedisJournal(url, node=name), SystemClock()) for name, url in zip("abc", urls, strict=False)]
    for node in nodes:
        await node.open()
    await nodes[0].claim()
    async with running(*nodes):
        yield nodes


async def test_every_node_sends_what_one_publishes_in_the_same_order_with_the_same_bytes(engine: EngineServer) -> None:
    async with joined(engine.url, engine.url) as (a, b):
        one, two = a.begin("one"), a.begin("two")
        for number in range(248):
            a.say((one, two)[number % 2], f"line {number}")
        records = await a.received(250)
        assert records == await b.received(250) == list(b.journal.read(0))

        accepted = await a.bus.accept(a.job("three"), Accepted(upstream="u"), key="k", digest=b"d", unique="u:k")
        assert accepted == a.records[-1][1]
        with pytest.raises(TakenError) as taken:
            await a.bus.accept(a.job("four"), Accepted(upstream="u"), unique="u:k")
        assert taken.value.job == "three"
        await b.received(251)
        assert {name: job.state for name, job in b.jobs.items()} == {
            name: job.state for name, job in a.jobs.items() if name != "four"
        }
        assert (a.notices, b.notices, a.refused) == ([], [], [])


async def test_a_node_whose_shard_another_has_claimed_sends_what_that_one_publishes(engine: EngineServer) -> None:
    async with joined(engine.url, engine.url) as (a, b):
        job = a.begin("one")
        await b.received(1)
        await b.claim()
        a.say(job, "late", "later")
        await asyncio.wait_for(a.bus.settled(job), 10)
        assert (a.refused, a.bus.pending(job)) == ([("one", "fenced")], job.state)
        b.say(b.jobs["one"], "the new owner's")
        assert await a.received(2) == await b.received(2)
        assert [own for own, _ in a.records] == [True, False]


async def test_where_the_engine_lost_its_data_a_new_epoch_has_what_was_not_received(engine: EngineServer) -> None:
    async with joined(engine.url, engine.url) as (a, b):
        job = a.begin("one")
        await b.received(1)
        await engine.call("FLUSHALL")
        a.say(job, "x", "y")
        await a.received(3)
        await b.received(3)
        assert (a.begun, a.carried_over, b.begun) == ([a.journal.epoch], [a.journal.epoch], [a.journal.epoch])
        assert [record.seq for _, record in a.records] == [1, 2, 3]
        assert a.records[1:] == [(True, record) for _, record in b.records[1:]]
        assert a.records[1][1].position.offset > 2**20


@pytest.mark.parametrize("kind", ENGINES)
async def test_connections_that_are_cut_and_replies_that_are_lost_double_nothing_and_lose_nothing(kind: Kind) -> None:
    [port] = free_ports(1)
    with running_engine(kind, port=port) as server:
        async with (
            Proxy("127.0.0.1", port) as link,
            joined(f"redis://127.0.0.1:{link.port}", server.url) as (a, b),
        ):
            job = a.begin("one")
            await b.received(1)
            link.replies.clear()
            a.say(job, *(f"without a reply {number}" for number in range(49)))
            await link.waits()
            link.reset()
            link.release()
            for turn in range(1, 6):
                await a.received(50 * turn)
                a.say(job, *(f"line {turn} {number}" for number in range(50)))
                for _ in range(turn):
                    await asyncio.sleep(0)
                link.reset()
            assert [record.seq for record in await b.received(300)] == list(range(1, 301))
            assert await a.received(300) == [record for _, record in b.records]
            assert (a.refused, a.begun, b.begun) == ([], [], [])
