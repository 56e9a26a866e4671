"""The fewest commands that a user of the engine needs, and that nothing of the relay calls another one."""

import re
from pathlib import Path

import pytest

from relay.errors import ConfigError, JournalError
from relay.journal import Retention
from relay.journal.redis._leases import RedisLeases
from relay.journal.redis.inspection import inspect
from relay.journal.shared import Command
from tests.journal.redis.nodes import Story, joined
from tests.journal.redis.servers import EngineServer

A_NODE = {
    *("evalsha", "eval", "time"),
    *("hmget", "hget", "hgetall", "hexists", "hkeys", "hscan", "hset", "hmset", "hsetnx", "hdel"),
    *("get", "set", "incr", "del", "pttl", "pexpire", "pexpireat"),
    *("sadd", "srem", "sismember", "smembers"),
    *("xadd", "xrange", "xrevrange", "xread", "xtrim"),
}
"""What a node calls, scripts included; `select` as well where the URL names a database."""

OPTIONAL = {"info", "config|get"}
"""What managed services refuse, and a node and `relay doctor` do without."""

DOCTOR = {"ping", "xlen", "scard", "hlen"}
"""What `relay doctor` calls beside it."""


PAGE = Path(__file__).parents[3] / "docs/how-to/run-several-nodes.md"


def test_the_page_names_these_commands() -> None:
    block = PAGE.read_text("utf-8").partition("ACL SETUSER relay on >PASSWORD")[2]
    user, _, rest = block.partition("```")

    assert set(re.findall(r"\+([a-z|]+)", user)) == A_NODE | {"info"}
    assert set(re.findall(r"\+([a-z|]+)", rest.partition("as well")[0])) == DOCTOR | {"config|get"}


async def live(url: str, engine: EngineServer) -> None:
    """Do all that nodes do: begin, append, refuse, read, tidy, hand over, command each other, begin anew, and leave."""
    bounds = Retention(records=120)
    async with joined(url, "a", keep=bounds) as a, joined(url, "b", keep=bounds) as b:
        await a.journal.leases.beat({})
        fence = await a.own()
        story = Story("j", fence, unique="u", key="k", owner="ann")
        await a.append(*story.take(50), Story("k", fence, unique="u").next())
        ended = Story("ended", fence)
        await a.append(ended.next(), ended.end())
        for _ in range(6):
            await a.append(*story.take(50))
        await b.until(lambda: b.journal.head == 352)
        await a.journal.tidy()
        await a.journal.leases.beat({0: fence.token})
        assert (await b.journal.leases.view()).nodes.keys() == {a.journal.node}
        await b.journal.commands.send(Command(id="1", op="x", sender=b.journal.node))
        await a.until(lambda: a.commands)
        async with joined(url, "c", keep=bounds, run=False) as c:
            assert {job.id for job in c.jobs} >= {"j"}

        await engine.call("FLUSHALL")
        await a.until(lambda: a.begun)
        fence = await a.own()
        assert await a.journal.carry_over(fence, [story.stored])
        await a.journal.leases.release({0: fence.token})
        await a.journal.leases.leave()
        await RedisLeases(a.journal._client, "relay", "d").beat({})


async def permit(engine: EngineServer, commands: set[str]) -> str:
    """The URL of a user who may run *commands* on the keys of the relay, and nothing else."""
    rules = [f"+{one}" for one in commands]
    await engine.call("ACL", "SETUSER", "least", "reset", "on", ">made-up", "~{relay}:*", *rules)
    return f"unix://least:made-up@{engine.socket}"


async def test_the_commands_that_are_named_are_enough_and_each_is_called(engine: EngineServer) -> None:
    url = await permit(engine, A_NODE | OPTIONAL | DOCTOR)
    await engine.call("CONFIG", "RESETSTAT")

    await live(url, engine)
    report = await inspect(url, "relay")

    assert (report.may_read_info, report.may_read_config, report.problems) == (True, True, ())
    called = set(re.findall(rb"cmdstat_([a-z|]+):", await engine.call("INFO", "commandstats")))
    others = {b"auth", b"flushall", b"config|resetstat", b"acl|setuser"}
    assert {name.decode() for name in called - others} == A_NODE | OPTIONAL | DOCTOR


async def test_a_node_works_without_the_commands_that_managed_services_refuse(engine: EngineServer) -> None:
    url = await permit(engine, A_NODE | DOCTOR)

    await live(url, engine)
    report = await inspect(url, "relay")

    assert (report.may_read_info, report.may_read_config, report.problems) == (False, False, ())
    assert report.advice == (
        "INFO is not permitted, so that a failover that lost records may be noticed late; permit INFO",
    )


async def test_a_command_that_is_missing_is_an_error_at_the_start(engine: EngineServer) -> None:
    with pytest.raises(ConfigError, match=r"does not permit its user a command that the relay needs.*evalsha"):
        async with joined(await permit(engine, A_NODE - {"evalsha"})):
            raise AssertionError("it opened")


async def test_a_command_that_is_missing_within_a_script_is_said_as_well(engine: EngineServer) -> None:
    async with joined(await permit(engine, A_NODE - {"incr"}), run=False) as node:
        with pytest.raises(JournalError, match="does not permit its user a command that the relay needs"):
            await node.own()
