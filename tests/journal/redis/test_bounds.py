"""How much is kept: in the copy of each node, and in the engine."""

from relay.journal import Retention
from relay.journal.redis.journal import BEHIND
from tests.journal.redis.nodes import Story, joined
from tests.journal.redis.servers import EngineServer


async def test_the_stream_and_the_copies_are_bounded_and_a_running_job_keeps_its_state(engine: EngineServer) -> None:
    keep = Retention(records=300)
    async with joined(engine.url, "a", keep=keep) as a:
        fence = await a.own()
        quiet, busy = Story("quiet", fence, key="k", owner="o"), Story("busy", fence)
        await a.append(quiet.next())
        for _ in range(10):
            await a.append(*busy.take(100))
        await a.until(lambda: len(a.entries) == 1001)
        assert await engine.call("XLEN", f"{{relay}}:s:{a.journal.epoch}") == 1001

        assert [record.seq for record in a.journal.read(0)] == list(range(701, 1001))
        assert (a.journal.kept.records, a.journal.has_all_since(701), a.journal.has_all_since(700)) == (
            300,
            True,
            False,
        )
        assert (a.journal.states("quiet"), a.journal.keeps("quiet")) == (True, False)
        async with joined(engine.url, "b", keep=keep, run=False) as b:
            assert list(b.journal.read(0)) == list(a.journal.read(0))
            assert {job.id: (job.state.seq, job.state.offset, job.key, job.owner) for job in b.jobs} == {
                "quiet": (1, 1, "k", "o"),
                "busy": (1000, 1001, None, ""),
            }


async def test_the_engine_keeps_no_more_than_the_bound_and_what_nodes_may_be_behind(engine: EngineServer) -> None:
    async with joined(engine.url, "a", keep=Retention(records=100), run=False) as a:
        base = 50_000
        key = f"{{relay}}:s:{a.journal.epoch}"
        await engine.call(
            "EVAL", "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], i .. '-0', 'a', 'b') end", 1, key, base
        )
        await engine.call("HSET", "{relay}:m", "head", base)
        story = Story("j", await a.own())
        for _ in range(5):  # a call trims 10,000 at most
            await a.append(*story.take(1))

        assert BEHIND + 100 <= await engine.call("XLEN", key) < BEHIND + 300


async def test_tidying_removes_what_the_copy_does_not_keep_and_the_jobs_that_ended_with_it(
    engine: EngineServer,
) -> None:
    async with joined(engine.url, "a", keep=Retention(age=100)) as a:
        fence = await a.own()
        await a.journal.leases.beat({0: fence.token})
        ended, running = Story("ended", fence, unique="its key"), Story("running", fence, unique="its task")
        await a.append(ended.next(), ended.end())
        for _ in range(4):
            await a.append(*running.take(100))
        last = Story("last", fence)
        await a.append(last.next(), last.end(), Story("another", fence, unique="its key").next())
        await a.until(lambda: len(a.entries) == 404)
        epoch = a.journal.epoch
        await engine.call("HSET", f"{{relay}}:b:{epoch}", "gone-1", "7 1 3")

        await a.journal.tidy()

        assert set(await keys(engine, "j", epoch)) == {b"running", b"last"}
        assert await keys(engine, "u", epoch) == [b"its task"]
        assert await keys(engine, "b", epoch) == [a.journal.node.encode()]
        assert (a.journal.states("ended"), a.journal.states("running")) == (False, True)
        assert await a.append(Story("another", fence, unique="its key").next()) == [None]


async def test_tidying_leaves_alone_what_other_nodes_append_meanwhile(engine: EngineServer) -> None:
    async with joined(engine.url, "a") as a, joined(engine.url, "b") as b:
        story = Story("j", await a.own(), unique="k")
        await a.append(*story.take(50), story.end())
        await b.journal.tidy()
        async with joined(engine.url, "c", run=False) as c:
            assert len(c.journal.read(0)) == 51
            assert [job.state.ended for job in c.jobs] == [True]


async def keys(server: EngineServer, kind: str, epoch: str) -> list[bytes]:
    found = await server.call("HKEYS", f"{{relay}}:{kind}:{epoch}")
    return sorted(found)
