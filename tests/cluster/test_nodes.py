"""Several relays over one engine: any node serves any request, and each job has one poller and one story."""

import asyncio
from itertools import pairwise

import pytest

from relay import ConflictError, Record, UnavailableError, UpstreamError, UsageError
from relay.polling.submission import INTERRUPTED
from tests.cluster.house import FINISHED, LEASE, Cluster, House, cluster
from tests.cluster.memory_node import MemoryNode

UPSTREAMS = pytest.mark.parametrize("upstream", ["listing", "single"])
INTERVAL = 2.5


def seqs(records: list[Record], job: str) -> list[int]:
    return [record.seq for record in records if record.job == job]


def sunk(nodes: Cluster) -> list[bytes]:
    """All that the sinks of all nodes were given."""
    return sorted(record.json for house in nodes.houses for record in house.sunk)


@UPSTREAMS
async def test_a_job_that_is_followed_at_any_node_is_known_streamed_and_cancelled_at_every_other(upstream: str) -> None:
    async with cluster(3) as nodes:
        for number, (here, there) in enumerate(zip(nodes.houses, nodes.houses[1:] + nodes.houses[:1], strict=True)):
            job = await here.relay.requests.follow(upstream, f"t{number}", "ann")
            await nodes.advance(2 * INTERVAL)
            again = await there.relay.requests.follow(upstream, f"t{number}", "ann")
            cancelled = await there.relay.requests.cancel(job.id)

            assert (again.id, cancelled.id, cancelled.state.status, cancelled.owner) == (
                job.id,
                job.id,
                "cancelled",
                "ann",
            )
            assert job.ended
            assert here.events(job.id)[-1] == "cancelled"
        assert nodes.world.cancelled == ["t0", "t1", "t2"]
        told = await nodes.same_everywhere()
        assert [len(house.relay.jobs("ann")) for house in nodes.houses] == [3] * 3
        assert sunk(nodes) == sorted(told), "each record reaches the sinks of one node"


async def test_new_jobs_of_an_upstream_that_is_polled_task_by_task_fall_into_shards_of_the_node_that_accepts_them() -> (
    None
):
    async with cluster(3) as nodes:
        for house in nodes.houses:
            for number in range(5):
                job = await house.relay.requests.follow("single", f"{house.name} {number}")
                assert nodes.owner(job) is house
        assert nodes.engine is not None
        assert nodes.engine.commands == [], "no other node was needed"


async def test_an_account_that_is_polled_as_a_whole_has_one_request_an_interval_from_the_whole_cluster() -> None:
    async with cluster(3) as nodes:
        for number in range(9):
            await nodes.houses[number % 3].relay.requests.follow("listing", f"t{number}")
        await nodes.advance(20 * INTERVAL)
        times = nodes.world.polls("listing")[1:]

        assert {round(later - earlier, 3) for earlier, later in pairwise(times)} == {INTERVAL}
        assert len({node for _, node, upstream, _ in nodes.world.requests if upstream == "listing"}) == 1
        assert all(len(tasks) == 9 for *_, tasks in nodes.world.requests[-3:])


@UPSTREAMS
async def test_a_job_whose_owner_is_killed_goes_on_at_another_node_as_it_was(upstream: str) -> None:
    async with cluster(3) as nodes:
        job = await nodes.houses[0].relay.requests.follow(upstream, "t")
        await nodes.advance(4 * INTERVAL)
        owner = nodes.owner(job)
        await nodes.kill(owner)
        before = nodes.alive[0].job(job).state
        await nodes.advance(1.5 * LEASE)
        heir = nodes.owner(job)
        await nodes.advance(2 * INTERVAL)
        story = [record for record in heir.streamed if record.job == job.id]

        assert [record.seq for record in story] == list(range(1, len(story) + 1))
        attempts = [record.event.attempt for record in story if record.event.type == "checking"]  # type: ignore[union-attr]
        assert attempts == list(range(1, len(attempts) + 1))
        assert heir.job(job).state.started == before.started
        nodes.world.said["t"] = FINISHED
        await nodes.advance(2 * INTERVAL)
        assert [house.job(job).state.status for house in nodes.alive] == ["succeeded"] * 2
        await nodes.same_everywhere()


@UPSTREAMS
async def test_the_deadline_of_a_job_is_that_of_its_first_owner(upstream: str) -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow(upstream, "t")
        began = nodes.clock.monotonic()
        await nodes.advance(700)
        await nodes.kill(nodes.owner(job))
        (heir,) = nodes.alive
        await nodes.advance(began + 1_500 - nodes.clock.monotonic() - 5)
        just_before = heir.job(job).ended
        await nodes.advance(15)

        assert (just_before, heir.events(job.id)[-1], heir.job(job).state.status) == (False, "failed", "failed")


@UPSTREAMS
async def test_a_node_that_leaves_hands_its_jobs_over_without_a_pause(upstream: str) -> None:
    async with cluster(3) as nodes:
        jobs = [await nodes.houses[0].relay.requests.follow(upstream, f"t{number}") for number in range(4)]
        await nodes.advance(3 * INTERVAL + 1)
        leaver = nodes.owner(jobs[0])
        left_at = nodes.clock.monotonic()
        await nodes.leave(leaver)
        await nodes.advance(4 * INTERVAL)

        assert all(nodes.owner(job) is not leaver for job in jobs)
        for job in jobs:
            times = [at for at, _, _, tasks in nodes.world.requests if job.state.task in tasks and at > left_at - 3]
            assert max(later - earlier for earlier, later in pairwise(times)) < 2 * INTERVAL, (
                "new owners spread their first polls"
            )
            records = [record for record in nodes.alive[0].streamed if record.job == job.id]
            assert seqs(records, job.id) == list(range(1, len(records) + 1))
        assert leaver.notices == []


async def test_a_node_that_joins_knows_all_jobs_and_records_and_gets_its_share() -> None:
    async with cluster(2) as nodes:
        jobs = [
            await nodes.houses[number % 2].relay.requests.follow(upstream, f"t{number}", f"owner {number}")
            for number, upstream in enumerate(["listing", "single"] * 4)
        ]
        nodes.world.said["t3"] = FINISHED
        await nodes.advance(4 * INTERVAL)
        late = await nodes.add()
        await nodes.settle()

        assert sorted(job.id for job in late.relay.jobs()) == sorted(job.id for job in jobs)
        assert [late.job(job).owner for job in jobs] == [job.owner for job in jobs]
        assert late.job(jobs[3]).state == jobs[3].state
        assert late.relay.followed("single", "t1", "owner 1") is late.job(jobs[1])
        assert len(late.owned) >= 1
        await nodes.same_everywhere()


@UPSTREAMS
async def test_requests_for_one_thing_at_several_nodes_at_once_are_one_job(upstream: str) -> None:
    async with cluster(3) as nodes:
        started = list[str]()
        submitted = await asyncio.gather(
            *(
                house.relay.requests.submit(upstream, {"prompt": "a cat"}, key="k", owner="ann", admit=started.append)
                for house in nodes.houses
                for _ in range(2)
            )
        )
        followed = await asyncio.gather(
            *(house.relay.requests.follow(upstream, "t", "ann") for house in nodes.houses for _ in range(2))
        )
        await nodes.advance(INTERVAL)

        assert {job.id for job in submitted} <= set(started)
        assert len(started) <= len(nodes.houses), "within a node, the others wait for the first"
        assert (len({job.id for job in submitted}), len({job.id for job in followed})) == (1, 1)
        assert nodes.world.submitted[1:] == []
        assert [len(house.relay.jobs()) for house in nodes.houses] == [2] * 3


async def test_a_key_that_was_used_at_another_node_with_another_input_is_a_conflict() -> None:
    async with cluster(2) as nodes:
        first, second = nodes.houses
        job = await first.relay.requests.submit("single", {"prompt": "a cat"}, key="k")
        with pytest.raises(ConflictError, match="the key 'k' was used for another request"):
            await second.relay.requests.submit("single", {"prompt": "a dog"}, key="k")
        other = await second.relay.requests.submit("single", {"prompt": "a dog"}, key="k", owner="ann")

        assert (await second.relay.requests.submit("single", {"prompt": "a cat"}, key="k")).id == job.id != other.id


async def test_a_key_that_one_node_releases_is_new_at_all_of_them() -> None:
    async with cluster(2) as nodes:
        first, second = nodes.houses
        jobs = list[str]()
        for house, other in ((first, second), (second, first), (first, second)):
            jobs.append((await house.relay.requests.submit("single", {}, key="k")).id)
            jobs.append((await other.relay.requests.submit("single", {}, key="k")).id)
            house.relay.release("k")
            await nodes.advance(0.1)

        assert (jobs[0::2], len(set(jobs)), len(nodes.world.submitted)) == (jobs[1::2], 3, 3)


async def test_an_error_of_the_owner_is_the_same_error_at_the_node_that_was_called() -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow("listing", "t")
        nodes.world.on_cancel = UpstreamError("refused", "too late to cancel", retry_after=7.0, acted=False)
        owner = nodes.owner(job)
        errors = list[UpstreamError]()
        for house in (owner, *nodes.others(owner)):
            with pytest.raises(UpstreamError, match="too late to cancel") as caught:
                await house.relay.requests.cancel(job.id)
            errors.append(caught.value)

        assert {(error.kind, error.message, error.retry_after) for error in errors} == {
            ("refused", "too late to cancel", 7.0)
        }
        assert not job.ended


async def test_a_job_that_is_still_being_submitted_cannot_be_cancelled_at_any_node() -> None:
    async with cluster(2) as nodes:
        nodes.world.accepting.clear()
        job = await nodes.houses[0].relay.requests.submit("listing", {})
        for house in nodes.houses:
            with pytest.raises(ConflictError, match="is still being submitted"):
                await house.relay.requests.cancel(job.id)
        nodes.world.accepting.set()
        await nodes.advance(INTERVAL)

        assert {house.job(job).state.task for house in nodes.houses} == {"task_1"}


async def submitting(nodes: Cluster, upstream: str = "single") -> tuple[House, str]:
    """A node that is submitting a job, whose upstream has the request and has not answered."""
    nodes.world.accepting.clear()
    job = await nodes.houses[0].relay.requests.submit(upstream, {"prompt": "a cat"}, key="k")
    await nodes.advance(0.1)
    assert len(nodes.world.submitted) == 1
    return nodes.owner(job), job.id


@UPSTREAMS
async def test_a_submission_whose_owner_died_is_lost_and_never_made_again(upstream: str) -> None:
    async with cluster(3) as nodes:
        owner, job_id = await submitting(nodes, upstream)
        await nodes.kill(owner)
        await nodes.advance(2 * LEASE)
        nodes.world.accepting.set()
        await nodes.advance(2 * LEASE)
        for house in nodes.alive:
            job = house.relay.job(job_id)
            assert (house.events(job_id), job.state.text) == (["accepted", "failed"], f"failed (lost): {INTERRUPTED}")
            assert (await house.relay.requests.submit(upstream, {"prompt": "a cat"}, key="k")).id == job_id
        assert len(nodes.world.submitted) == 1


async def test_a_submission_whose_owner_died_is_adopted_where_the_upstream_finds_its_task() -> None:
    async with cluster(3) as nodes:
        owner, job_id = await submitting(nodes, "finding")
        await nodes.kill(owner)
        await nodes.advance(2 * LEASE)
        nodes.world.said["task_1"] = FINISHED
        await nodes.advance(2 * INTERVAL)

        assert {house.relay.job(job_id).state.task for house in nodes.alive} == {"task_1"}
        assert {house.relay.job(job_id).state.status for house in nodes.alive} == {"succeeded"}
        assert len(nodes.world.submitted) == 1


async def test_a_node_that_gives_a_shard_to_one_that_joins_finishes_its_submission_before() -> None:
    async with cluster(1) as nodes:
        (first,) = nodes.houses
        nodes.world.accepting.clear()
        jobs = [await first.relay.requests.submit("single", {"number": number}) for number in range(12)]
        joined = await nodes.add()
        await nodes.advance(0.9 * LEASE)
        before = len(joined.owned)
        nodes.world.accepting.set()
        await nodes.settle()

        assert (before, len(joined.owned) > 0) == (0, True)
        assert [joined.job(job).state.task for job in jobs] == [f"task_{number}" for number in range(1, 13)]
        assert any(joined.polls(job) for job in jobs)
        assert len(nodes.world.submitted) == 12


async def test_a_node_that_has_left_refuses_the_requests_of_others_as_ones_that_may_be_repeated() -> None:
    async with cluster(1) as nodes:
        [house] = nodes.houses
        await nodes.leave(house)

        with pytest.raises(UnavailableError, match="shutting down"):
            await house.relay.requests.follow("single", "t")


async def test_a_request_that_waits_as_its_node_leaves_is_refused_as_one_that_may_be_repeated() -> None:
    async with cluster(1) as nodes:
        await nodes.houses[0].relay.requests.follow("listing", "t")
        here = await nodes.add(submit_grace=0.0)
        await nodes.kill(nodes.houses[0])
        request = asyncio.create_task(here.relay.requests.follow("listing", "other"))
        assert nodes.engine is not None
        while not nodes.engine.commands:  # noqa: ASYNC110 - it takes some turns of the loop
            await asyncio.sleep(0)
        await nodes.leave(here)

        with pytest.raises(UnavailableError, match="shutting down"):
            await request


@UPSTREAMS
async def test_a_request_that_comes_before_any_shard_has_an_owner_is_carried_out_once_one_has(upstream: str) -> None:
    async with cluster(0) as nodes:
        house = await nodes.add(looked=False)
        waiting = asyncio.gather(
            house.relay.requests.follow(upstream, "t"),
            house.relay.requests.submit(upstream, {}, key="k"),
            house.relay.requests.submit(upstream, {}),
        )
        await nodes.advance(2)
        jobs = await waiting

        assert [nodes.owner(job) for job in jobs] == [house] * 3
        assert len(nodes.world.submitted) == 2


@pytest.mark.parametrize("outcome", ["a task", "an end"])
async def test_a_job_whose_submission_has_led_to_something_that_is_not_in_the_journal_yet_is_not_lost_to_its_own_node(
    outcome: str,
) -> None:
    async with cluster(1) as nodes:
        (here,) = nodes.houses
        assert isinstance(here.journal, MemoryNode)
        nodes.world.accepting.clear()
        job = await here.relay.requests.submit("single", {"prompt": "p"})
        here.journal.requests.close()
        nodes.world.on_submit = UsageError("no") if outcome == "an end" else None
        nodes.world.accepting.set()
        while (pending := here.relay.bus.pending(job)).task is None and not pending.ended:  # noqa: ASYNC110 - some turns
            await asyncio.sleep(0)
        here.relay.requests.take_up(job)  # type: ignore[attr-defined]
        here.journal.requests.open()
        await nodes.advance(2 * INTERVAL)

        assert here.events(job.id)[:3] == (
            ["accepted", "accepted", "checking"] if outcome == "a task" else ["accepted", "failed"]
        )
        assert not [notice for notice in here.notices if "failed" in notice]
