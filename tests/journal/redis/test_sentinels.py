"""A failover by three real Sentinels: the client finds the new primary, and names what it waits for meanwhile."""

from contextlib import ExitStack

import pytest

from relay.errors import JournalError
from relay.journal.redis._client import EngineClient
from relay.journal.redis._leases import RedisLeases
from relay.journal.redis._place import read_url
from relay.journal.shared import Lease
from tests.journal.redis.servers import (
    SERVICE,
    EngineServer,
    Kind,
    Sentinels,
    SentinelServer,
    free_ports,
    running_engine,
    until,
)


@pytest.mark.server
@pytest.mark.redis
@pytest.mark.parametrize(("kind", "killed"), [("redis", True), ("valkey", False)], ids=["killed", "demoted"])
async def test_a_failover_is_followed_and_a_missing_primary_is_waited_for(kind: Kind, killed: bool) -> None:
    async with Sentinels.running(kind) as sentinels:
        first, second = sentinels.servers
        client = EngineClient(read_url(sentinels.url), read_timeout=5)
        leases = RedisLeases(client, "r", "a")
        troubles: list[str] = []

        async def beats() -> bool:
            try:
                return await leases.beat({1: 1}) == frozenset()
            except JournalError as error:
                troubles.append(str(error))
                return False

        async def beats_at(server: EngineServer) -> bool:
            """Whether a beat gets to *server*: one that is about to be demoted accepts some that are lost with it."""
            return await beats() and await leases_at(server) == {1: Lease("a", 1, leases._beats)}

        async def waits() -> bool:
            assert not await beats()
            return troubles[-1].startswith("no Sentinel names the primary of 'main' by ")

        try:
            await first.call("HSET", "{r}:m", "epoch", "e", "head", "0")
            assert await leases.claim(1, None) is not None
            await first.call("WAIT", "1", "0")

            if killed:
                first.kill()
            else:
                await sentinels.fail_over()
            await until(lambda: beats_at(second))

            for server in sentinels.servers:
                server.kill()
            await until(waits)
        finally:
            await client.close()


async def leases_at(server: EngineServer) -> dict[int, Lease]:
    """The leases as this very server has them, whatever the Sentinels say."""
    client = EngineClient(read_url(server.url), read_timeout=5)
    view = await RedisLeases(client, "r", "looker").view()
    await client.close()
    return dict(view.leases)


@pytest.mark.server
@pytest.mark.redis
async def test_a_primary_that_was_replaced_is_left_although_it_still_accepts_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.journal.redis._routes.ASK_EVERY", 0.0)
    first, second, third = free_ports(3)
    with ExitStack() as stack:
        old, new = (stack.enter_context(running_engine("redis", port=port)) for port in (first, second))
        sentinel = SentinelServer("redis", first, third, down_after=10_000, quorum=1)
        stack.callback(sentinel.close)
        sentinel.start()
        client = EngineClient(read_url(f"redis+sentinel://127.0.0.1:{third}/{SERVICE}"), read_timeout=5)

        async def counts_at(server: EngineServer) -> bool:
            async with client.talk() as redis:
                await redis.incr("n")
            return bool(await server.call("EXISTS", "n"))

        try:
            await until(lambda: counts_at(old))
            await sentinel.call("SENTINEL", "REMOVE", SERVICE)
            await sentinel.call("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", second, 1)
            await until(lambda: counts_at(new))
        finally:
            await client.close()

        assert (await old.call("ROLE"))[0] == b"master"
