"""A journal in an engine, read and examined by what is no node of it."""

import pytest
from msgspec.structs import replace

from relay.errors import JournalError, UsageError
from relay.events import Checking, Done, Event, Position, Record
from relay.jobs.state import JobState, evolve
from relay.journal.base import StoredJob
from relay.journal.redis._entries import KeptEntry
from relay.journal.redis.checking import Checker, JournalCheck, check
from relay.journal.redis.reading import Claim, reading, stored_records
from relay.journal.shared import Entry
from relay.wire.record_json import stamp
from tests.journal.redis.nodes import Story, joined
from tests.journal.redis.servers import EngineServer
from tests.journal.telling import START


async def test_the_records_of_all_jobs_or_of_some_are_read_in_order_while_a_node_goes_on(engine: EngineServer) -> None:
    async with joined(engine.url) as node:
        fence = await node.own()
        one, two = Story("one", fence), Story("two", fence)
        for _ in range(300):
            await node.append(one.next(), two.next(), one.next())
        await node.until(lambda: node.journal.head == 900)
        records = list(node.journal.read(0, limit=1000))
        keys = await engine.call("DBSIZE")
        read: list[Record] = []
        async for record in stored_records(engine.url):
            if not read:
                await node.append(two.next())  # behind the head that the journal had at first
            read.append(record)

        assert read == records
        assert [record async for record in stored_records(engine.url, ["two"])] == [
            *(record for record in records if record.job == "two"),
            *node.journal.read(900),
        ]
        assert await engine.call("DBSIZE") == keys


async def test_what_is_not_there_is_an_error(engine: EngineServer) -> None:
    with pytest.raises(JournalError, match="there is no journal of a cluster 'relay' at "):
        [_ async for _ in stored_records(engine.url)]
    async with joined(engine.url, run=False):
        with pytest.raises(UsageError, match="holds nothing of a job 'none'"):
            [_ async for _ in stored_records(engine.url, ["none"])]
        with pytest.raises(JournalError, match="there is no journal of a cluster 'other' at "):
            [_ async for _ in stored_records(engine.url, name="other")]


async def test_an_entry_that_cannot_be_read_is_left_out_and_a_removed_one_is_said(engine: EngineServer) -> None:
    notices: list[str] = []
    async with joined(engine.url, run=False) as node:
        await node.append(*Story("j", await node.own()).take(6))
        stream = node.journal._engine.here.stream
        await engine.call("XDEL", stream, "3-0")
        await engine.call("XADD", stream, "7-0", "body", "{}", "node", "n", "token", "1", "gen", "1")
        await engine.call("HSET", "{relay}:m", "head", "7")
        seqs = [record.seq async for record in stored_records(engine.url, notify=notices.append)]

    assert seqs == [1, 2, 4, 5, 6]
    assert [line.replace(str(engine.socket), "SOCKET") for line in notices] == [
        "entries 3 to 3 of the journal at SOCKET were removed meanwhile",
        "entry 7 of the journal at SOCKET cannot be read by this version; left out",
    ]


async def test_a_journal_that_nodes_wrote_is_found_right_also_trimmed_and_in_a_new_epoch(engine: EngineServer) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "b") as b:
        story = Story("j", await a.own())
        ended = Story("ended", story.fence)
        await a.append(*story.take(3), ended.next(), ended.end())
        story.fence = await b.own()
        await b.append(*story.take(2))
        assert await checked(engine.url) == JournalCheck(records=7, jobs=2, findings=())

        await engine.call("FLUSHALL")
        await b.until(lambda: b.begun)
        story.fence = await b.own()
        assert await b.journal.carry_over(story.fence, [story.stored])
        await b.append(*story.take(2))
        assert await checked(engine.url) == JournalCheck(records=2, jobs=1, findings=())
    async with joined(engine.url, "c") as c:
        story.fence = await c.own()
        for _ in range(10):
            await c.append(*story.take(50))
        await c.until(lambda: len(c.seqs("j")) == 500)
        await engine.call("XTRIM", f"{{relay}}:s:{c.journal.epoch}", "MAXLEN", 100)
        found = await checked(engine.url)
        assert (found.jobs, found.findings) == (1, ())
        assert found.records < 500


async def checked(url: str) -> JournalCheck:
    async with reading(url) as journal:
        return await check(journal)


CLAIMS = [Claim(1, 5, "a", "e", 10), Claim(2, 6, "b", "e", 10), Claim(1, 7, "c", "e", 14)]


def entry(
    offset: int, seq: int, event: Event | None = None, *, job: str = "j", token: int = 5, node: str = "a"
) -> KeptEntry:
    record = stamp(job, seq, START, event or Checking(attempt=seq, of=9), Position("e", offset))
    return KeptEntry(Entry(offset=offset, node=node, token=token, record=record), 1, "", b"")


@pytest.mark.parametrize(
    ("entries", "findings"),
    [
        ([entry(11, 1), entry(12, 2), entry(13, 1, job="k", token=6, node="b"), entry(14, 3)], []),
        ([entry(20, 8, token=7, node="c"), entry(21, 9, token=7, node="c")], []),
        ([entry(11, 1), entry(13, 2)], ["offsets 12 to 12 are missing"]),
        ([entry(11, 2)], ["j has seq 2 at offset 11 behind seq 0"]),
        ([entry(11, 1), entry(12, 1)], ["j has seq 1 at offset 12 behind seq 1"]),
        ([entry(12, 4), entry(13, 6)], ["j has seq 6 at offset 13 behind seq 4"]),
        ([entry(11, 1, Done(urls=())), entry(12, 2)], ["j has seq 2 at offset 12 behind its end"]),
        ([entry(14, 4), entry(15, 5)], ["offset 15 was appended with token 5, which ended at 14"]),
        ([entry(11, 1, node="b")], ["offset 11 was appended by b with a token of a"]),
        ([entry(11, 1, token=99, node="z")], []),
    ],
)
def test_what_a_journal_must_not_hold_is_found(entries: list[KeptEntry], findings: list[str]) -> None:
    checker = Checker("e", 10, CLAIMS)
    for kept in entries:
        checker.read(kept)

    assert checker.outcome().findings == tuple(findings)


def test_a_state_that_is_not_the_fold_of_the_entries_is_found() -> None:
    checker = Checker("e", 10, CLAIMS)
    kept = [entry(11, 1), entry(12, 2), entry(13, 1, job="k"), entry(14, 1, Done(urls=()), job="ended")]
    for one in kept:
        checker.read(one)
    state = JobState()
    for one in kept[:2]:
        assert one.entry.record is not None
        state = evolve(state, one.entry.record)
    stored = StoredJob(id="j", state=state)

    checker.compare("j", stored, 14)
    checker.compare("j", replace(stored, state=replace(state, offset=15, seq=9)), 14)
    checker.compare("ended", None, 14)
    assert checker.outcome() == JournalCheck(records=4, jobs=3, findings=())
    checker.compare("j", replace(stored, state=replace(state, seq=1)), 14)
    checker.compare("k", None, 14)
    assert checker.outcome().findings == (
        "j has the state of seq 1 at offset 12, and its newest entry is seq 2 at offset 12",
        "k runs, and has no state",
    )


def test_many_findings_are_counted() -> None:
    checker = Checker("e", 10, [])
    for place in range(30):
        checker.read(entry(11 + 2 * place, 1 + place))

    found = checker.outcome()
    assert (len(found.findings), found.further) == (20, 9)
