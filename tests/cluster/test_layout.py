"""Nodes that would divide the jobs into other shards than the cluster does claim none: two would poll one job."""

from relay.cluster.leases import Leases
from relay.journal.shared import Claimed, ClusterView, Lease
from tests.cluster.lookers import LEASE, ME
from tests.cluster.members import ALL, Cluster, advance

MINE = -8
ANOTHERS = -4


def seen_by(leases: Leases, at: float, view: dict[int, Lease], *nodes: str) -> list[int]:
    """Look at *view* at *at*, with *nodes* beside this one; return what may be claimed."""
    leases.look(ClusterView(view, dict.fromkeys((ME, *nodes), round(at * 100))), at, at)
    return [shard for shard, _ in leases.to_claim()]


def test_the_first_node_claims_the_layout_and_then_the_shards() -> None:
    leases = Leases(ME, 8, LEASE)
    assert seen_by(leases, 0.0, {}) == [MINE]
    leases.claimed(MINE, Claimed(1, 0), None, 0.0)

    assert seen_by(leases, 0.1, {MINE: Lease(ME, 1, 1)}) == [*range(8)]
    assert leases.held == {MINE: 1}
    assert leases.owned == frozenset()


def test_a_node_that_joins_claims_what_is_free_under_the_layout_of_another_one() -> None:
    assert seen_by(Leases(ME, 8, LEASE), 0.0, {MINE: Lease("other", 1, 1)}) == [*range(8)]


def test_a_node_with_another_layout_claims_nothing_until_the_others_are_gone() -> None:
    leases = Leases(ME, 8, LEASE)
    for at in range(20):
        assert seen_by(leases, at, {ANOTHERS: Lease("other", 1, at)}, "other") == []
    assert leases.sightings.other_layouts == [4]

    assert seen_by(leases, 20.0, {ANOTHERS: Lease("", 1, 20)}) == [MINE]


def test_the_layout_of_a_node_that_stopped_expires_as_its_shards_do() -> None:
    leases = Leases(ME, 8, LEASE)
    for at in (0.0, 4.0, 8.0, 9.9):
        assert seen_by(leases, at, {ANOTHERS: Lease("other", 1, 1)}, "other") == []

    assert seen_by(leases, 10.0, {ANOTHERS: Lease("other", 1, 1)}, "other") == [MINE]


def test_the_layout_of_a_node_that_is_long_forgotten_is_no_hindrance() -> None:
    assert seen_by(Leases(ME, 8, LEASE), 0.0, {ANOTHERS: Lease("other", 1, 1)}) == [MINE]


def test_two_nodes_that_claim_two_layouts_at_once_claim_no_shard() -> None:
    leases = Leases(ME, 8, LEASE)
    seen_by(leases, 0.0, {})
    leases.claimed(MINE, Claimed(1, 0), None, 0.0)

    assert seen_by(leases, 0.1, {MINE: Lease(ME, 1, 1), ANOTHERS: Lease("other", 2, 1)}, "other") == []
    assert not leases.agreed


async def test_a_node_with_another_number_of_shards_says_so_and_takes_over_when_the_last_other_one_leaves(
    cluster: Cluster,
) -> None:
    a = await cluster("a", shards=8)
    await advance(1.0, a)
    b = await cluster("b", shards=4)
    await advance(2 * LEASE, a, b)
    assert (a.owned, b.owned) == (ALL, set())
    assert str(b.membership.problem).startswith("other nodes divide the jobs into 8 shards, and this one into 4, so")
    assert (a.membership.problem, b.membership.looked.is_set()) == (None, True)

    await a.membership.leave()
    await advance(1.1, b)

    assert (b.owned, b.membership.problem) == (set(range(4)), None)


async def test_the_layout_passes_on_when_the_node_stops_that_has_it(cluster: Cluster) -> None:
    a, b = await cluster.pair()
    await a.stop()
    await advance(1.2 * LEASE, b)

    assert b.owned == ALL
    assert cluster.engine.view().leases[MINE].owner == "b"
    assert sorted({shard for call, shard in b.calls if call == "owned"}) == sorted(ALL)
