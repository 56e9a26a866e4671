"""Jobs fall into shards, shards to nodes, and options are refused where they cannot be."""

from collections import Counter

import pytest

from relay.cluster import ClusterOptions, Shards
from relay.cluster.rendezvous import first_choice
from relay.errors import UsageError

THREE = ("a", "b", "c")


def test_a_job_falls_into_the_same_shard_on_every_node_and_in_every_version() -> None:
    assert [Shards(64).of(job, "video") for job in ("job-1", "job-2", "job-3")] == [43, 22, 24]


def test_all_jobs_of_an_account_that_is_polled_with_one_request_are_one_shard() -> None:
    shards = Shards(64, per_account={"drafts"})

    assert {shards.of(f"job-{number}", "drafts") for number in range(100)} == {shards.of("", "drafts")}
    assert len({shards.of(f"job-{number}", "video") for number in range(100)}) > 40


def test_a_job_with_the_id_of_an_account_does_not_share_its_shard_for_that() -> None:
    shards = Shards(1_000_000, per_account={"drafts"})

    assert shards.of("drafts", "video") != shards.of("any", "drafts")


def test_jobs_are_spread_over_all_shards() -> None:
    shards = Shards(64)
    counts = Counter(shards.of(f"job-{number}", "video") for number in range(6400))

    assert len(counts) == 64
    assert (min(counts.values()) > 60, max(counts.values()) < 140) == (True, True)


def test_the_first_choice_is_the_same_on_every_node_whatever_order_it_knows_them_in() -> None:
    assert [first_choice(shard, THREE) for shard in range(64)] == [
        first_choice(shard, THREE[::-1]) for shard in range(64)
    ]


def test_nobody_is_the_first_choice_among_nobody() -> None:
    assert first_choice(0, ()) == ""


def test_each_of_three_nodes_gets_a_fair_share() -> None:
    # Measured over 500 sets of names: smallest share 9 to 21, largest 22 to 34.
    for draw in range(20):
        shares = Counter(first_choice(shard, [f"{name}-{draw}" for name in THREE]) for shard in range(64))
        assert (min(shares.values()) >= 9, max(shares.values()) <= 34) == (True, True)


def test_a_node_that_joins_takes_shards_from_the_others_and_no_other_shard_moves() -> None:
    before = [first_choice(shard, THREE) for shard in range(64)]
    after = [first_choice(shard, (*THREE, "d")) for shard in range(64)]
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]

    assert {new for _, new in moved} == {"d"}
    assert {old for old, _ in moved} == set(THREE)


def test_a_node_that_leaves_gives_its_own_shards_to_the_others_and_no_other_shard_moves() -> None:
    before = [first_choice(shard, THREE) for shard in range(64)]
    after = [first_choice(shard, ("a", "b")) for shard in range(64)]

    assert {old for old, new in zip(before, after, strict=True) if old != new} == {"c"}


def test_options_have_defaults_that_a_cluster_can_begin_with() -> None:
    assert ClusterOptions() == ClusterOptions(lease=10.0, shards=64)


@pytest.mark.parametrize("lease", [0.0, -1.0, 0.05, 301.0, float("nan"), float("inf")])
def test_a_lease_that_is_too_short_too_long_or_no_number_is_refused(lease: float) -> None:
    with pytest.raises(UsageError, match="a lease is"):
        ClusterOptions(lease=lease)


@pytest.mark.parametrize("shards", [0, -1, 1025])
def test_a_number_of_shards_that_cannot_be_is_refused(shards: int) -> None:
    with pytest.raises(UsageError, match="1 to 1024 shards"):
        ClusterOptions(shards=shards)
