"""The double of an engine keeps the rules of `relay.journal.shared`, so that what is tested on it means something."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from relay.errors import JournalError
from relay.events import Accepted, Event, Log, Position
from relay.jobs.state import JobState, evolve
from relay.journal.base import StoredJob
from relay.journal.shared import Command, Draft, Entry, Fence, Lease, Refusal, SharedJournal
from relay.wire.record_json import stamp
from tests.cluster.memory_engine import BEHIND_ALL, MemoryEngine
from tests.cluster.memory_node import MemoryNode

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Received:
    """A receiver that keeps what it gets, and says when."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.commands: list[Command] = []
        self.epochs = 0
        self._changed = asyncio.Condition()

    def receive(self, entries: Sequence[Entry]) -> None:
        self.entries += entries
        self._wake()

    def begin_anew(self) -> None:
        self.epochs += 1
        self._wake()

    def command(self, command: Command) -> None:
        self.commands.append(command)
        self._wake()

    async def until(self, *, entries: int = 0, epochs: int = 0, commands: int = 0) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: len(self.entries) >= entries and self.epochs >= epochs and len(self.commands) >= commands
            )

    def _wake(self) -> None:
        async def wake() -> None:
            async with self._changed:
                self._changed.notify_all()

        self._waking = asyncio.ensure_future(wake())


class Story:
    """The drafts of one job, one after the other."""

    def __init__(self, job: str, fence: Fence, unique: str = "") -> None:
        self.job, self.fence, self.unique, self.state = job, fence, unique, JobState()

    def next(self, event: Event | None = None) -> Draft:
        first = not self.state.seq
        event = event or (Accepted(upstream="u", task="t") if first else Log(line=f"line {self.state.seq}"))
        record = stamp(self.job, self.state.seq + 1, AT, event, Position("", 0))
        self.state = evolve(self.state, record)
        return Draft(
            seq=record.seq,
            body=record.json,
            fence=self.fence,
            stored=StoredJob(id=self.job, state=self.state),
            unique=self.unique if first else "",
        )


@asynccontextmanager
async def running(node: MemoryNode) -> AsyncIterator[Received]:
    received = Received()
    task = asyncio.ensure_future(node.run(received))
    try:
        yield received
    finally:
        task.cancel()
        await asyncio.wait([task])
        await node.close()


async def owner(engine: MemoryEngine, name: str = "a") -> tuple[MemoryNode, Fence]:
    node = MemoryNode(engine, name)
    await node.open()
    claimed = await node.claim(0, (await node.view()).leases.get(0))
    assert claimed is not None
    return node, Fence(0, claimed.token)


def offsets(received: Received) -> list[int]:
    return [entry.offset for entry in received.entries]


def test_a_memory_node_is_a_shared_journal() -> None:
    node = MemoryNode(MemoryEngine(), "a")
    shared: SharedJournal = node

    assert shared is node
    assert (node.leases, node.commands, node.node) == (node, node, "a")


async def test_every_node_reads_the_same_entries_and_has_them_in_its_copy() -> None:
    engine = MemoryEngine()
    a, fence = await owner(engine)
    b = MemoryNode(engine, "b")
    await b.open()
    story = Story("j", fence)
    async with running(a) as at_a, running(b) as at_b:
        assert await a.append(1, [story.next(), story.next()]) == [None, None]
        await at_a.until(entries=2)
        await at_b.until(entries=2)

    assert at_a.entries == at_b.entries
    assert [entry.record for entry in at_a.entries] == list(a.read(0)) == list(b.read(0))
    assert (a.head, a.epoch, a.states("j"), a.keeps("j")) == (2, b.epoch, True, True)
    c = MemoryNode(engine, "c")
    assert [(job.id, job.state.seq, job.state.offset) for job in await c.open()] == [("j", 2, 2)]
    assert list(c.read(0)) == list(a.read(0))


async def test_a_batch_is_appended_once_however_often_it_is_sent_and_whatever_became_of_the_replies() -> None:
    engine = MemoryEngine()
    node, fence = await owner(engine)
    story = Story("j", fence)
    first = [story.next()]
    node.lost_replies = 1
    with pytest.raises(JournalError):
        await node.append(1, first)
    assert len(engine.entries) == 1
    assert await node.append(1, first) == [None]

    node.requests.close()
    late = asyncio.ensure_future(node.append(2, [story.next()]))
    await node.requests.holds()
    node.time_out()
    with pytest.raises(JournalError):
        await late
    assert len(engine.entries) == 1
    node.requests.open()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(engine.entries) == 2
    await node.close()


async def test_a_draft_is_refused_without_the_lease_behind_a_hole_and_for_what_is_taken() -> None:
    engine = MemoryEngine()
    node, fence = await owner(engine)
    one, two, three, four = (Story(name, fence, unique="key") for name in "abcd")
    two.unique = ""
    three.next()
    four.fence = Fence(0, fence.token - 1)

    answers = await node.append(1, [one.next(), two.next(), three.next(), Story("e", fence, "key").next(), four.next()])
    assert answers == [None, None, Refusal("hole"), Refusal("taken", "a"), Refusal("fenced")]
    assert [entry.record.job for entry in engine.entries if entry.record] == ["a", "b"]


async def test_a_lease_is_claimed_as_it_was_seen_renewed_and_released() -> None:
    engine = MemoryEngine()
    a, b = MemoryNode(engine, "a"), MemoryNode(engine, "b")
    await a.open()
    await b.open()
    claimed = await a.claim(3, None)
    assert claimed == (1, 0)
    assert await b.claim(3, None) is None
    assert await a.beat({3: 1, 4: 9}) == {4}
    view = await b.view()
    assert (view.leases, view.nodes) == ({3: Lease("a", 1, 2)}, {"a": 1})

    assert await b.claim(3, Lease("a", 1, 1)) is None
    assert await b.claim(3, view.leases[3]) == (2, 0)
    await a.release({3: 1})
    await b.release({3: 2})
    await a.leave()
    assert (await a.view())[:2] == ({3: Lease("", 2, 2)}, {})
    assert engine.claims == [(3, 1, "a", 0), (3, 2, "b", 0)]


@pytest.mark.parametrize("lose", ["flush", "older dump", "dump of an older epoch"])
async def test_what_the_engine_lost_is_a_new_epoch_behind_all_that_was_read(lose: str) -> None:
    engine = MemoryEngine()
    node, fence = await owner(engine)
    async with running(node) as received:
        dump = engine.dump()
        story = Story("j", fence)
        await node.append(1, [story.next(), story.next()])
        await received.until(entries=2)
        epochs = {node.epoch}
        if lose == "dump of an older epoch":
            engine.flush()
            await received.until(epochs=1)
            epochs.add(node.epoch)
        engine.flush() if lose == "flush" else engine.restore(dump)
        await received.until(epochs=len(epochs))

        assert node.epoch not in epochs
        assert node.head >= 2 + BEHIND_ALL
        assert (node.states("j"), node.keeps("j"), node.has_all_since(2), list(node.read(0))) == (False,) * 3 + ([],)
        claimed = await node.claim(0, (await node.view()).leases.get(0))
        assert claimed is not None
        assert claimed.token > fence.token
        fence = story.fence = Fence(0, claimed.token)
        head = node.head
        assert await node.carry_over(fence, [StoredJob(id="j", state=story.state)])
        assert await node.carry_over(fence, [StoredJob(id="j", state=story.state)])
        assert await node.append(3, [story.next()]) == [None]
        await received.until(entries=4)
    assert offsets(received) == [1, 2, head + 1, head + 2]


async def test_a_restart_that_lost_nothing_is_no_new_epoch() -> None:
    engine = MemoryEngine()
    node, fence = await owner(engine)
    story = Story("j", fence)
    async with running(node) as received:
        await node.append(1, [story.next()])
        await received.until(entries=1)
        engine.restart()
        second = [story.next()]
        while True:
            try:
                assert await node.append(2, second) == [None]
                break
            except JournalError:
                await asyncio.sleep(0)
        await received.until(entries=2)
    assert (received.epochs, offsets(received)) == (0, [1, 2])


async def test_while_it_is_down_everything_fails_and_afterwards_nothing_is_missing() -> None:
    engine = MemoryEngine()
    node, fence = await owner(engine)
    story = Story("j", fence)
    async with running(node) as received:
        engine.down = True
        with pytest.raises(JournalError):
            await node.append(1, [story.next()])
        await asyncio.sleep(0)
        assert node.problem is not None
        engine.down = False
        engine.refusing = "OOM"
        with pytest.raises(JournalError, match="OOM"):
            await node.claim(1, None)
        engine.refusing = None
        await node.send(Command(id="1", op="o", sender="a"))
        await node.send(Command(id="2", op="o", sender="a", to="b"))
        await received.until(commands=1)
    assert [command.id for command in received.commands] == ["1"]
    assert not node.problem


async def test_a_held_tail_brings_nothing_until_it_is_let_go() -> None:
    engine = MemoryEngine()
    node, fence = await owner(engine)
    async with running(node) as received:
        node.tail.close()
        assert await node.append(1, [Story("j", fence).next()]) == [None]
        await node.tail.holds()
        assert (received.entries, node.head) == ([], 0)
        node.tail.open()
        await received.until(entries=1)
    assert node.head == 1
