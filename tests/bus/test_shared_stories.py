"""Whatever happens to the engine and its links, each node sends each record of an epoch once, and in order."""

import asyncio
from collections import defaultdict

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.events import Record
from relay.jobs.state import JobState
from relay.journal.shared import Entry
from relay.testing import ManualClock
from tests.cluster.buses import Node
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode

STEPS = (
    *("publish",) * 6,
    *("turn",) * 4,
    "burst",
    "hold requests",
    "hold replies",
    "hold tail",
    "let go",
    "lose a reply",
    "time out",
    "wait",
    "down",
    "up",
    "refuse",
    "restart",
    "rerun",
    "take over",
)
"""What leaves the data of the engine as they are."""

LOSSES = ("dump", "restore", "flush", "trim")

JOBS = ("one", "two", "three")


class History(MemoryEngine):
    """Keeps what every epoch ever had, and what was lost with it."""

    def __init__(self) -> None:
        super().__init__()
        self.all: dict[str, dict[int, set[bytes]]] = defaultdict(lambda: defaultdict(set))

    def announce(self) -> None:
        for entry in self.entries:
            if entry.record is not None:
                self.all[entry.record.position.epoch][entry.offset].add(entry.record.json)
        super().announce()


class Play:
    """Two nodes, one of which owns all jobs at a time, and what is done to them."""

    def __init__(self) -> None:
        self.engine = History()
        self.clock = ManualClock(auto=True)
        self.ends = [MemoryNode(self.engine, name) for name in ("a", "b")]
        self.nodes = [Node(end, self.clock) for end in self.ends]
        self.owner = 0
        self.number = 0
        self.lines: dict[str, list[str]] = {name: [] for name in JOBS}
        self.dumped = self.engine.dump()
        self.takeovers = 0

    async def play(self, steps: list[tuple[str, int]]) -> None:
        for node in self.nodes:
            await node.open()
        await self.nodes[0].claim()
        self.dumped = self.engine.dump()
        runs = [asyncio.create_task(node.bus.run()) for node in self.nodes]
        try:
            for step, which in steps:
                await self.take(step, which, runs)
            await self.mend()
        finally:
            for task in runs:
                task.cancel()
            await asyncio.wait(runs)
            for node in self.nodes:
                await node.bus.close()

    async def take(self, step: str, which: int, runs: list[asyncio.Task[None]]) -> None:
        engine, end, node = self.engine, self.ends[which % 2], self.nodes[self.owner]
        match step:
            case "publish":
                self.publish(node, JOBS[which % 3])
            case "burst":
                for _ in range(120):
                    self.publish(node, JOBS[which % 3])
            case "turn":
                for _ in range(which % 5):
                    await asyncio.sleep(0)
            case "hold requests":
                end.requests.close()
            case "hold replies":
                end.replies.close()
            case "hold tail":
                end.tail.close()
            case "let go":
                for gate in (end.requests, end.replies, end.tail):
                    gate.open()
            case "lose a reply":
                end.lost_replies += 1
            case "time out":
                end.time_out()
            case "wait":
                await self.clock.sleep(1.0)
            case "down" | "up":
                engine.down = step == "down"
            case "refuse":
                engine.refusing = None if engine.refusing else "OOM"
            case "restart":
                engine.restart()
            case "rerun":
                runs[which % 2].cancel()
                await asyncio.wait([runs[which % 2]])
                runs[which % 2] = asyncio.create_task(self.nodes[which % 2].bus.run())
            case "take over":
                await self.take_over()
            case "dump":
                self.dumped = engine.dump()
            case "restore":
                engine.restore(self.dumped)
            case "flush":
                engine.flush()
            case "trim":
                engine.trim(which)

    def publish(self, node: Node, name: str) -> None:
        job = node.job(name)
        if not node.bus.pending(job).seq:
            node.begin(name)
        else:
            self.number += 1
            node.say(job, str(self.number))
            self.lines[name].append(str(self.number))

    async def take_over(self) -> None:
        """Let the other node be the owner, which begins once it has read all that the former owner appended."""
        self.heal()
        await self.at_head()
        self.owner = 1 - self.owner
        self.takeovers += 1
        await self.nodes[self.owner].claim()
        self.nodes[1 - self.owner].held = None
        await self.at_head()

    def heal(self) -> None:
        self.engine.down, self.engine.refusing = False, None
        for end in self.ends:
            end.lost_replies = 0
            for gate in (end.requests, end.replies, end.tail):
                gate.open()

    async def at_head(self) -> None:
        """Return once every node has read all there is, and nothing waits."""
        for _ in range(1000):
            meta = self.engine.meta()
            if meta is not None and all(
                (end.epoch, end.head, node.bus.waiting, node.bus.problems(), node.begun[-1:])
                == (meta.epoch, meta.head, 0, [], node.carried_over[-1:])
                for end, node in zip(self.ends, self.nodes, strict=True)
            ):
                return
            await self.clock.sleep(0.1)
        raise AssertionError("something still waits after a hundred seconds in which nothing was wrong")

    async def mend(self) -> None:
        self.heal()
        await self.at_head()


def sent(node: Node) -> dict[str, list[tuple[int, bytes]]]:
    by_epoch: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    for _, record in node.records:
        by_epoch[record.position.epoch].append((record.position.offset, record.json))
    return by_epoch


def check(play: Play) -> None:
    engine = play.engine
    meta = engine.meta()
    assert meta is not None
    stream = [(entry.offset, entry.record.json) for entry in engine.entries if entry.record is not None]
    for node in play.nodes:
        offsets = [record.position.offset for _, record in node.records]
        assert offsets == sorted(set(offsets)), "never backwards, and none twice"
        for epoch, records in sent(node).items():
            assert all(body in engine.all[epoch][offset] for offset, body in records)
        assert [one for one in sent(node)[meta.epoch] if one[0] > engine.trimmed_to] == stream
        for job in node.jobs.values():
            kept = engine.state(job.id)
            assert job.state == (kept.state if kept is not None else JobState()) == node.bus.pending(job)
    seqs: dict[str, list[int]] = defaultdict(list)
    for entry in engine.entries:
        name, seq = _newest(entry)
        seqs[name].append(seq)
    for numbers in seqs.values():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    owners = [record for own, record in play.nodes[0].records if own] + [
        record for own, record in play.nodes[1].records if own
    ]
    assert len({_place(record) for record in owners}) == len(owners), "each record is of one node"


def _newest(entry: Entry) -> tuple[str, int]:
    if entry.record is not None:
        return entry.record.job, entry.record.seq
    assert entry.stored is not None
    return entry.stored.id, entry.stored.state.seq


def _place(record: Record) -> tuple[str, int]:
    return record.position.epoch, record.position.offset


def played(steps: list[tuple[str, int]]) -> Play:
    async def act() -> Play:
        play = Play()
        await play.play(steps)
        return play

    play = asyncio.run(act())
    check(play)
    return play


def steps_of(*kinds: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 5)), max_size=40)


@given(steps_of(*STEPS))
@settings(max_examples=100)
def test_while_the_engine_loses_nothing_each_record_is_sent_once_by_every_node(steps: list[tuple[str, int]]) -> None:
    play = played(steps)

    texts = {name: [record.event.text for record in play.ends[0].read(0, [name], limit=10_000)][1:] for name in JOBS}
    assert texts == play.lines
    assert [node.refused for node in play.nodes] == [[], []]


@given(steps_of(*STEPS, *LOSSES))
@settings(max_examples=100)
@example([("publish", 0), ("turn", 4), ("dump", 0), ("hold tail", 0), ("publish", 0), ("turn", 4), ("restore", 0)])
@example([("publish", 0), ("turn", 4), ("hold replies", 0), ("publish", 0), ("turn", 4), ("flush", 0), ("publish", 0)])
def test_where_the_engine_loses_data_each_new_epoch_has_its_records_once(
    steps: list[tuple[str, int]],
) -> None:
    played(steps)
