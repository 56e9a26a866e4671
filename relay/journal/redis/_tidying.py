"""What one node removes from the engine now and then: what lies beyond the bounds, and what nobody needs any more."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from redis.asyncio import Redis

from relay.journal.redis._engine import Engine
from relay.journal.redis._entries import read_state

__all__ = ["tidy"]

SCANNED: Final = 200


async def tidy(redis: Redis, engine: Engine, trimmed_to: int, behind: int) -> None:
    """Trim the stream up to about *behind* entries before the offset *trimmed_to*; remove the jobs that ended by then.

    Raises as the client does.

    The offsets of an epoch follow each other, so a length says where it begins: MINID is unknown to Redis 5. Whole
    nodes of the stream go, at most some thousands of entries at a time, which takes 2 ms of the engine.
    """
    client: Any = redis
    here, known = engine.here, engine.epoch
    epoch, _, head = await engine.glance(redis)
    if epoch != known:
        return
    while await client.xtrim(here.stream, maxlen=head - trimmed_to + behind, approximate=True):  # noqa: ASYNC110
        await asyncio.sleep(0)
    async for page in _pages(client, here.states):
        if ended := [job for job, value in page.items() if _is_over(value, trimmed_to)]:
            await client.hdel(here.states, *ended)
    async for page in _pages(client, here.unique):
        states: list[bytes | None] = await client.hmget(here.states, list(page.values())) if page else []
        if free := [unique for unique, state in zip(page, states, strict=True) if state is None]:
            await client.hdel(here.unique, *free)
    nodes = await client.smembers(engine.keys.nodes)
    if gone := set(await client.hkeys(here.batches)) - nodes:
        # A node that comes back and repeats its last batch gets `hole` for it: it is there, and not added again.
        await client.hdel(here.batches, *gone)


def _is_over(state: bytes, trimmed_to: int) -> bool:
    """Whether this is the state of a job that has ended, and whose entries lie up to *trimmed_to*."""
    try:
        if int(state.split(b" ", 2)[1]) > trimmed_to:
            return False
        _, job = read_state(state)
        return job.state.ended
    except ValueError:
        return False


async def _pages(client: Any, key: str) -> AsyncIterator[dict[bytes, bytes]]:
    cursor = 0
    while True:
        cursor, page = await client.hscan(key, cursor, count=SCANNED)
        yield page
        if not cursor:
            return
        await asyncio.sleep(0)
