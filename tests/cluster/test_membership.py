"""Nodes of a cluster share out its shards, take over those of a node that stops, and let go of those that they lose."""

import pytest

from relay.cluster.rendezvous import first_choice
from tests.cluster.members import LEASE, Member, advance
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode

ALL = set(range(8))


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


async def start(engine: MemoryEngine, name: str) -> tuple[Member, MemoryNode]:
    node = MemoryNode(engine, name)
    await node.open()
    return Member(node, name).start(), node


def share(name: str, *nodes: str) -> set[int]:
    return {shard for shard in ALL if first_choice(shard, nodes) == name}


async def test_a_node_alone_owns_everything_at_once(engine: MemoryEngine) -> None:
    a, _ = await start(engine, "a")

    await advance(0.1, a)

    assert (a.owned, set(a.fences)) == (ALL, ALL)
    assert a.calls == [("owned", shard) for shard in range(8)]
    assert (a.membership.counts.claims, a.membership.counts.takeovers) == (8, 0)
    assert a.membership.looked.is_set()


async def test_a_node_that_joins_gets_its_share_once_it_has_been_alive_for_a_lease(engine: MemoryEngine) -> None:
    a, _ = await start(engine, "a")
    await advance(1.0, a)
    b, _ = await start(engine, "b")

    await advance(LEASE - 0.5, a, b)
    assert (a.owned, b.owned) == (ALL, set())

    passed = await advance(LEASE, a, b, until=lambda: b.owned == share("b", "a", "b"))
    assert passed < LEASE
    assert a.owned == share("a", "a", "b")
    assert (a.membership.counts.losses, a.membership.counts.hand_overs) == (0, len(b.owned))
    shard = max(b.owned)
    assert [call for call, of in a.calls if of == shard] == ["owned", "handover", "lost"]


async def test_shards_of_a_node_that_stopped_are_polled_again_within_little_more_than_a_lease(
    engine: MemoryEngine,
) -> None:
    a, _ = await start(engine, "a")
    await advance(0.1, a)
    b, _ = await start(engine, "b")
    await advance(2.5, a, b)  # the next renewal of a is 0.8 s away
    await a.stop()

    passed = await advance(2 * LEASE, b, until=lambda: b.owned == ALL)

    assert passed <= 1.1 * LEASE
    longest = b.membership.counts.longest_takeover
    assert LEASE <= longest <= 1.2 * LEASE
    assert b.membership.counts.takeovers == 8
    assert b.notices == [f"node b took over 8 shards of a, {longest:.1f} s after the last renewal that it saw"]
