"""Commands between nodes, on real servers."""

import pytest

from relay.errors import UsageError
from relay.journal.redis._client import EngineClient
from relay.journal.redis._commands import BODY_LIMIT, RedisCommands, read_command
from relay.journal.redis._place import read_url
from relay.journal.shared import Command, Commands
from tests.journal.redis.servers import EngineServer

COMMAND = Command(id="c1", op="submit", sender="a", shard=3, to="b", re="c0", body=b'{"input":"\xc3\xa9\\n"}')


async def test_a_command_is_read_as_it_was_sent(engine: EngineServer) -> None:
    client = EngineClient(read_url(engine.url), read_timeout=20)
    commands: Commands = RedisCommands(client, "r")
    sent = [COMMAND, Command(id="c2", op="cancel", sender="a")]
    for command in sent:
        await commands.send(command)
    await client.close()

    entries = await engine.call("XRANGE", "{r}:c", "-", "+")
    assert [read_command(dict(zip(fields[::2], fields[1::2], strict=True))) for _, fields in entries] == sent


async def test_a_body_over_the_limit_is_not_sent(engine: EngineServer) -> None:
    client = EngineClient(read_url(engine.url), read_timeout=20)
    commands = RedisCommands(client, "r")
    with pytest.raises(UsageError, match="a command has 1,048,577 bytes; at most 1,048,576 go from node to node"):
        await commands.send(Command(id="c", op="submit", sender="a", body=b"x" * (BODY_LIMIT + 1)))
    await client.close()

    assert not await engine.call("EXISTS", "{r}:c")


async def test_commands_that_were_there_at_the_tidying_before_are_removed(engine: EngineServer) -> None:
    client = EngineClient(read_url(engine.url), read_timeout=20)
    commands = RedisCommands(client, "r")

    async def send(*ids: str) -> None:
        for id in ids:
            await commands.send(Command(id=id, op="submit", sender="a", body=b"x" * 50_000))

    async def kept() -> list[bytes]:
        return [fields[1] for _, fields in await engine.call("XRANGE", "{r}:c", "-", "+")]

    await commands.tidy()
    await send("1", "2")
    await commands.tidy()
    await send("3")
    assert await kept() == [b"1", b"2", b"3"]
    await commands.tidy()
    assert await kept() == [b"2", b"3"]
    await commands.tidy()
    assert await kept() == [b"3"]
    await client.close()


@pytest.mark.parametrize(
    "fields", [{}, {b"id": b"1", b"op": b"x"}, {b"id": b"\xff", b"op": b"x", b"sender": b"a"}, {b"shard": b"many"}]
)
def test_an_entry_that_is_no_command_is_none(fields: dict[bytes, bytes]) -> None:
    assert read_command(fields) is None
