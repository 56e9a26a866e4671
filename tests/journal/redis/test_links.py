"""The way between a node and its engine fails: nothing is appended twice or lost, and the operator can see it."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from relay.errors import ConfigError, JournalError
from relay.journal.redis import RedisJournal
from relay.journal.shared import Command, Draft, Refusal
from tests.faults.cluster.proxy import Proxy
from tests.journal.redis.nodes import Node, Story, joined, running
from tests.journal.redis.servers import ENGINES, EngineServer, free_ports, running_engine, until


@pytest.fixture(params=ENGINES)
def own(request: pytest.FixtureRequest) -> Iterator[EngineServer]:
    """A server on loopback that the test may kill and set as it likes."""
    [port] = free_ports(1)
    with running_engine(request.param, port=port) as server:
        yield server


async def test_a_batch_whose_reply_was_lost_is_appended_once(own: EngineServer) -> None:
    async with Proxy("127.0.0.1", own.port) as proxy, joined(f"redis://127.0.0.1:{proxy.port}") as node:
        story = Story("j", await node.own())
        lost = Story("k", story.fence)
        lost.next()
        await node.journal.append(1, story.take(1))  # from here on the engine knows the script
        batch = [story.next(), lost.next(), story.next()]
        proxy.replies.clear()
        appending = asyncio.create_task(node.journal.append(2, batch))
        await until(lambda: has_length(own, node.journal.epoch, 3))
        proxy.reset()
        proxy.release()

        with pytest.raises(JournalError):
            await appending
        assert await again(node, 2, batch) == [None, Refusal("hole"), None]
        assert await again(node, 3, story.take(1)) == [None]
        await node.until(lambda: len(node.entries) == 4)
        assert (node.seqs("j"), node.offsets(), node.begun) == ([1, 2, 3, 4], [1, 2, 3, 4], [])


async def test_a_request_that_comes_after_its_sender_gave_up_and_went_on_changes_nothing(own: EngineServer) -> None:
    async with joined(own.url) as node:
        story = Story("j", await node.own())
        first, second = [story.next()], [story.next()]
        assert await node.journal.append(1, first) == [None]
        assert await node.journal.append(2, second) == [None]
        epoch = node.journal.epoch
        late = await node.journal._engine.append(node.journal._client._redis, 1, first)

        assert late == b"LATE"
        assert await own.call("XLEN", f"{{relay}}:s:{epoch}") == 2


async def test_while_the_engine_stands_still_readers_have_what_they_have_and_then_nothing_is_missing(
    own: EngineServer,
) -> None:
    async with joined(own.url) as node:
        story = Story("j", await node.own())
        await node.append(*story.take(3))
        await node.until(lambda: len(node.entries) == 3)
        own.freeze()
        batch = story.take(2)
        with pytest.raises(JournalError, match="no answer in time"):
            await node.journal.append(2, batch)
        while node.journal.problem is None:  # noqa: ASYNC110 - it is for the operator, who looks at it now and then
            await asyncio.sleep(0.01)
        assert "no answer in time" in node.journal.problem
        assert len(node.journal.read(0)) == 3
        own.thaw()
        assert await again(node, 2, batch) == [None, None]
        await node.until(lambda: len(node.entries) == 5)

        assert (node.seqs("j"), node.begun) == ([1, 2, 3, 4, 5], [])
        assert not node.journal.problem


async def test_an_engine_that_still_loads_its_data_can_be_opened_later(own: EngineServer) -> None:
    async with joined(own.url) as node:
        await node.append(*Story("j", await node.own()).take(3))
        await own.call("EVAL", "for i = 1, 150 do redis.call('SET', 'other:' .. i, i) end", 0)
        await own.call("SAVE")
        own.kill()
        own.options += ["--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"]
        own.ready = b"Server initialized"
        own.start()
        with pytest.raises(JournalError, match="loading its data"):
            async with joined(own.url):
                pass
        await until(lambda: own.call("PING"))
        async with joined(own.url) as other:
            assert [job.state.seq for job in other.jobs] == [3]
            assert other.journal.epoch == node.journal.epoch


async def test_a_wrong_password_is_an_error_of_the_configuration(engine: EngineServer) -> None:
    with pytest.raises(ConfigError, match="does not accept the user or the password"):
        async with joined(f"unix://nobody:c4n4ry@{engine.socket}"):
            pass


async def test_a_url_that_overrides_what_correctness_hangs_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="an option"):
        async with joined("redis://127.0.0.1:6379?socket_timeout=9"):
            pass


@pytest.mark.parametrize("name", ["two words", "a{b}", "n" * 65])
def test_a_name_that_cannot_be_a_part_of_a_key_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="the name of a cluster is 1 to 64 letters, digits"):
        RedisJournal("redis://127.0.0.1", name=name)
    with pytest.raises(ConfigError, match="the name of a node is 1 to 64 letters, digits"):
        RedisJournal("redis://127.0.0.1", node=name)


async def test_commands_are_passed_on_in_order_once_to_every_node_and_none_from_before_it_joined(
    engine: EngineServer,
) -> None:
    def numbered(number: int) -> Command:
        return Command(id=str(number), op="o", sender="a", body=b'{"n":1}')

    async with joined(engine.url, "a") as a:
        await a.journal.commands.send(numbered(0))
        async with joined(engine.url, "b", run=False) as b:
            for number in range(1, 6):
                await a.journal.commands.send(numbered(number))
            async with running(b):
                await b.until(lambda: len(b.commands) == 5)
            await a.until(lambda: len(a.commands) == 6)
    assert b.commands == [numbered(number) for number in range(1, 6)]
    assert a.commands == [numbered(0), *b.commands]


async def again(node: Node, number: int, drafts: Sequence[Draft]) -> Sequence[Refusal | None]:
    """Repeat a batch until its outcome is known."""
    while True:
        try:
            return await node.journal.append(number, drafts)
        except JournalError:
            await asyncio.sleep(0.05)


async def has_length(server: EngineServer, epoch: str, length: int) -> bool:
    return bool(await server.call("XLEN", f"{{relay}}:s:{epoch}") == length)
