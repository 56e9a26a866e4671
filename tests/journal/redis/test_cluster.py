"""A real cluster of engines: the journal is on one of its nodes, and any of them leads there."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager

import pytest

from relay.errors import JournalError
from relay.journal.redis.inspection import inspect
from tests.journal.redis.nodes import Story, joined
from tests.journal.redis.servers import ENGINES, EngineServer, Kind, free_ports, running_engine, until

HALF = 8191
"""The last slot of the first of two nodes."""


@asynccontextmanager
async def cluster(kind: Kind) -> AsyncIterator[Sequence[EngineServer]]:
    """Two nodes, of which each keeps half of the slots; the one that keeps `{relay}` comes first."""
    ports = free_ports(4)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(running_engine(kind, "--cluster-enabled", "yes", "--cluster-port", str(bus), port=port))
            for port, bus in zip(ports[:2], ports[2:], strict=True)
        ]
        await nodes[0].call("CLUSTER", "ADDSLOTSRANGE", 0, HALF)
        await nodes[1].call("CLUSTER", "ADDSLOTSRANGE", HALF + 1, 16383)
        await nodes[0].call("CLUSTER", "MEET", "127.0.0.1", ports[1], ports[3])
        for node in nodes:
            await until(lambda node=node: is_whole(node))  # type: ignore[misc]
        slot = await nodes[0].call("CLUSTER", "KEYSLOT", "{relay}")
        yield nodes if slot <= HALF else nodes[::-1]


async def is_whole(node: EngineServer) -> bool:
    return b"cluster_state:ok" in await node.call("CLUSTER", "INFO")


@pytest.mark.parametrize("kind", ENGINES)
async def test_any_node_of_a_cluster_leads_to_the_one_that_keeps_the_journal(kind: Kind) -> None:
    async with cluster(kind) as (keeper, other):
        [nobody] = free_ports(1)
        async with (
            joined(f"redis://127.0.0.1:{other.port}", "a") as a,
            joined(f"redis+cluster://127.0.0.1:{keeper.port},127.0.0.1:{other.port}", "b") as b,
        ):
            story = Story("j", await a.own())
            for _ in range(3):
                assert await a.append(*story.take(5)) == [None] * 5
            await a.until(lambda: a.journal.head == 15)
            await b.until(lambda: b.journal.head == 15)
            assert (a.entries, b.seqs("j")) == (b.entries, list(range(1, 16)))
            assert await a.journal.leases.beat({0: story.fence.token}) == frozenset()
            await a.journal.tidy()
        assert await other.call("DBSIZE") == 0

        seeds = f"redis+cluster://127.0.0.1:{nobody},127.0.0.1:{other.port}"
        for url in (seeds, f"redis://127.0.0.1:{other.port}"):
            report = await inspect(url, "relay")
            assert (report.records, report.epoch) == (15, a.journal.epoch)
        keeper.kill()
        with pytest.raises(JournalError, match=r"cannot be reached|belongs to a cluster that is down"):
            await inspect(seeds, "relay")
