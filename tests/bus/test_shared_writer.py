"""A batch is appended once, whatever becomes of its request and its reply; a refusal is for one job alone."""

import asyncio
from collections.abc import Sequence

import pytest

from relay.errors import JournalError, UnavailableError
from relay.events import Accepted, Log
from relay.jobs.state import JobState
from relay.journal.shared import Command, Draft, Fence, Refusal
from relay.testing import ManualClock
from tests.cluster.buses import Node, running
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode


class Calls(MemoryNode):
    """A node that notes the number and the drafts of each call."""

    def __init__(self, engine: MemoryEngine, name: str) -> None:
        super().__init__(engine, name)
        self.made: list[tuple[int, list[tuple[str, int]]]] = []

    async def append(self, number: int, drafts: Sequence[Draft]) -> Sequence[Refusal | None]:
        self.made.append((number, [(draft.stored.id, draft.seq) for draft in drafts]))
        return await super().append(number, drafts)


class Cluster:
    """Two nodes of one engine; `a` owns shard 0."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.clock = ManualClock()
        self.at_a, self.at_b = Calls(self.engine, "a"), MemoryNode(self.engine, "b")
        self.a, self.b = Node(self.at_a, self.clock), Node(self.at_b, self.clock)

    @property
    def stream(self) -> list[tuple[str, int]]:
        return [(entry.record.job, entry.record.seq) for entry in self.engine.entries if entry.record is not None]

    async def retry(self) -> None:
        """Let the time pass that a batch waits for before it is sent again."""
        await self.clock.sleeping()
        await self.clock.advance(1.0)


@pytest.fixture
async def cluster() -> Cluster:
    cluster = Cluster()
    await cluster.a.open()
    await cluster.b.open()
    await cluster.a.claim()
    return cluster


async def test_one_batch_is_in_flight_and_the_next_gathers_meanwhile(cluster: Cluster) -> None:
    a, at_a = cluster.a, cluster.at_a
    at_a.replies.close()
    async with running(a):
        job = a.begin("one")
        await at_a.replies.holds()
        a.say(job, *map(str, range(250)))
        assert (at_a.made, at_a.replies.held) == ([(1, [("one", 1)])], 1)
        at_a.replies.open()
        await a.received(251)

    assert [(number, len(drafts)) for number, drafts in at_a.made] == [(1, 1), (2, 100), (3, 100), (4, 50)]
    assert cluster.stream == [("one", seq) for seq in range(1, 252)]


async def test_a_lost_reply_repeats_the_batch_with_its_number_and_doubles_nothing(cluster: Cluster) -> None:
    a, at_a = cluster.a, cluster.at_a
    at_a.replies.close()
    at_a.lost_replies = 2
    async with running(a):
        job = a.begin("one")
        await a.received(1)
        a.say(job, "meanwhile")
        assert (a.bus.waiting, job.state.seq) == (1, 1), "the tail has brought it, though no reply came"
        at_a.replies.open()
        await cluster.retry()
        await a.received(2)

    assert at_a.made == [(1, [("one", 1)])] * 3 + [(2, [("one", 2)])]
    assert cluster.stream == [("one", 1), ("one", 2)]
    assert a.events() == [("one", 1, Accepted(upstream="u", task="one")), ("one", 2, Log(line="meanwhile"))]
    assert a.notices[0].startswith("the connection was lost before the reply; records wait")
    assert a.notices[1:] == ["the journal can be written again"]


async def test_a_request_that_is_carried_out_long_after_it_was_given_up_doubles_nothing(cluster: Cluster) -> None:
    a, at_a = cluster.a, cluster.at_a
    at_a.requests.close()
    async with running(a):
        job = a.begin("one")
        await at_a.requests.holds(1)
        at_a.time_out()
        await cluster.retry()
        await at_a.requests.holds(2)
        at_a.requests.open()
        a.say(job, "two")
        await a.received(2)
        await at_a.acknowledged()
    assert cluster.stream == [("one", 1), ("one", 2)]
    assert [record.seq for _, record in a.records] == [1, 2]


async def test_a_run_that_is_cancelled_over_a_batch_goes_on_with_its_number(cluster: Cluster) -> None:
    a, at_a = cluster.a, cluster.at_a
    at_a.requests.close()
    task = asyncio.ensure_future(a.bus.run())
    a.begin("one")
    await at_a.requests.holds()
    task.cancel()
    await asyncio.wait([task])
    at_a.requests.open()
    async with running(a):
        await a.received(1)
        await at_a.acknowledged()
    assert at_a.made == [(1, [("one", 1)])] * 2
    assert cluster.stream == [("one", 1)]


async def test_a_run_ends_although_a_client_drops_its_cancellation(cluster: Cluster) -> None:
    class Deaf(MemoryNode):
        async def append(self, number: int, drafts: Sequence[Draft]) -> Sequence[Refusal | None]:
            try:
                return await super().append(number, drafts)
            except asyncio.CancelledError:
                raise JournalError("no answer in time") from None

    node = Node(deaf := Deaf(cluster.engine, "c"), cluster.clock)
    await node.open()
    await node.claim()
    deaf.requests.close()
    async with running(node):
        node.begin("one")
        await deaf.requests.holds()
    assert node.bus.waiting == 1


@pytest.mark.parametrize("reason", ["fenced", "hole", "nobody"])
async def test_a_refusal_drops_the_drafts_of_one_job_and_its_state_is_that_of_the_tail(
    cluster: Cluster, reason: str
) -> None:
    a, at_a = cluster.a, cluster.at_a
    async with running(a):
        one, two = a.begin("one"), a.begin("two")
        await a.received(2)
        at_a.requests.close()
        if reason == "fenced":
            a.fences["one"] = Fence(0, 99)
        elif reason == "nobody":
            a.held, a.fences["two"] = None, Fence(0, 1)
        else:
            one.state = JobState(upstream="u", task="one", seq=4)
        ahead = a.bus.pending(one)
        for line in "xyz":
            a.say(one, line)
            a.say(two, line)
        assert (a.bus.pending(one).seq, a.bus.waiting) == (ahead.seq + 3, 6)
        at_a.requests.open()
        await a.received(5)
        assert (a.bus.pending(one), a.bus.waiting) == (one.state, 0)
        await asyncio.wait_for(a.bus.settled(one), 1)

    assert cluster.stream == [("one", 1), ("two", 1), ("two", 2), ("two", 3), ("two", 4)]
    assert a.refused == [("one", "fenced" if reason == "nobody" else reason)]
    assert a.notices == [
        "3 records of 1 jobs are dropped: the journal has refused them, since another node polls these jobs by now"
    ]


async def test_a_record_of_another_node_drops_what_waits_here_of_its_job(cluster: Cluster) -> None:
    a, b, at_a = cluster.a, cluster.b, cluster.at_a
    async with running(a, b):
        job = a.begin("one")
        await b.received(1)
        at_a.requests.close()
        a.say(job, "mine", "mine too")
        await at_a.requests.holds()
        await b.claim()
        b.say(b.jobs["one"], "the new owner's")
        await a.received(2)
        assert (a.bus.waiting, a.bus.pending(job), job.state.text) == (0, job.state, "the new owner's")
        assert a.refused == [("one", "fenced")]
        at_a.requests.open()
        await at_a.acknowledged()
        b.say(b.jobs["one"], "another")
        assert await a.received(3) == await b.received(3)
    assert [own for own, _ in a.records] == [True, False, False]
    assert [own for own, _ in b.records] == [False, True, True]
    assert cluster.stream == [("one", 1), ("one", 2), ("one", 3)]
    assert len(a.notices) == 1


async def test_drafts_that_the_tail_never_brought_are_sent_again_in_a_new_epoch_once(cluster: Cluster) -> None:
    a, at_a, engine = cluster.a, cluster.at_a, cluster.engine
    begun = list[str]()
    leave = a.bus.when_begun_anew(lambda: begun.append(at_a.epoch))
    async with running(a):
        job = a.begin("one")
        await a.received(1)
        dump, epoch = engine.dump(), at_a.epoch
        at_a.tail.close()
        a.say(job, "acknowledged", "too")
        await at_a.tail.holds()
        await at_a.acknowledged()
        assert (len(engine.entries), a.bus.waiting, a.bus.problems()) == (3, 2, [])
        engine.restore(dump)
        a.say(job, "published meanwhile")
        at_a.tail.open()
        await a.received(4)
        leave()
        assert (begun, a.carried_over) == ([at_a.epoch], [at_a.epoch])

    assert at_a.epoch != epoch
    assert [record.seq for _, record in a.records] == [1, 2, 3, 4]
    assert cluster.stream == [("one", 2), ("one", 3), ("one", 4)]
    assert [entry.record is None for entry in engine.entries] == [True, False, False, False]
    assert [record.position.epoch for _, record in a.records] == [epoch, *[at_a.epoch] * 3]
    assert job.state.offset == engine.entries[-1].offset


async def test_a_refusal_of_the_old_epoch_that_comes_late_means_nothing_in_the_new_one(cluster: Cluster) -> None:
    a, at_a, engine = cluster.a, cluster.at_a, cluster.engine
    async with running(a):
        job = a.begin("one")
        await a.received(1)
        at_a.replies.close()
        a.fences["one"] = Fence(0, 99)
        a.say(job, "refused at first")
        await at_a.replies.holds()
        engine.flush()
        await a.until(lambda: a.begun)
        a.fences.clear()
        at_a.replies.open()
        await a.received(2)
    assert (cluster.stream, a.refused, a.notices) == ([("one", 2)], [], [])


async def test_what_must_come_before_the_first_append_is_tried_until_it_succeeds(cluster: Cluster) -> None:
    a, engine = cluster.a, cluster.engine
    async with running(a):
        job = a.begin("one")
        await a.received(1)
        engine.refusing = "OOM"
        engine.flush()
        await a.bus.write_blocked.wait()
        a.say(job, "waits")
        await cluster.retry()
        assert (cluster.stream, a.bus.waiting, a.bus.problems()[0][:3]) == ([], 1, "OOM")
        engine.refusing = None
        await cluster.retry()
        await a.received(2)
    assert cluster.stream == [("one", 2)]
    assert a.carried_over == a.begun == [cluster.at_a.epoch]


@pytest.mark.parametrize("carried_over", ["older", "newer"])
async def test_a_node_takes_over_the_state_that_an_owner_carried_over(cluster: Cluster, carried_over: str) -> None:
    a, b, engine = cluster.a, cluster.b, cluster.engine
    async with running(a, b):
        job = a.begin("one")
        a.say(job, "both know this")
        await b.received(2)
        cluster.at_b.tail.close()
        a.say(job, "this is known to a alone")
        await a.received(3)
        owner = a
        if carried_over == "older":
            await b.claim()
            owner, a.held = b, None
        engine.flush()
        cluster.at_b.tail.open()
        await owner.until(lambda: owner.carried_over)
        owner.say(owner.jobs["one"], "goes on")
        await a.received(4)
        await b.received(3)
    assert a.records[-1][1] == b.records[-1][1]
    assert a.jobs["one"].state == b.jobs["one"].state
    assert a.jobs["one"].state.seq == (3 if carried_over == "older" else 4)
    knew_another = a if carried_over == "older" else b
    assert (a.gaps, b.gaps) == ((1, 0) if knew_another is a else (0, 1)), "its readers have a break in their story"


async def test_behind_a_gap_what_the_journal_has_already_is_settled_and_the_rest_goes_on(cluster: Cluster) -> None:
    a, at_a, engine = cluster.a, cluster.at_a, cluster.engine
    async with running(a):
        job = a.begin("one")
        await a.received(1)
        at_a.tail.close()
        at_a.replies.close()
        a.say(job, "trimmed before it was read", "too", "read behind the gap")
        accepting = asyncio.ensure_future(a.bus.accept(a.job("two"), Accepted(upstream="u")))
        await at_a.replies.holds()
        at_a.replies.open()
        await at_a.acknowledged()
        await at_a.acknowledged()
        engine.trim(2)
        a.say(job, "waits")
        at_a.tail.open()
        assert (await accepting).job == "two"
        await a.until(lambda: job.state.seq == 5)
        assert (a.gaps, a.begun, a.refused, a.notices, a.bus.waiting) == (1, [], [], [], 0)
        assert job.state.text == "waits"
    kept = engine.state("one")
    assert kept is not None
    assert kept.state == job.state
    assert [number for number, _ in at_a.made] == [1, 2, 3, 4]


async def test_polling_pauses_while_two_thousand_records_wait_or_one_for_two_seconds(cluster: Cluster) -> None:
    a, at_a, room = cluster.a, cluster.at_a, cluster.a.bus.room
    at_a.requests.close()
    async with running(a):
        job = a.begin("one")
        for number in range(1998):
            a.say(job, str(number))
        assert room.is_set()
        a.say(job, "one more")
        assert not room.is_set()
        assert a.bus.problems() == ["polling pauses, since too many records wait"]
        at_a.requests.open()
        await a.received(2000)
        assert room.is_set()

        at_a.requests.close()
        a.say(job, "first")
        await at_a.requests.holds()
        await cluster.clock.advance(2.5)
        assert room.is_set()
        a.say(job, "second")
        assert not room.is_set()
        at_a.requests.open()
        await a.bus.settled(job)
        assert (room.is_set(), a.bus.problems()) == (True, [])
    assert a.notices == [
        "2,000 records wait for the journal; polling pauses until it can be written",
        "2 records wait for the journal; polling pauses until it can be written",
    ]


async def test_an_engine_that_is_down_is_said_once_and_nothing_is_lost(cluster: Cluster) -> None:
    a, engine = cluster.a, cluster.engine
    async with running(a):
        job = a.begin("one")
        await a.received(1)
        engine.down = True
        a.say(job, "waits")
        await a.bus.write_blocked.wait()
        for _ in range(3):
            await cluster.retry()
            a.say(job, "waits too")
        assert a.bus.problems() == [
            "the engine cannot be reached; records wait in memory until it can be written",
            "polling pauses, since too many records wait",
        ]
        engine.down = False
        await cluster.retry()
        await a.received(5)
        assert (a.bus.problems(), a.bus.room.is_set(), a.bus.write_blocked.is_set()) == ([], True, False)
    assert a.notices == [
        "the engine cannot be reached; records wait in memory until it can be written",
        "3 records wait for the journal; polling pauses until it can be written",
        "the journal can be written again",
    ]


async def test_a_caller_that_goes_away_takes_nothing_with_it(cluster: Cluster) -> None:
    a, at_a = cluster.a, cluster.at_a
    at_a.requests.close()
    async with running(a):
        accepting = asyncio.ensure_future(a.bus.accept(a.job("one"), Accepted(upstream="u")))
        await at_a.requests.holds()
        settling = asyncio.ensure_future(a.bus.settled(a.job("one")))
        await asyncio.sleep(0)
        for task in (accepting, settling):
            task.cancel()
        await asyncio.wait([accepting, settling])
        assert (accepting.cancelled(), settling.cancelled()) == (True, True)
        at_a.requests.open()
        await a.received(1)
        await a.bus.settled(a.job("one"))
    assert cluster.stream == [("one", 1)]


async def test_a_new_job_that_was_never_sent_leaves_nothing_behind(cluster: Cluster) -> None:
    a, at_a = cluster.a, cluster.at_a
    at_a.requests.close()
    async with running(a):
        a.begin("one")
        await at_a.requests.holds()
        accepting = asyncio.ensure_future(a.bus.accept(a.job("two"), Accepted(upstream="u")))
        await cluster.clock.sleeping()
        await cluster.clock.advance(5.0)
        with pytest.raises(UnavailableError):
            await accepting
        assert (a.bus.pending(a.job("two")), a.bus.waiting) == (JobState(), 1)
        at_a.requests.open()
        await a.received(1)
    assert cluster.stream == [("one", 1)]


@pytest.mark.parametrize(
    ("accepted", "ends", "left"),
    [(Accepted(upstream="u"), ["failed"], 0), (Accepted(upstream="u", task="t"), [], 1)],
    ids=["submits", "follows"],
)
async def test_a_given_up_job_that_turns_up_ends_unless_it_follows_a_task(
    cluster: Cluster, accepted: Accepted, ends: list[str], left: int
) -> None:
    a, at_a = cluster.a, cluster.at_a
    async with running(a):
        at_a.replies.close()
        at_a.tail.close()
        accepting = asyncio.ensure_future(a.bus.accept(a.job("two"), accepted))
        await at_a.replies.holds()
        await cluster.clock.sleeping()
        await cluster.clock.advance(5.0)
        with pytest.raises(UnavailableError):
            await accepting
        at_a.tail.open()
        at_a.replies.open()
        await a.received(1 + len(ends))
    assert [event.type for _, _, event in a.events()] == ["accepted", *ends]
    assert len(a.unattended) == left


async def test_a_given_up_job_is_not_begun_in_a_new_epoch(cluster: Cluster) -> None:
    a, at_a, engine = cluster.a, cluster.at_a, cluster.engine
    async with running(a):
        at_a.requests.close()
        accepting = asyncio.ensure_future(a.bus.accept(a.job("two"), Accepted(upstream="u")))
        await at_a.requests.holds()
        await cluster.clock.sleeping()
        await cluster.clock.advance(5.0)
        with pytest.raises(UnavailableError):
            await accepting
        engine.flush()
        await a.until(lambda: a.bus.waiting == 0)
        at_a.requests.open()
        a.begin("three")
        await a.received(1)
    assert cluster.stream == [("three", 1)]


async def test_a_job_that_was_let_go_sends_nothing_more_and_what_was_under_way_is_received(cluster: Cluster) -> None:
    a, at_a = cluster.a, cluster.at_a
    at_a.requests.close()
    async with running(a):
        job = a.begin("one")
        await at_a.requests.holds()
        a.say(job, "never sent")
        accepting = asyncio.ensure_future(a.bus.accept(a.job("two"), Accepted(upstream="u")))
        await cluster.clock.sleeping()
        a.bus.withdraw(job)
        a.bus.withdraw(a.job("two"))
        with pytest.raises(UnavailableError):
            await accepting
        assert (a.bus.waiting, a.bus.pending(job)) == (0, JobState())
        at_a.requests.open()
        await a.received(1)
        assert job.state.seq == 1
    assert cluster.stream == [("one", 1)]
    assert a.notices == []


async def test_an_orderly_end_waits_for_what_is_under_way_but_not_for_a_dead_engine(cluster: Cluster) -> None:
    a, at_a, engine = cluster.a, cluster.at_a, cluster.engine
    await a.bus.drained()
    job = a.begin("one")
    await a.bus.drained()
    assert a.bus.waiting == 1, "nothing runs, so there is nothing to wait for"
    at_a.replies.close()
    at_a.tail.close()
    async with running(a):
        await at_a.replies.holds()
        draining = asyncio.ensure_future(a.bus.drained())
        await cluster.clock.sleeping()
        at_a.replies.open()
        at_a.tail.open()
        await draining
        assert (a.bus.waiting, cluster.stream) == (0, [("one", 1)])
        engine.down = True
        a.say(job, "lost", "lost too")
        await a.bus.write_blocked.wait()
        draining = asyncio.ensure_future(a.bus.drained())
        await cluster.clock.sleeping(2)
        await cluster.clock.advance(1.0)
        await draining
        assert a.bus.waiting == 2
    assert a.notices[-1] == "2 records that waited for the journal were not appended, as far as is known"
    assert at_a.problem is not None


async def test_commands_are_passed_on_and_what_fails_on_one_entry_fails_on_no_other(cluster: Cluster) -> None:
    a, at_b = cluster.a, cluster.at_b

    def fail(*_: object) -> None:
        raise ValueError("mine")

    a.bus.when_begun_anew(fail)
    async with running(a):
        job = a.begin("one")
        await a.received(1)
        await at_b.send(Command(id="1", op="cancel", sender="b"))
        await a.received(1)
        a.say(job, "x")
        await a.received(2)
        assert [command.id for command in a.commands] == ["1"]
        cluster.engine.flush()
        await a.until(lambda: a.carried_over)
        a.say(job, "y")
        await a.received(3)
    assert a.notices == ["a listener of new epochs failed: ValueError: mine"]


async def test_the_delay_of_a_record_counts_from_the_answer_that_it_follows_from(cluster: Cluster) -> None:
    a, answered = cluster.a, list[float | None]()
    a.bus.subscribe(lambda _: answered.append(a.bus.answered))
    async with running(a):
        job = a.begin("one")
        a.bus.publish(job, Log(line="x"), answered=7.0)
        await a.received(2)
    assert answered == [None, 7.0]
