"""Which shards a node gives to others, and what it claims of an engine that has lost data; times are handed in."""

from collections.abc import Mapping

import pytest

from relay.journal.shared import Claimed, ClusterView, Fence, Lease
from tests.cluster.lookers import ME, OTHER, SHARDS, THIRD, Node, chosen, held_by


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_node_that_joins_gets_shards_once_it_was_alive_for_a_lease(node: Node) -> None:
    leases = node.claim(0.0, 1, *range(SHARDS))
    for at in range(10):
        node.look(at, leases, OTHER)
        assert node.leases.to_hand_over() == []
    node.look(10.0, leases, OTHER)

    assert node.leases.to_hand_over() == chosen(OTHER, ME, OTHER)[:4]


def test_a_node_that_was_silent_for_a_lease_has_to_be_alive_for_another_one(node: Node) -> None:
    leases = node.claim(0.0, 1, *range(SHARDS))
    for at in range(22):
        node.look(at, leases, *([OTHER] if at == 0 or at > 12 else []))
        assert node.leases.to_hand_over() == []
    node.look(23.0, leases, OTHER)

    assert node.leases.to_hand_over() != []


def test_a_shard_waits_for_a_newer_node_that_should_own_it_in_place_of_moving_twice() -> None:
    node = Node(shards=64)
    leases = node.claim(0.0, 1, *range(64))
    for at in range(11):
        node.look(at, leases, OTHER, *([THIRD] if at > 5 else []))

    moving = node.leases.to_hand_over()
    assert moving != []
    assert set(moving) <= set(chosen(OTHER, ME, OTHER, THIRD, shards=64))


def test_shards_are_handed_over_four_at_a_time_and_the_next_ones_when_those_have_an_owner() -> None:
    node = Node(shards=64)
    leases = node.claim(0.0, 1, *range(64))
    for at in range(11):
        node.look(at, leases, OTHER)
    first = node.leases.to_hand_over()
    for shard in first:
        node.leases.hand_over(shard)
    assert (len(first), node.leases.to_hand_over()) == (4, [])
    assert set(node.leases.owned) == set(range(64)) - set(first)
    assert node.leases.fence(first[0], 1.0) == Fence(first[0], first[0] + 1)

    for shard in first:
        assert node.leases.handed_over(shard) == shard + 1
        leases[shard] = Lease("", shard + 1, 2)
    node.look(11.0, leases, OTHER)
    assert node.leases.to_hand_over() == []
    leases[first[0]] = Lease(OTHER, 100, 1)
    node.look(12.0, leases, OTHER)

    assert len(node.leases.to_hand_over()) == 1


def test_a_shard_that_was_lost_while_it_was_handed_over_is_not_released(node: Node) -> None:
    node.claim(0.0, 5, 3)
    node.leases.hand_over(3)
    node.leases.let_go(3)

    assert node.leases.handed_over(3) is None


def test_no_more_shards_are_given_away_while_a_full_engine_lets_nobody_claim_the_first_ones() -> None:
    """It drops a lease that is released, since that needs no memory."""
    node = Node(shards=64)
    leases = node.claim(0.0, 1, *range(64))
    for at in range(11):
        node.look(at, leases, OTHER)
    for shard in node.leases.to_hand_over():
        node.leases.hand_over(shard)
        node.leases.handed_over(shard)
        del leases[shard]

    for at in range(11, 40):
        node.look(at, leases, OTHER)
        assert node.leases.to_hand_over() == []


def test_a_shard_that_nobody_wanted_is_not_given_away_again_for_ten_leases(node: Node) -> None:
    leases = node.claim(0.0, 1, *range(SHARDS))
    for at in range(11):
        node.look(at, leases, OTHER)
    shard, *_ = node.leases.to_hand_over()
    node.leases.hand_over(shard)
    node.leases.handed_over(shard)
    free = Lease("", shard + 1, 2)
    for at in range(11, 16):
        node.look(at, leases | {shard: free}, OTHER)
    assert shard in node.claims()
    node.leases.claimed(shard, Claimed(50, 0), free, 15.0)
    leases[shard] = Lease(ME, 50, 1)

    for at in range(15, 115):
        node.look(at, leases, OTHER)
        assert shard not in node.leases.to_hand_over()
    node.look(115.0, leases, OTHER)
    assert shard in node.leases.to_hand_over()


def flushed(node: Node, at: float, leases: Mapping[int, Lease]) -> list[int]:
    """Look at *at* at an engine that has lost its data, and with it the name of this node."""
    node.beats.clear()
    lost = [*node.leases.look(ClusterView(leases, {}), at, at)]
    for shard in lost:
        node.leases.let_go(shard)
    return lost


def test_after_a_flush_a_node_claims_at_once_what_it_may_still_poll_and_the_rest_after_a_lease(node: Node) -> None:
    mine = node.claim(0.0, 1, 0, 1)
    node.look(1.0, held_by(OTHER) | mine, OTHER)

    assert flushed(node, 2.0, {}) == [0, 1]
    assert node.claims() == [0, 1]
    for at in range(3, 12):
        node.look(at, {})
        assert node.claims() == [0, 1]
    node.look(12.0, {})
    assert node.claims() == [*range(SHARDS)]


def test_after_a_flush_a_node_that_could_not_poll_any_more_waits_like_the_others(node: Node) -> None:
    node.look(6.0, node.claim(0.0, 1, 0, 1))

    assert flushed(node, 6.7, {}) == [0, 1]
    assert node.claims() == []


def test_after_a_flush_a_node_does_not_claim_what_another_one_has_by_now(node: Node) -> None:
    node.look(1.0, node.claim(0.0, 1, 0, 1))

    flushed(node, 2.0, {0: Lease(OTHER, 1, 1)})
    assert node.claims() == [1]


def test_after_two_flushes_a_node_does_not_claim_at_once_what_another_one_had_between_them(node: Node) -> None:
    node.look(1.0, node.claim(0.0, 1, 0, 1))
    flushed(node, 2.0, {0: Lease(OTHER, 1, 1)})
    flushed(node, 3.0, {})

    assert node.claims() == [1]


def test_a_shard_without_an_owner_in_an_older_dump_may_have_one_that_polls(node: Node) -> None:
    node.look(1.0, held_by(OTHER))
    older = {shard: Lease("", 0, 1) for shard in range(SHARDS)}
    for at in (2.0, 6.0, 10.0, 11.9):
        node.look(at, older)
        assert node.claims() == []
    node.look(12.0, older)

    assert node.claims() == [*range(SHARDS)]


def test_a_lease_in_its_own_name_in_an_older_dump_is_neither_claimed_nor_given_back_for_a_lease(node: Node) -> None:
    node.look(1.0, {shard: Lease(OTHER, 20, 1) for shard in range(SHARDS)}, OTHER)
    for at in (2.0, 6.0, 10.0, 11.9):
        node.look(at, held_by(ME), OTHER)
        assert (node.claims(), node.leases.to_release()) == ([], {})
    node.look(12.0, held_by(ME), OTHER)

    assert node.claims() == chosen(ME, ME, OTHER)
