"""The bus on a journal that several nodes share: the tail alone publishes, in the same order on every node."""

import asyncio

import pytest

from relay.bus.bus import Bus
from relay.bus.sharing import TakenError
from relay.bus.upkeep import Upkeep
from relay.errors import UnavailableError, UsageError
from relay.events import Accepted, Done, Failed, Log, Record
from relay.jobs.state import Job, recall
from relay.journal import MemoryJournal
from relay.testing import ManualClock
from tests.cluster.buses import Node, running
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode


class Cluster:
    """Two nodes of one engine; `a` owns shard 0."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.at_a, self.at_b = MemoryNode(self.engine, "a"), MemoryNode(self.engine, "b")
        self.clock = ManualClock()
        self.a, self.b = Node(self.at_a, self.clock), Node(self.at_b, self.clock)

    async def begin(self) -> None:
        for node in (self.a, self.b):
            await node.open()
        await self.a.claim()

    @property
    def stream(self) -> list[tuple[str, int]]:
        return [(entry.record.job, entry.record.seq) for entry in self.engine.entries if entry.record is not None]


@pytest.fixture
async def cluster() -> Cluster:
    cluster = Cluster()
    await cluster.begin()
    return cluster


def test_a_shared_journal_needs_a_node() -> None:
    with pytest.raises(UsageError, match="sharing"):
        Bus(MemoryNode(MemoryEngine(), "a"))


async def test_on_a_journal_of_one_process_the_same_calls_never_wait() -> None:
    bus, job, sent = Bus(MemoryJournal(), clock=ManualClock()), Job("one"), list[tuple[bool, Record]]()
    bus.subscribe(lambda record: sent.append((bus.own, record)))
    accepting = bus.accept(job, Accepted(upstream="u"), key="k", unique="u:k")
    with pytest.raises(StopIteration) as returned:
        accepting.send(None)
    assert sent == [(True, returned.value.value)]
    for ends_at_once in (bus.settled(job), bus.drained(), bus.run()):
        with pytest.raises(StopIteration):
            ends_at_once.send(None)
    with bus.batch():
        bus.publish(job, Log(line="waits for the end of its batch"))
        bus.withdraw(job)
    bus.when_begun_anew(sent.clear)()
    await bus.close()
    assert [record.seq for _, record in sent] == [1, 2]


async def test_a_first_record_on_a_shared_journal_has_to_be_awaited(cluster: Cluster) -> None:
    with pytest.raises(UsageError, match=r"await bus\.accept"):
        cluster.a.bus.publish_first(cluster.a.job("one"), Accepted(upstream="u"))
    assert cluster.a.bus.waiting == 0


async def test_the_upkeep_of_a_shared_journal_waits_for_what_is_under_way_and_closes_it(cluster: Cluster) -> None:
    a, at_a = cluster.a, cluster.at_a
    upkeep = Upkeep(a.bus, cluster.clock)
    at_a.replies.close()
    at_a.tail.close()
    async with running(a):
        a.begin("one")
        await at_a.replies.holds()
        settling = asyncio.ensure_future(upkeep.settle())
        await cluster.clock.sleeping()
        a.bus.check()
        at_a.replies.open()
        at_a.tail.open()
        await settling
    await upkeep.close()
    assert (a.bus.waiting, a.notices) == (0, [])


async def test_what_one_node_publishes_every_node_sends_in_the_same_order_with_the_same_bytes(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    async with running(a, b):
        one, two = a.begin("one"), a.begin("two")
        for number in range(150):
            a.say((one, two)[number % 2], f"line {number}")
        before = a.bus.pending(one), one.state.seq, a.bus.waiting, a.records
        assert (before[0].seq, before[0].offset, *before[1:]) == (76, 0, 0, 152, [])
        records = await a.received(152)
        assert records == await b.received(152)

    assert [record.position.offset for record in records] == list(range(1, 153))
    assert ({own for own, _ in a.records}, {own for own, _ in b.records}) == ({True}, {False})
    assert (a.bus.waiting, a.bus.pending(one)) == (0, one.state)
    for job in (one, two):
        assert job.state == recall([record for record in records if record.job == job.id])
        assert b.jobs[job.id].state == job.state
    assert a.notices == b.notices == []
    a.bus.publish(one, Done())
    with pytest.raises(UsageError, match="ended"):
        a.bus.publish(one, Log(line="late"))


async def test_nothing_is_sent_before_the_tail_brings_it(cluster: Cluster) -> None:
    a, job = cluster.a, cluster.a.begin("one")
    cluster.at_a.tail.close()
    cluster.at_a.replies.close()
    async with running(a):
        await cluster.at_a.replies.holds()
        cluster.at_a.replies.open()
        await cluster.at_a.acknowledged()
        assert (a.records, job.state.seq, a.bus.waiting, a.bus.pending(job).seq) == ([], 0, 1, 1)
        cluster.at_a.tail.open()
        await a.bus.settled(job)
        assert (len(a.records), job.state.seq, a.bus.waiting) == (1, 1, 0)


async def test_a_sink_may_not_publish_and_one_that_fails_is_alone(cluster: Cluster) -> None:
    a, caught = cluster.a, list[str]()

    def bad(record: Record) -> None:
        try:
            a.bus.publish(a.job("one"), Log(line="no"))
        except UsageError as error:
            caught.append(str(error))
        raise ValueError("mine")

    a.bus.subscribe(bad, name="bad")
    heard = list[int]()
    a.bus.subscribe(lambda record: heard.append(record.seq))
    async with running(a):
        a.say(a.begin("one"), "x")
        await a.received(2)
    assert (heard, len(caught)) == ([1, 2], 2)
    assert a.notices == ["sink bad failed on one seq 1: ValueError: mine; it misses this record, the others do not"]


async def test_an_acceptance_returns_once_the_record_was_sent_here(cluster: Cluster) -> None:
    a, b = cluster.a, cluster.b
    async with running(a, b):
        record = await a.bus.accept(a.job("one", "me"), Accepted(upstream="u"), key="k", digest=b"d", unique="u:k")
        assert ([sent for _, sent in a.records], record.position.offset) == ([record], 1)
        await b.received(1)
        assert b.jobs["one"].owner == "me"
        with pytest.raises(TakenError) as taken:
            await a.bus.accept(a.job("two"), Accepted(upstream="u"), unique="u:k")
        assert taken.value.job == "one"
        assert (a.bus.pending(a.job("two")).seq, a.bus.waiting, a.refused) == (0, 0, [])
    stored = cluster.engine.state("one")
    assert stored is not None
    assert (stored.key, stored.digest, stored.owner) == ("k", b"d", "me")


async def test_an_acceptance_of_unknown_outcome_is_refused_after_five_seconds_and_ends_if_it_turns_up(
    cluster: Cluster,
) -> None:
    a, job = cluster.a, cluster.a.job("one")
    async with running(a):
        cluster.at_a.replies.close()
        accepting = asyncio.ensure_future(a.bus.accept(job, Accepted(upstream="u")))
        cluster.at_a.tail.close()
        await cluster.at_a.replies.holds()
        await cluster.clock.sleeping()
        await cluster.clock.advance(5.0)
        with pytest.raises(UnavailableError, match="no new work is accepted"):
            await accepting
        del a.jobs["one"]  # its caller withdraws it, and the node learns of it by the tail
        cluster.at_a.tail.open()
        cluster.at_a.replies.open()
        await a.received(2)
    assert [type(event) for _, _, event in a.events()] == [Accepted, Failed]
    assert job.state.seq == 0
    job = a.jobs["one"]
    assert (job.state.status, getattr(job.state.terminal, "kind", None)) == ("failed", "lost")


async def test_while_the_engine_has_a_problem_new_work_is_refused_at_once(cluster: Cluster) -> None:
    a = cluster.a
    async with running(a):
        cluster.engine.refusing = "OOM"
        job = a.begin("one")
        await a.bus.write_blocked.wait()
        with pytest.raises(UnavailableError):
            await a.bus.accept(a.job("two"), Accepted(upstream="u"))
        assert a.bus.problems() == ["OOM; records wait in memory until it can be written"]
        cluster.engine.refusing = None
        await cluster.clock.sleeping()
        await cluster.clock.advance(1.0)
        await a.bus.settled(job)
        assert a.bus.problems() == []
    assert cluster.stream == [("one", 1)]
    assert a.notices == ["OOM; records wait in memory until it can be written", "the journal can be written again"]
