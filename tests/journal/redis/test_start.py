"""The start of a node on what others have appended, and the reading that goes on from there."""

from relay.journal.shared import SharedJournal
from tests.journal.redis.nodes import Story, joined, running
from tests.journal.redis.servers import EngineServer


async def test_a_node_that_joins_reads_all_that_is_kept_and_goes_on_without_hole_or_repetition(
    engine: EngineServer,
) -> None:
    async with joined(engine.url, "a") as a:
        story = Story("j", await a.own())
        for _ in range(13):
            await a.append(*story.take(100))
        async with joined(engine.url, "b", run=False) as b:
            shared: SharedJournal = b.journal
            assert shared.node.startswith("b-")
            await a.append(*story.take(2))
            assert [record.seq for record in b.journal.read(0, limit=2_000)] == list(range(1, 1301))
            assert [(job.id, job.state.seq, job.state.offset) for job in b.jobs] == [("j", 1300, 1300)]
            async with running(b):
                await b.until(lambda: len(b.entries) == 2)
                assert b.offsets() == [1301, 1302]
                await a.until(lambda: len(a.entries) == 1302)
                assert list(a.journal.read(0, limit=2_000)) == list(b.journal.read(0, limit=2_000))
                assert (a.begun, b.begun, a.notices, b.notices) == ([], [], [], [])
