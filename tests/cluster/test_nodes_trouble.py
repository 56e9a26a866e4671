"""Nodes whose engine, lease or neighbour is in trouble: a job has one story, and a submission is made once."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from relay import (
    Job,
    JournalError,
    MemoryJournal,
    Position,
    Record,
    Relay,
    UnavailableError,
    UpstreamError,
    UsageError,
)
from relay.cluster import ClusterOptions, holdings
from relay.journal.base import StoredJob
from relay.journal.shared import Command, Fence
from relay.polling.submission import INTERRUPTED
from relay.testing import ManualClock
from tests.cluster.house import FINISHED, LEASE, Cluster, House, cluster
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode

UPSTREAMS = pytest.mark.parametrize("upstream", ["listing", "single"])
INTERVAL = 2.5


def memory(nodes: Cluster) -> MemoryEngine:
    assert nodes.engine is not None
    return nodes.engine


def link(house: House) -> MemoryNode:
    assert isinstance(house.journal, MemoryNode)
    return house.journal


def seqs(records: list[Record], job: str) -> list[int]:
    return [record.seq for record in records if record.job == job]


def is_whole(house: House, job: str) -> bool:
    numbers = seqs(house.streamed, job)
    return numbers == list(range(1, len(numbers) + 1))


@UPSTREAMS
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "is killed"])
async def test_a_job_that_changes_hands_is_not_polled_before_the_upstream_wants_it(upstream: str, leaves: bool) -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow(upstream, "t")
        await nodes.advance(2 * INTERVAL)
        nodes.world.on_observe = UpstreamError("rate-limit", "too many requests", retry_after=60.0)
        await nodes.advance(INTERVAL)
        refused_at = nodes.world.polls(upstream)[-1]
        nodes.world.on_observe = None
        owner = nodes.owner(job)
        await (nodes.leave(owner) if leaves else nodes.kill(owner))
        await nodes.advance(2 * LEASE)
        [heir] = nodes.alive
        assert nodes.owner(job) is heir
        await heir.relay.requests.wake(upstream, "t")
        await nodes.advance(60.0)
        [next_at, *_] = [at for at in nodes.world.polls(upstream) if at > refused_at]

        assert refused_at + 60.0 <= next_at < refused_at + 60.0 + 2 * INTERVAL
        assert heir.job(job).state.retry_at is None
        assert is_whole(heir, job.id)


# The engine


@UPSTREAMS
async def test_a_task_whose_caller_was_refused_is_polled_once_its_job_turns_up(upstream: str) -> None:
    async with cluster(1) as nodes:
        [house] = nodes.houses
        link(house).replies.close()
        link(house).tail.close()
        following = asyncio.ensure_future(house.relay.requests.follow(upstream, "t"))
        await link(house).replies.holds()
        await nodes.advance(5.0)
        with pytest.raises(UnavailableError):
            await following
        link(house).tail.open()
        link(house).replies.open()
        nodes.world.said["t"] = FINISHED
        await nodes.advance(4 * INTERVAL)

        [job] = house.relay.jobs()
        assert job.state.status == "succeeded"
        assert await house.relay.requests.follow(upstream, "t") is job


@UPSTREAMS
async def test_while_the_engine_is_down_polling_stops_and_is_said_to_and_then_all_goes_on(upstream: str) -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow(upstream, "t")
        await nodes.advance(2 * INTERVAL)
        memory(nodes).down = True
        went_down = nodes.clock.monotonic()
        await nodes.advance(3 * LEASE)
        polled = [at - went_down for at in nodes.world.polls(upstream) if at > went_down]
        problems = [house.relay.problems() for house in nodes.houses]
        memory(nodes).down = False
        await nodes.advance(3 * LEASE)
        nodes.world.said["t"] = FINISHED
        await nodes.advance(2 * INTERVAL)

        assert max(polled, default=0.0) <= 2 / 3 * LEASE
        assert all(any("so it polls nothing" in problem for problem in said) for said in problems), problems
        assert [house.relay.problems() for house in nodes.houses] == [[], []]
        assert [house.job(job).state.status for house in nodes.houses] == ["succeeded"] * 2
        assert all(is_whole(house, job.id) for house in nodes.houses)
        await nodes.same_everywhere()


async def test_no_submission_begins_while_its_acceptance_cannot_be_kept() -> None:
    async with cluster(2) as nodes:
        memory(nodes).refusing = "OOM command not allowed"
        started = list[str]()
        waiting = asyncio.ensure_future(nodes.houses[0].relay.requests.submit("single", {}, admit=started.append))
        await nodes.advance(6)
        with pytest.raises(UnavailableError):
            await waiting
        memory(nodes).refusing = None
        await nodes.advance(LEASE)
        job = await nodes.houses[0].relay.requests.submit("single", {"number": 2})
        await nodes.advance(INTERVAL)

        assert [input for _, input in nodes.world.submitted] == [{"number": 2}]
        assert nodes.houses[1].job(job).state.task == "task_1"
        assert len(started) == 1


@pytest.mark.parametrize("loss", ["flushed", "restored"])
@UPSTREAMS
async def test_what_the_engine_has_lost_is_a_new_epoch_in_which_every_job_goes_on(upstream: str, loss: str) -> None:
    async with cluster(3) as nodes:
        dump = memory(nodes).dump()
        jobs = [
            await house.relay.requests.submit(upstream, {"number": number}, key=f"k{number}", owner="ann")
            for number, house in enumerate(nodes.houses)
        ]
        await nodes.advance(3 * INTERVAL)
        before, epoch = [job.state.seq for job in jobs], nodes.houses[0].journal.epoch
        if loss == "flushed":
            memory(nodes).flush()
        else:
            memory(nodes).restore(dump)
        await nodes.advance(3 * LEASE)
        nodes.world.said |= {f"task_{number}": FINISHED for number in (1, 2, 3)}
        await nodes.advance(2 * INTERVAL)
        late = await nodes.add()

        assert len({house.journal.epoch for house in nodes.houses} | {epoch}) == 2
        for house in nodes.houses[:3]:
            for job, seq in zip(jobs, before, strict=True):
                story = seqs(house.streamed, job.id)
                assert house.job(job).state.status == "succeeded"
                assert seq <= max(story)
                assert story == sorted(set(story)), "no record comes twice, and none goes back"
        again = await late.relay.requests.submit(upstream, {"number": 0}, key="k0", owner="ann")
        assert again.id == jobs[0].id
        assert len(nodes.world.submitted) == 3


@pytest.mark.parametrize("starts", ["before anybody looks", "in the new epoch"])
@UPSTREAMS
async def test_jobs_whose_owner_died_with_the_data_go_on_though_a_node_that_knows_none_takes_their_shards(
    upstream: str, starts: str
) -> None:
    async with cluster(3) as nodes:
        jobs = [await nodes.houses[0].relay.requests.follow(upstream, f"t{number}") for number in range(24)]
        await nodes.advance(2 * INTERVAL)
        await nodes.kill(nodes.owner(jobs[0]))
        memory(nodes).flush()
        if starts == "in the new epoch":
            await nodes.advance(0.1)
        joined = await nodes.add()
        await nodes.advance(6 * LEASE)
        nodes.world.said |= {f"t{number}": FINISHED for number in range(24)}
        await nodes.advance(3 * INTERVAL)

        assert [joined.relay.job(job.id).state.status for job in jobs] == ["succeeded"] * 24
        assert all(house.job(job).ended for house in nodes.alive for job in jobs)


async def test_a_loss_meanwhile_gives_owners_a_lease_again_before_others_carry_their_jobs_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first state in an epoch stays, and that of the owner is the newest one."""
    monkeypatch.setattr(holdings, "PORTION", 1)
    carried, began = list[tuple[str, float]](), dict[str, float]()
    carry_over, dumps = MemoryNode.carry_over, list[Any]()

    async with cluster(3) as nodes:

        async def carry(node: MemoryNode, fence: Fence, jobs: Sequence[StoredJob]) -> bool:
            owned = next(house.owned for house in nodes.houses if house.journal is node)
            if fence.shard not in owned:
                carried.append((node.epoch, nodes.clock.monotonic()))
                if not dumps:
                    dumps.append(memory(nodes).dump())
                    assert await carry_over(node, fence, jobs)
                    await node.catch_up()
                    before = node.epoch
                    memory(nodes).restore(dumps[0])
                    while node.epoch == before:  # noqa: ASYNC110 - its tail runs meanwhile
                        await asyncio.sleep(0)
                    began[node.epoch] = nodes.clock.monotonic()
                    return True
            return await carry_over(node, fence, jobs)

        jobs = [await nodes.houses[0].relay.requests.follow("single", f"t{number}") for number in range(24)]
        await nodes.advance(2 * INTERVAL)
        await nodes.kill(nodes.owner(jobs[0]))
        memory(nodes).flush()
        joined = await nodes.add()
        monkeypatch.setattr(MemoryNode, "carry_over", carry)
        await nodes.advance(6 * LEASE)
        nodes.world.said |= {f"t{number}": FINISHED for number in range(24)}
        await nodes.advance(3 * INTERVAL)

        assert [joined.relay.job(job.id).state.status for job in jobs] == ["succeeded"] * 24
        assert began, carried
        assert min(at - began[epoch] for epoch, at in carried if epoch in began) >= LEASE


async def test_jobs_that_had_ended_before_a_loss_are_known_to_every_node_and_to_one_that_joins_later() -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow("single", "t")
        nodes.world.said["t"] = FINISHED
        await nodes.advance(3 * INTERVAL)
        ended = job.state
        memory(nodes).flush()
        await nodes.advance(3 * LEASE)
        joined = await nodes.add()
        await nodes.kill(nodes.houses[0])
        await nodes.advance(6 * LEASE)
        states = [house.job(job).state for house in [*nodes.alive, joined]]

        assert {(state.seq, state.status, state.terminal) for state in states} == {
            (ended.seq, "succeeded", ended.terminal)
        }
        assert [entry.stored is not None for entry in memory(nodes).entries] == [True], "carried over once"
        assert nodes.world.polls("single")[-1] < nodes.clock.monotonic() - 6 * LEASE, "nobody polls it"


async def test_a_node_starts_once_its_engine_is_there_and_says_that_it_waits() -> None:
    engine, clock = MemoryEngine(), ManualClock()
    engine.down = True
    notices = list[str]()
    relay = Relay([], journal=MemoryNode(engine, "n"), clock=clock, notify=notices.append)
    entering = asyncio.ensure_future(relay.__aenter__())
    await clock.advance(3)
    waiting = entering.done()
    engine.down = False
    await clock.advance(1)
    await entering
    await relay.__aexit__(None, None, None)

    assert (waiting, notices[0]) == (False, "the engine cannot be reached; it is tried again")


async def test_a_node_does_not_start_if_its_engine_stays_away() -> None:
    engine, clock = MemoryEngine(), ManualClock(auto=True)
    engine.down = True
    relay = Relay([], journal=MemoryNode(engine, "n"), clock=clock, notify=lambda _: None, enter_within=5.0)
    with pytest.raises(JournalError, match="cannot be reached"):
        await relay.__aenter__()

    assert (clock.monotonic() <= 5.0, relay.running) == (True, False)


async def test_a_node_that_ends_while_its_engine_is_down_ends_in_bounded_time_and_says_what_is_lost() -> None:
    async with cluster(1, leave_within=0.05, submit_grace=0.05) as nodes:
        (house,) = nodes.houses
        await house.relay.requests.follow("single", "t")
        memory(nodes).down = True
        await nodes.advance(0)
        nodes.houses.remove(house)
        leaving = asyncio.ensure_future(house.leave())
        await nodes.advance(3)  # for what is written a last time; the rest has real time
        await leaving

        assert "this node did not leave the cluster within 0.05 s; its leases end by themselves" in house.notices


# Leases


@UPSTREAMS
async def test_records_of_a_node_that_has_lost_its_lease_are_refused_and_the_new_owner_goes_on(upstream: str) -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow(upstream, "t")
        await nodes.advance(2 * INTERVAL)
        loser = nodes.owner(job)
        link(loser).requests.close()
        await nodes.advance(1.5 * LEASE)
        link(loser).requests.open()
        await nodes.advance(2 * LEASE)
        nodes.world.said["t"] = FINISHED
        await nodes.advance(2 * INTERVAL)

        assert all(is_whole(house, job.id) for house in nodes.houses)
        assert {house.job(job).state.status for house in nodes.houses} == {"succeeded"}
        await nodes.same_everywhere()
        newest: dict[int, int] = {}
        claims = [(head, shard, token) for shard, token, _, head in memory(nodes).claims]
        for entry in memory(nodes).entries:
            assert entry.record is not None
            shard = nodes.houses[0].relay.requests._holdings.shard_of(job)  # type: ignore[attr-defined]
            newest[shard] = max([token for head, of, token in claims if of == shard and head < entry.offset])
            assert entry.token == newest[shard]


async def with_moved_submissions(nodes: Cluster) -> tuple[House, House, list[Job]]:
    """A node that is submitting jobs, another that owns some of them since, and these."""
    (first,) = nodes.houses
    nodes.world.accepting.clear()
    jobs = [await first.relay.requests.submit("single", {"number": number}) for number in range(12)]
    joined = await nodes.add()
    await nodes.advance(2.5 * LEASE)
    moved = [job for job in jobs if joined.polls(job)]
    assert 0 < len(moved) < 12
    return first, joined, moved


async def test_the_outcome_of_a_submission_reaches_the_node_that_owns_the_job_by_then() -> None:
    async with cluster(1) as nodes:
        first, joined, moved = await with_moved_submissions(nodes)
        before = {joined.job(job).state.status for job in moved}
        nodes.world.accepting.set()
        await nodes.advance(INTERVAL)

        assert before == {"queued"}
        assert any("was handed over before it had settled" in notice for notice in first.notices)
        for house in nodes.houses:
            assert sorted(str(job.state.task) for job in house.relay.jobs()) == sorted(
                f"task_{number}" for number in range(1, 13)
            )
            assert all(is_whole(house, job.id) for job in house.relay.jobs())
        assert len(nodes.world.submitted) == 12
        polled = {task for _, node, _, tasks in nodes.world.requests if node == joined.name for task in tasks}
        assert {job.state.task for job in moved} <= polled


async def test_a_submission_of_a_node_that_is_killed_after_it_lost_the_job_is_lost() -> None:
    async with cluster(1) as nodes:
        first, joined, moved = await with_moved_submissions(nodes)
        await nodes.kill(first)
        nodes.world.accepting.set()
        before = [joined.job(job).ended for job in moved]
        await nodes.advance(2 * LEASE)

        assert not any(before)
        for job in joined.relay.jobs():
            assert joined.events(job.id) == ["accepted", "failed"]
            assert job.state.text == f"failed (lost): {INTERRUPTED}"
        assert len(nodes.world.submitted) == 12


@UPSTREAMS
async def test_the_outcome_of_a_submission_that_comes_while_the_engine_is_away_is_published_once_it_is_back(
    upstream: str,
) -> None:
    async with cluster(2) as nodes:
        nodes.world.accepting.clear()
        job = await nodes.houses[0].relay.requests.submit(upstream, {})
        await nodes.advance(0.1)
        memory(nodes).down = True
        await nodes.advance(1)
        nodes.world.accepting.set()
        await nodes.advance(3 * LEASE)
        memory(nodes).down = False
        await nodes.advance(3 * LEASE)

        assert {house.job(job).state.task for house in nodes.houses} == {"task_1"}
        assert not job.ended
        assert all(is_whole(house, job.id) for house in nodes.houses)
        assert nodes.world.polls(upstream)
        assert len(nodes.world.submitted) == 1


async def test_the_outcome_of_a_submission_that_comes_behind_the_end_of_its_job_is_a_notice() -> None:
    async with cluster(2) as nodes:
        nodes.world.accepting.clear()
        job = await nodes.houses[0].relay.requests.submit("single", {})
        await nodes.advance(0.1)
        owner = nodes.owner(job)
        link(owner).requests.close()
        await nodes.advance(2 * LEASE)
        link(owner).requests.open()
        await nodes.advance(LEASE)
        nodes.world.accepting.set()
        await nodes.advance(1)

        assert {house.job(job).state.text for house in nodes.houses} == {f"failed (lost): {INTERRUPTED}"}
        assert f"{job.id} has ended, and its submission has led to task task_1 all the same" in owner.notices


async def test_a_node_whose_renewals_are_not_answered_polls_nothing_when_another_may_begin_to() -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow("single", "t")
        owner = nodes.owner(job)

        async def lost(_: object) -> frozenset[int]:
            raise JournalError("no answer")

        link(owner).beat = lost  # type: ignore[method-assign, assignment]
        began = nodes.clock.monotonic()
        await nodes.advance(3 * LEASE)
        polled = [at - began for at, node, _, _ in nodes.world.requests if node == owner.name]

        assert polled
        # The last renewal may have begun a third of a lease before; it is looked at twenty times in a lease.
        assert max(polled) <= (2 / 3 + 1 / 20) * LEASE
        assert any("so it polls nothing" in problem for problem in owner.relay.problems())
        assert not [notice for notice in owner.notices if "dropped" in notice], "nothing was published in vain"
        assert nodes.owner(job) is not owner


async def test_a_shard_is_polled_by_its_new_owner_once_that_has_all_that_the_old_one_appended() -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow("single", "t")
        owner = nodes.owner(job)
        (heir,) = nodes.others(owner)
        link(heir).tail.close()
        await nodes.advance(2 * INTERVAL)
        await nodes.kill(owner)
        await nodes.advance(2 * LEASE)
        before = [node for _, node, _, _ in nodes.world.requests if node == heir.name]
        link(heir).tail.open()
        await nodes.advance(2 * INTERVAL)

        assert (before, heir.polls(job), is_whole(heir, job.id)) == ([], True, True)
        assert heir.notices == [notice for notice in heir.notices if "refused" not in notice]


async def test_jobs_that_another_node_has_got_are_polled_by_that_alone() -> None:
    async with cluster(1) as nodes:
        (first,) = nodes.houses
        early = [await first.relay.requests.follow("single", f"early {number}") for number in range(24)]
        await nodes.advance(2 * INTERVAL)
        joined = await nodes.add()
        await nodes.advance(0.95 * LEASE)
        link(first).tail.close()  # these are in the journal, and not known to be, when their shards are handed over
        following = [asyncio.ensure_future(first.relay.requests.follow("single", f"t{number}")) for number in range(24)]
        await nodes.advance(0.35 * LEASE)
        link(first).tail.open()
        await nodes.advance(1)
        jobs = [*early, *await asyncio.gather(*following)]
        await nodes.settle()
        moved = {job.state.task for job in jobs if joined.polls(job)}
        polls = [(at, node, task) for at, node, _, tasks in nodes.world.requests for task in tasks]
        settled = nodes.clock.monotonic() - 2 * INTERVAL

        assert 0 < len(moved) < len(jobs)
        assert {node for at, node, task in polls if at > settled and task in moved} == {joined.name}
        assert {node for at, node, task in polls if at > settled and task not in moved} == {first.name}
        for task in moved:
            begun = min(at for at, node, polled in polls if polled == task and node == joined.name)
            assert [at for at, node, polled in polls if polled == task and node == first.name and at > begun] == []
        assert not [notice for house in nodes.houses for notice in house.notices if "refused" in notice]


# Messages


async def test_a_request_whose_owner_does_not_answer_fails_in_bounded_time_and_may_be_repeated() -> None:
    async with cluster(2) as nodes:
        account = await nodes.houses[0].relay.requests.follow("listing", "t")
        owner = nodes.owner(account)
        (other,) = nodes.others(owner)
        await nodes.kill(owner)
        began = nodes.clock.monotonic()
        waiting = asyncio.ensure_future(other.relay.requests.submit("listing", {"a": 1}, key="k"))
        await nodes.advance(9.9)
        too_soon = waiting.done()
        await nodes.advance(0.2)
        with pytest.raises(UnavailableError, match="does not answer"):
            await waiting
        assert (too_soon, nodes.clock.monotonic() - began <= LEASE + 0.2) == (False, True)
        await nodes.advance(2 * LEASE)
        job = await other.relay.requests.submit("listing", {"a": 1}, key="k")
        assert (await other.relay.requests.submit("listing", {"a": 1}, key="k")) is job
        await nodes.advance(INTERVAL)
        assert len(nodes.world.submitted) == 1


async def test_a_request_that_could_not_be_sent_is_sent_again_within_its_time() -> None:
    async with cluster(2) as nodes:
        account = await nodes.houses[0].relay.requests.follow("listing", "t")
        (other,) = nodes.others(nodes.owner(account))
        memory(nodes).refusing = "OOM command not allowed"
        waiting = asyncio.ensure_future(other.relay.requests.submit("listing", {"a": 1}))
        await nodes.advance(3)
        memory(nodes).refusing = None
        await nodes.advance(3)

        assert (await waiting).state.upstream == "listing"
        assert len(nodes.world.submitted) == 1


async def test_a_request_that_is_sent_twice_is_carried_out_once() -> None:
    async with cluster(2) as nodes:
        account = await nodes.houses[0].relay.requests.follow("listing", "t")
        owner = nodes.owner(account)
        (other,) = nodes.others(owner)
        link(other).replies.close()  # the answer of the engine is held back: the request is there, and is sent again
        waiting = asyncio.ensure_future(other.relay.requests.submit("listing", {"a": 1}))
        await nodes.advance(5)
        link(other).replies.open()
        await nodes.advance(1)
        job = await waiting
        repeated = [command for command in memory(nodes).commands if command.op == "submit"]
        memory(nodes).commands.extend(repeated)
        memory(nodes).announce()
        await nodes.advance(1)

        assert (len(nodes.world.submitted), len(other.relay.jobs())) == (1, 2)
        assert other.job(job).state.task == "task_1"


async def test_a_message_that_cannot_be_read_is_a_notice_and_nothing_else() -> None:
    async with cluster(1) as nodes:
        (house,) = nodes.houses
        for number, body in enumerate((b"", b"{}", b'{"type":"follow"}', b'{"type":"dance","job":"x"}', b"\xff")):
            await link(house).send(Command(id=f"c{number}", op="follow", sender="elsewhere", body=body))
        await nodes.advance(0.1)

        assert len(house.notices) == 5
        assert all("which this version cannot read" in notice for notice in house.notices)


async def test_news_of_a_task_reaches_the_node_that_polls_it() -> None:
    async with cluster(2) as nodes:
        job = await nodes.houses[0].relay.requests.follow("single", "t")
        await nodes.advance(2 * INTERVAL + 0.5)
        owner = nodes.owner(job)
        (other,) = nodes.others(owner)
        before = len(nodes.world.polls("single"))
        known = await other.relay.requests.wake("single", "t")
        await nodes.advance(0.2)

        assert (known, len(nodes.world.polls("single")) - before) == (True, 1)
        assert not await other.relay.requests.wake("single", "elsewhere")


# What a relay refuses


async def test_what_has_to_be_awaited_is_refused_with_a_sentence_that_says_how() -> None:
    async with cluster(1) as nodes:
        relay = nodes.houses[0].relay
        with pytest.raises(UsageError, match=r"`await relay\.requests\.follow\(\.\.\.\)`"):
            relay.follow("single", "t")
        with pytest.raises(UsageError, match=r"`await relay\.requests\.submit\(\.\.\.\)`"):
            relay.submit("single", {})
        assert relay.jobs() == []


async def test_an_input_that_is_too_long_for_the_way_to_another_node_is_refused_at_every_node() -> None:
    async with cluster(2) as nodes:
        for house in nodes.houses:
            for upstream in ("listing", "single"):
                with pytest.raises(UsageError, match="at most 1,000 KiB"):
                    await house.relay.requests.submit(upstream, {"image": "a" * 1024 * 1024})
        assert nodes.world.submitted == []


async def test_a_sink_with_a_place_in_the_journal_is_refused() -> None:
    async with cluster(1) as nodes:
        relay = nodes.houses[0].relay
        with pytest.raises(UsageError, match="cannot be durable: a journal that several nodes share"):
            await relay.add_sink(id, durable=True, name="d")
        for since in ("start", Position(nodes.houses[0].journal.epoch, 0)):
            with pytest.raises(UsageError, match="cannot begin in the past"):
                await relay.add_sink(id, since=since)
        sink = await relay.add_sink(id, since="now")
        assert sink in relay.sinks


async def test_a_cluster_needs_a_journal_that_is_shared() -> None:
    with pytest.raises(UsageError, match="a cluster needs a journal that its nodes share"):
        Relay([], journal=MemoryJournal(), cluster=ClusterOptions())
