"""What one node knows of the engine, and the scripts and reads by which it learns and adds more."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from operator import itemgetter
from typing import Any, Final, cast

from msgspec import Struct
from redis.asyncio import Redis

from relay.journal.base import StoredJob
from relay.journal.redis._entries import carried_arguments, draft_arguments, read_state
from relay.journal.redis._keys import EpochKeys, Keys
from relay.journal.redis._scripts import Script
from relay.journal.shared import Draft, Fence
from relay.notices import Notify

__all__ = ["BEHIND_ALL", "Engine", "Fields", "Meta"]

Fields = dict[bytes, bytes]
"""The fields of an entry."""

BEHIND_ALL: Final = 2**20
"""By how much a new epoch begins behind all that any node can have read: no cursor is ever ahead of its head."""

STAY: Final = 600_000
"""Milliseconds for which the keys of an old epoch stay: its last entry wakes the nodes that still read there."""

OTHERS_LOOK: Final = 3.0
LOOK_AGAIN: Final = 0.25
"""Seconds for which a node that starts lets others look at an engine that was started again, and between two tries.

The others have lost their connections, and try to connect again at least every second.
"""

SCANNED: Final = 200
"""The states of a page, which is decoded without a pause: about 2 ms."""


class Meta(Struct, frozen=True):
    """The engine as it is: *generations* has the head with which each process of it began, by number.

    The epoch has the entries behind *base*, up to *head*.
    """

    epoch: str
    gen: int
    head: int
    base: int
    generations: dict[int, int]


class Engine:
    """The engine of one journal, as one node sees it. Each method sends commands by the client that it gets.

    It knows the *epoch*; in it the highest offset that was read or acknowledged, *head*, and up to which generation
    that is a part of the engine's story, *gen*; and the highest *token* of what it has read. *claimed* returns the
    highest of the leases that it has seen.
    """

    def __init__(self, keys: Keys, node: str, most: int, claimed: Callable[[], int], notify: Notify) -> None:
        self.keys: Keys = keys
        self.epoch: str = ""
        self.gen: int = 0
        self.head: int = 0
        self.token: int = 0
        self._node = node
        self._most = most
        self._claimed = claimed
        self._notify = notify
        self._mark: tuple[int, bytes] | None = None
        self._open = Script("open", shared=True)
        self._append = Script("append", shared=True)
        self._carry_over = Script("carry_over", shared=True)

    @property
    def here(self) -> EpochKeys:
        """The keys of the epoch."""
        return self.keys.of(self.epoch)

    def begin(self, meta: Meta) -> None:
        """Go on in the epoch of *meta*, of which nothing is read yet."""
        self.epoch, self.gen, self.head, self._mark = meta.epoch, meta.gen, meta.base, None

    def saw(self, offset: int, token: int, raw: bytes) -> None:
        """Note an entry that was read, the newest up to now."""
        self.head, self._mark = max(self.head, offset), (offset, raw)
        self.token = max(self.token, token)

    def acknowledged(self, head: int) -> None:
        """Note that entries up to *head* are stored."""
        self.head = max(self.head, head)

    async def look(self, redis: Redis, *, spoiled: bool = False) -> Meta:
        """Adopt the engine as it is, or begin a new epoch where it lacks what this node knows, or has it *spoiled*.

        The epoch that is returned may be another than that of this node, which goes on there by `begin`.
        """
        while True:
            epoch, meta = self.epoch, await self._opened(redis, spoiled)
            if meta.epoch != epoch or epoch != self.epoch:
                return meta
            # More may have been read meanwhile, from a process that is none of the story.
            if not any(gen > self.gen and head < self.head for gen, head in meta.generations.items()):
                self.gen = max(self.gen, meta.gen)
                return meta

    async def _opened(self, redis: Redis, spoiled: bool) -> Meta:
        """Let nodes that know more look first, for OTHERS_LOOK: an engine that was started again may lack something."""
        patience = OTHERS_LOOK
        while (meta := await self._run_open(redis, spoiled, patient=patience > 0)) is None:
            await asyncio.sleep(LOOK_AGAIN)
            patience -= LOOK_AGAIN
        return meta

    async def _run_open(self, redis: Redis, spoiled: bool, *, patient: bool) -> Meta | None:
        """Run open.lua; None if another node is to look first."""
        offset, raw = self._mark or (0, b"")
        known = (self.epoch, self.gen, self.head, max(self.token, self._claimed()))
        mark = (offset, sha1(raw, usedforsecurity=False).hexdigest() if self._mark else "")
        rest = (secrets.token_hex(4), BEHIND_ALL, self.keys.prefix, STAY, "1" if patient else "")
        answer = await self._open(
            redis, (self.keys.meta, self.keys.tokens), (*known, *mark, "1" if spoiled else "", *rest)
        )
        if answer == b"WAIT":
            return None
        epoch, gen, head, base, generations = answer
        began = (pair.split(":") for pair in generations.decode().split(" "))
        return Meta(epoch.decode(), int(gen), int(head), int(base), {int(number): int(at) for number, at in began})

    async def append(self, redis: Redis, number: int, drafts: Sequence[Draft]) -> bytes:
        """The answer of append.lua."""
        here = self.here
        arguments = [argument for draft in drafts for argument in draft_arguments(draft)]
        answer = await self._append(
            redis,
            (self.keys.meta, *here, self.keys.leases),
            (self.epoch, self._node, number, self._most, *arguments),
        )
        return cast(bytes, answer)

    async def carry_over(self, redis: Redis, fence: Fence, jobs: Sequence[tuple[StoredJob, str]]) -> bytes:
        """The answer of carry_over.lua for *jobs*, each with what it has unique."""
        here = self.here
        arguments = [argument for job, unique in jobs for argument in carried_arguments(job, unique)]
        answer = await self._carry_over(
            redis,
            (self.keys.meta, here.stream, here.states, here.unique, self.keys.leases),
            (self.epoch, self._node, self._most, *fence, *arguments),
        )
        return cast(bytes, answer)

    async def states(self, redis: Redis) -> list[tuple[int, StoredJob]]:
        """The state of every job that the epoch has, and the offset of its first entry; not as of one moment.

        One that this version cannot read is left out, with a notice.
        """
        jobs: list[tuple[int, StoredJob]] = []
        cursor = unreadable = 0
        while True:
            cursor, page = await _awaited(redis.hscan(self.here.states, cursor, count=SCANNED))
            for value in page.values():
                try:
                    jobs.append(read_state(value))
                except ValueError:
                    unreadable += 1
            if not cursor:
                break
            await asyncio.sleep(0)
        if unreadable:
            self._notify(f"the states of {unreadable:,} jobs in the journal cannot be read by this version")
        return sorted(jobs, key=itemgetter(0))

    async def unique(self, redis: Redis) -> dict[str, str]:
        """What jobs have unique, by job."""
        found: dict[str, str] = {}
        cursor = 0
        while True:
            cursor, page = await _awaited(redis.hscan(self.here.unique, cursor, count=SCANNED))
            found.update((job.decode(), unique.decode()) for unique, job in page.items())
            if not cursor:
                return found
            await asyncio.sleep(0)

    async def entries(self, redis: Redis, after: int, limit: int) -> list[tuple[bytes, Fields]]:
        """The oldest *limit* entries behind the offset *after*."""
        found = await _awaited(redis.xrange(self.here.stream, f"{after + 1}-0", "+", count=limit))
        return cast("list[tuple[bytes, Fields]]", found)

    async def newest_command(self, redis: Redis) -> str:
        """The id of the newest command; 0-0 where there is none."""
        found = await _awaited(redis.xrevrange(self.keys.commands, count=1))
        return str(found[0][0].decode()) if found else "0-0"

    async def glance(self, redis: Redis) -> tuple[str, int, int]:
        """Epoch, generation and head as they are stored: cheaper than `look`, and it decides nothing."""
        epoch, gen, head = await _awaited(redis.hmget(self.keys.meta, ["epoch", "gen", "head"]))
        return (epoch or b"").decode(), int(gen or 0), int(head or 0)


async def _awaited(answer: Any) -> Any:
    """The answer to a command, which the client's own annotations do not describe."""
    return await cast("Awaitable[Any]", answer)
