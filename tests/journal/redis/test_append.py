"""What a batch is for the engine: once, whole, in order, and refused where it must be."""

import asyncio

import pytest
from msgspec.structs import replace

from relay.errors import JournalError, UsageError
from relay.events import Done
from relay.journal.redis.journal import BATCH
from relay.journal.shared import Fence, Refusal
from relay.testing.conformance.samples import hostile_records, sample_records
from relay.wire.record_json import RECORD_LIMIT
from tests.journal.redis.nodes import Node, Story, joined
from tests.journal.redis.servers import EngineServer


async def test_two_nodes_read_the_same_records_in_the_order_and_with_the_offsets_of_the_engine(
    engine: EngineServer,
) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "b") as b:
        one, two = Story("one", await a.own(1)), Story("two", await b.own(2))

        async def append(node: Node, story: Story) -> None:
            for _ in range(5):
                assert await node.append(*story.take(3)) == [None] * 3

        await asyncio.gather(append(a, one), append(b, two))
        await a.until(lambda: len(a.entries) == 30)
        await b.until(lambda: len(b.entries) == 30)

        assert a.offsets() == list(range(1, 31))
        assert a.entries == b.entries
        assert [entry.record for entry in a.entries] == list(a.journal.read(0)) == list(b.journal.read(0))
        assert a.seqs("one") == a.seqs("two") == list(range(1, 16))
        assert {entry.node for entry in a.entries} == {a.journal.node, b.journal.node}
        assert (a.journal.epoch, a.journal.head) == (b.journal.epoch, 30)
        assert (a.journal.states("one"), b.journal.keeps("two"), b.journal.states("three")) == (True, True, False)


async def test_a_batch_is_appended_once_however_often_it_is_sent(engine: EngineServer) -> None:
    async with joined(engine.url) as node:
        story = Story("j", await node.own())
        hole = Story("k", story.fence)
        hole.next()
        batch = [story.next(), hole.next(), story.next()]
        answers = [await node.journal.append(1, batch) for _ in range(3)]

        assert answers == [[None, Refusal("hole"), None]] * 3
        assert await node.journal.append(2, story.take(1)) == [None]
        with pytest.raises(UsageError, match="newer one"):
            await node.journal.append(1, batch)
        await node.until(lambda: len(node.entries) == 3)
        assert node.seqs("j") == [1, 2, 3]


async def test_a_draft_is_refused_without_the_lease_behind_a_hole_and_for_what_another_job_has(
    engine: EngineServer,
) -> None:
    async with joined(engine.url) as node:
        fence = await node.own()
        first, second, late = Story("a", fence, unique="key"), Story("b", fence), Story("c", fence)
        late.next()
        answers = await node.append(
            first.next(),
            second.next(),
            late.next(),
            Story("d", fence, unique="key").next(),
            Story("e", Fence(0, fence.token + 1)).next(),
            Story("f", Fence(5, 1)).next(),
            first.next(),
        )
        assert answers == [
            None,
            None,
            Refusal("hole"),
            Refusal("taken", "a"),
            Refusal("fenced"),
            Refusal("fenced"),
            None,
        ]
        assert await node.append(Story("g", fence, unique="key").next()) == [Refusal("taken", "a")]
        await node.until(lambda: len(node.entries) == 3)
        assert [(entry.record.job, entry.record.seq) for entry in node.entries if entry.record] == [
            ("a", 1),
            ("b", 1),
            ("a", 2),
        ]


async def test_the_drafts_behind_a_refused_one_of_a_job_are_refused_with_it(engine: EngineServer) -> None:
    async with joined(engine.url) as node:
        story = Story("j", await node.own())
        one, two, three, four = story.take(4)
        await node.append(one, two)

        assert await node.append(two, three, four) == [Refusal("hole")] * 3
        assert await node.append(four, three) == [Refusal("hole")] * 2
        assert await node.append(three, four) == [None, None]


async def test_another_owner_of_the_shard_ends_the_right_to_append(engine: EngineServer) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "b") as b:
        story = Story("j", await a.own())
        await a.append(story.next())
        fence = await b.own()
        assert await a.append(story.next()) == [Refusal("fenced")]

        story.fence = fence
        assert await b.append(story.next()) == [Refusal("hole")]  # the refused one was never appended


async def test_every_text_comes_back_byte_by_byte(engine: EngineServer) -> None:
    published = [*sample_records(), *hostile_records()]
    async with joined(engine.url) as node:
        fence = await node.own()
        stories: dict[str, Story] = {}
        for record in published:
            story = stories.setdefault(
                record.job,
                Story(record.job, fence, owner="\u65e5\U0001f44d \n", key=f"k {record.job} %s", digest=b"\x00\xff\r\n"),
            )
            assert await node.append(story.next(record.event)) == [None]
        await node.until(lambda: len(node.entries) == len(published))
        read = list(node.journal.read(0))
    async with joined(engine.url, run=False) as later:
        assert list(later.journal.read(0)) == read
        jobs = {job.id: job for job in later.jobs}

    assert [record.event for record in read] == [record.event for record in published]
    newest = {record.job: record.position.offset for record in read}
    assert jobs == {
        job: replace(story.stored, state=replace(story.stored.state, offset=newest[job]))
        for job, story in stories.items()
    }
    firsts = [entry.stored for entry in node.entries if entry.stored is not None]
    assert [(job.id, job.owner, job.key, job.digest) for job in firsts] == [
        (job, story.stored.owner, story.stored.key, story.stored.digest) for job, story in stories.items()
    ]


async def test_a_record_of_the_greatest_length_is_kept_whole(engine: EngineServer) -> None:
    text = "\u65e5" * 10_000
    long = Done(urls=(), result={f"{number}": text for number in range(1)})
    async with joined(engine.url) as node:
        story = Story("j", await node.own())
        draft = story.next(long)
        body = b" " * (RECORD_LIMIT - len(draft.body)) + draft.body
        assert await node.append(replace(draft, body=body)) == [None]
        await node.until(lambda: node.entries)
        assert [record.json for record in node.journal.read(0)] == [body]


@pytest.mark.parametrize("base", [2**31, 10**14, 2**53 - 1_000], ids=["2^31", "10^14", "2^53"])
async def test_offsets_are_written_in_decimal_however_large_they_are(engine: EngineServer, base: int) -> None:
    async with joined(engine.url, run=False):
        pass
    await engine.call("HSET", "{relay}:m", "head", base, "base", base, "since", f"1:{base}")
    async with joined(engine.url) as node:
        story = Story("j", await node.own())
        await node.append(*story.take(3))
        await node.until(lambda: len(node.entries) == 3)

        assert node.offsets() == [base + 1, base + 2, base + 3]
        assert (node.journal.has_all_since(base), node.journal.has_all_since(base - 1)) == (True, False)
        assert await engine.call("HGET", "{relay}:m", "head") == str(base + 3).encode()
    async with joined(engine.url, run=False) as later:
        assert [(job.id, job.state.offset) for job in later.jobs] == [("j", base + 3)]


async def test_the_script_is_sent_again_where_the_engine_has_lost_it(engine: EngineServer) -> None:
    async with joined(engine.url) as node:
        story = Story("j", await node.own())
        await node.append(story.next())
        await engine.call("SCRIPT", "FLUSH")
        assert await node.journal.append(2, [story.next()]) == [None]
        assert await node.journal.append(2, [story.next()]) == [None]
        await node.until(lambda: len(node.entries) == 2)
        assert node.seqs("j") == [1, 2]


async def test_a_full_engine_refuses_a_batch_whole_and_gets_it_later(engine: EngineServer) -> None:
    async with joined(engine.url) as node:
        story = Story("j", await node.own())
        await node.append(story.next())
        batch = story.take(100)
        await engine.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(JournalError, match="maxmemory"):
            await node.journal.append(2, batch)
        assert await engine.call("XLEN", f"{{relay}}:s:{node.journal.epoch}") == 1
        async with joined(engine.url, "another") as another:
            assert [job.state.seq for job in another.jobs] == [1]
        await engine.call("CONFIG", "SET", "maxmemory", "0")
        assert await node.journal.append(2, batch) == [None] * 100
        await node.until(lambda: len(node.entries) == 101)
        assert node.seqs("j") == list(range(1, 102))


async def test_a_batch_of_more_drafts_than_the_engine_should_be_held_with_is_refused(engine: EngineServer) -> None:
    async with joined(engine.url, run=False) as node:
        with pytest.raises(UsageError, match="at most"):
            await node.journal.append(1, Story("j", Fence(0, 1)).take(BATCH + 1))
