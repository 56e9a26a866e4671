"""An engine that loses what it had: every node finds out, begins a new epoch or leaves a gap, and never goes back."""

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from relay.journal.redis import RedisJournal, _engine
from relay.journal.redis._engine import BEHIND_ALL
from relay.journal.shared import Refusal
from tests.journal.redis.nodes import Node, Story, joined, running
from tests.journal.redis.servers import ENGINES, EngineServer, running_engine


@pytest.fixture(params=ENGINES)
def lasting(request: pytest.FixtureRequest) -> Iterator[EngineServer]:
    """A server that writes each command to its disk before it answers."""
    with running_engine(request.param, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture(params=ENGINES)
def forgetful(request: pytest.FixtureRequest) -> Iterator[EngineServer]:
    """A server that keeps what SAVE wrote."""
    with running_engine(request.param) as server:
        yield server


async def test_after_flushall_while_the_tails_block_every_node_goes_on_in_one_new_epoch_behind_all_that_was_read(
    engine: EngineServer,
) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "b") as b:
        story = Story("j", await a.own(), unique="the task")
        await a.append(*story.take(5))
        await b.until(lambda: len(b.entries) == 5)
        epoch, token = a.journal.epoch, story.fence.token

        await engine.call("FLUSHALL")
        await a.until(lambda: a.begun)
        await b.until(lambda: b.begun)

        assert a.begun == b.begun == [(a.journal.epoch, 5 + BEHIND_ALL)]
        assert a.journal.epoch == b.journal.epoch != epoch
        for node in (a, b):
            assert (node.journal.states("j"), node.journal.keeps("j"), list(node.journal.read(0))) == (False, False, [])
            assert (node.journal.has_all_since(5), node.journal.has_all_since(node.journal.head)) == (False, True)
        await goes_on(a, b, story, token)


async def goes_on(a: Node, b: Node, story: Story, token: int) -> None:
    """In the new epoch the owner carries the job over, and appends its next record."""
    job, head = story.stored.id, a.journal.head
    before = (len(a.entries), len(b.entries))
    story.fence = await a.own()
    assert story.fence.token > token
    stored = story.stored
    assert await b.journal.carry_over(story.fence._replace(token=token), [stored]) is False
    for _ in range(2):
        assert await a.journal.carry_over(story.fence, [stored])
    assert await a.append(*story.take(2), Story("other", story.fence, unique="the task").next()) == [
        None,
        None,
        ("taken", job),
    ]
    for node, count in zip((a, b), before, strict=True):
        await node.until(lambda node=node, count=count: len(node.entries) == count + 3)  # type: ignore[misc]
        carried, *records = node.entries[count:]
        assert node.offsets()[count:] == [head + 1, head + 2, head + 3]
        assert carried.record is None
        assert carried.stored is not None
        assert (carried.stored.id, carried.stored.state.seq, carried.stored.state.offset) == (
            job,
            stored.state.seq,
            head + 1,
        )
        assert [entry.record and entry.record.seq for entry in records] == [stored.state.seq + 1, stored.state.seq + 2]
        assert node.journal.states(job)
        for jobs in (None, [job]):
            assert [node.journal.has_all_since(head + n, jobs) for n in (0, 1)] == [False, True], (
                "it may have been another"
            )
    async with joined(a.url, "late", run=False) as late:
        assert [(one.id, one.state.seq) for one in late.jobs] == [(job, stored.state.seq + 2)]
        assert late.journal.epoch == a.journal.epoch


async def test_any_node_carries_over_a_state_that_the_owner_of_its_shard_does_not_know(engine: EngineServer) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "b") as b:
        story = Story("j", await a.own(), unique="the task")
        await a.append(*story.take(3))
        await b.until(lambda: len(b.entries) == 3)
        await engine.call("FLUSHALL")
        await a.until(lambda: a.begun)
        await b.until(lambda: b.begun)
        async with joined(engine.url, "c") as c:
            story.fence = await c.own()
            for node in (b, a):
                assert await node.journal.carry_over(story.fence, [story.stored])
            await c.until(lambda: len(c.entries) == 1)
            [carried] = c.entries
            [refusal] = await b.append(Story("k", story.fence).next())

            assert carried.stored is not None
            assert (carried.node, carried.stored.id, carried.stored.state.seq) == (b.journal.node, "j", 3)
            assert refusal == Refusal("fenced")
            assert await c.append(story.next()) == [None]


async def test_an_engine_that_is_killed_and_had_written_all_to_its_disk_has_lost_nothing(lasting: EngineServer) -> None:
    async with joined(lasting.url, "a") as a, joined(lasting.url, "b") as b:
        story = Story("j", await a.own(), unique="the task")
        epoch = a.journal.epoch
        for _ in range(3):
            await a.append(*story.take(3))
            lasting.restart()
        assert await a.append(story.next()) == [None]
        await b.until(lambda: len(b.entries) == 10)
        await a.until(lambda: len(a.entries) == 10)

        assert (a.journal.epoch, b.journal.epoch, a.begun, b.begun) == (epoch, epoch, [], [])
        assert a.seqs("j") == b.seqs("j") == a.offsets() == list(range(1, 11))
        assert (await lasting.call("HGET", "{relay}:m", "gen")) != b"1"


async def test_an_older_dump_is_a_new_epoch_behind_all_that_was_read(forgetful: EngineServer) -> None:
    async with joined(forgetful.url, "a") as a, joined(forgetful.url, "b") as b:
        story = Story("j", await a.own(), unique="the task")
        await a.append(*story.take(4))
        await forgetful.call("SAVE")
        shutil.copy(forgetful.folder / "dump.rdb", forgetful.folder / "older")
        await a.append(*story.take(4))
        await a.own()
        await b.until(lambda: len(b.entries) == 8)
        forgetful.kill()
        shutil.copy(forgetful.folder / "older", forgetful.folder / "dump.rdb")
        forgetful.start()
        await a.until(lambda: a.begun)
        await b.until(lambda: b.begun)

        assert a.begun == b.begun == [(a.journal.epoch, 8 + BEHIND_ALL)]
        # The dump has the lease of an earlier claim, and would give its token and the next one again.
        assert (await b.journal.leases.view()).leases == {}
        await goes_on(a, b, story, BEHIND_ALL)


async def test_a_dump_of_an_earlier_epoch_is_a_new_epoch_as_well(forgetful: EngineServer) -> None:
    async with joined(forgetful.url, "a") as a, joined(forgetful.url, "b") as b:
        story = Story("j", await a.own(), unique="the task")
        await a.append(*story.take(4))
        await forgetful.call("SAVE")
        await forgetful.call("FLUSHALL")
        await a.until(lambda: a.begun)
        story.fence = await a.own()
        await a.journal.carry_over(story.fence, [story.stored])
        await b.until(lambda: b.journal.head == 4 + BEHIND_ALL + 1)
        forgetful.restart()
        await a.until(lambda: len(a.begun) == 2)
        await b.until(lambda: len(b.begun) == 2)

        assert a.begun == b.begun == [(a.begun[0][0], 4 + BEHIND_ALL), (a.journal.epoch, 4 + 2 * BEHIND_ALL + 1)]
        await goes_on(a, b, story, story.fence.token)


@pytest.mark.parametrize("trusted", [True, False], ids=["run_id", "no INFO"])
async def test_a_node_that_was_away_finds_out_that_others_have_gone_on_without_what_it_has_read(
    forgetful: EngineServer, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover that lost the tail: offsets that it has read come again, with other records."""
    monkeypatch.setattr(_engine, "OTHERS_LOOK", 0.0)
    url = forgetful.url if trusted else await without_info(forgetful)
    async with joined(url, "away", run=False) as away:
        async with joined(url, "a") as a, running(away):
            story = Story("j", await a.own(), unique="the task")
            await a.append(*story.take(4))
            await forgetful.call("SAVE")
            await a.append(*story.take(4))
            await away.until(lambda: len(away.entries) == 8)
        forgetful.restart()
        if not trusted:
            await without_info(forgetful)
        async with joined(url, "b") as b:
            assert [job.state.seq for job in b.jobs] == [4]
            other = Story("other", await b.own())
            await b.append(*other.take(9))
            await b.until(lambda: len(b.entries) == 9)
            assert b.begun == []
            async with running(away):
                await away.until(lambda: away.begun)
                await b.until(lambda: b.begun)

            assert away.seqs("other") == []
            assert away.begun == b.begun == [(b.journal.epoch, 13 + BEHIND_ALL)]


async def test_a_node_that_starts_on_an_older_dump_lets_those_that_know_more_look_first(
    forgetful: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_engine, "OTHERS_LOOK", 3_600.0)
    url = forgetful.url
    async with joined(url, "a", run=False) as a:
        async with running(a):
            await forgetful.call("SAVE")
            await a.append(*Story("j", await a.own()).take(4))
            await a.until(lambda: len(a.entries) == 4)
        forgetful.restart()
        b = RedisJournal(url, node="b")
        opening = asyncio.create_task(b.open())
        while b"cmdstat_hmget" not in await forgetful.call("INFO", "commandstats"):  # noqa: ASYNC110 - in its script
            await asyncio.sleep(0.01)
        assert not opening.done()
        async with running(a):
            await a.until(lambda: a.begun)
            await opening

            assert (b.epoch, b.head) == (a.journal.epoch, 4 + BEHIND_ALL)
            await b.close()


async def without_info(server: EngineServer) -> str:
    """The URL for a user that may not look at INFO, as of some managed services."""
    await server.call("ACL", "SETUSER", "relay", "on", ">secret", "~*", "+@all", "-info")
    return f"unix://relay:secret@{server.socket}"


async def test_a_node_that_was_away_for_more_generations_than_are_kept_begins_a_new_epoch(engine: EngineServer) -> None:
    async with joined(engine.url, run=False) as node:
        since = " ".join(f"{gen}:0" for gen in range(3, 67))
        await engine.call("HSET", "{relay}:m", "gen", 66, "since", since)
        async with running(node):
            await node.until(lambda: node.begun)


async def test_records_that_were_trimmed_before_a_node_has_read_them_are_a_gap_and_their_jobs_have_a_state(
    engine: EngineServer,
) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "b", run=False) as b:
        fence = await a.own()
        long, short = Story("long", fence, key="k", owner="o"), Story("short", fence)
        await a.append(long.next(), *short.take(3), short.end())
        for _ in range(3):
            await a.append(*long.take(100))
        await a.until(lambda: a.journal.head == 305)
        await engine.call("XTRIM", f"{{relay}}:s:{a.journal.epoch}", "MAXLEN", 10)
        async with running(b):
            await b.until(lambda: b.journal.head == 305)

        assert b.begun == [(a.journal.epoch, 295)]
        states = {entry.stored.id: entry.stored for entry in b.entries[:2] if entry.stored is not None}
        assert {job: (kept.state.seq, kept.key, kept.owner) for job, kept in states.items()} == {
            "long": (301, "k", "o"),
            "short": (4, None, ""),
        }
        assert b.offsets() == [295, 295, *range(296, 306)]
        assert [record.position.offset for record in b.journal.read(0)] == list(range(296, 306))
        assert [b.journal.has_all_since(offset) for offset in (0, 294, 295)] == [False, False, True]
        assert [b.journal.has_all_since(offset, ["long"]) for offset in (294, 295)] == [False, True]
        assert b.journal.states("long")
        assert (a.begun, len(a.journal.read(0)), b.notices) == ([], 305, [])


async def test_a_stream_that_is_deleted_takes_nothing_from_the_nodes_that_have_read_it(engine: EngineServer) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "late", run=False) as late:
        story = Story("j", await a.own(), unique="the task")
        await a.append(*story.take(3))
        await a.until(lambda: len(a.entries) == 3)
        await engine.call("DEL", f"{{relay}}:s:{a.journal.epoch}")
        async with running(late):
            await late.until(lambda: late.begun)  # silence would be wrong: there is nothing to read, and was
            await a.append(*story.take(2))
            await late.until(lambda: late.journal.head == 5)
        await a.until(lambda: len(a.entries) == 5)

        assert (a.begun, late.begun) == ([], [(a.journal.epoch, 3)])
        assert [len(node.journal.read(0)) for node in (a, late)] == [5, 2]
        async with joined(engine.url, "later", run=False) as later:
            assert [(job.state.seq, job.state.offset) for job in later.jobs] == [(5, 5)]
            assert [later.journal.has_all_since(offset) for offset in (2, 3)] == [False, True]


async def test_an_entry_of_another_program_ends_the_epoch_and_no_node(engine: EngineServer) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "b") as b:
        story = Story("j", await a.own(), unique="the task")
        await a.append(*story.take(3))
        await engine.call("XADD", f"{{relay}}:s:{a.journal.epoch}", "*", "theirs", "1")
        await a.until(lambda: a.begun)
        await b.until(lambda: b.begun)

        assert any("another program" in notice for notice in (*a.notices, *b.notices))
        await goes_on(a, b, story, story.fence.token)


async def test_an_entry_of_a_later_version_is_a_gap_and_nothing_behind_it_is_missing(engine: EngineServer) -> None:
    async with joined(engine.url, "a") as a:
        story = Story("j", await a.own(), unique="the task")
        await a.append(*story.take(3))
        epoch = a.journal.epoch
        body = story.next().body.replace(b'"v":1', b'"v":2')
        later = ("body", body, "node", "later", "token", 1, "gen", 1)
        await engine.call("XADD", f"{{relay}}:s:{epoch}", "4-0", *later)
        await engine.call("HSET", "{relay}:m", "head", 4)
        await a.until(lambda: a.begun)
        assert await a.append(Story("k", story.fence).next()) == [None]
        await a.until(lambda: a.journal.head == 5)

        assert a.begun == [(epoch, 4)]
        assert (a.journal.has_all_since(3), a.journal.has_all_since(4)) == (False, True)
        assert [entry.record.job for entry in a.entries if entry.record is not None] == ["j", "j", "j", "k"]
        assert len(a.notices) == 1
        assert "cannot be read" in a.notices[0]
        async with joined(engine.url, "b", run=False) as b:
            assert (b.journal.head, b.journal.has_all_since(3), b.journal.has_all_since(4)) == (5, False, True)
            assert len(b.notices) == 1
