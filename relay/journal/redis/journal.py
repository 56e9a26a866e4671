"""The journal that several nodes share: streams of Redis or Valkey, and scripts that are executed as one."""

import secrets
from collections.abc import Collection, Sequence
from typing import Final

from relay.errors import JournalError, UsageError
from relay.events import Level, Record
from relay.journal.base import Kept, Retention, StoredJob
from relay.journal.redis._client import EngineClient
from relay.journal.redis._commands import RedisCommands
from relay.journal.redis._copy import LocalCopy
from relay.journal.redis._engine import Engine
from relay.journal.redis._entries import read_answer
from relay.journal.redis._keys import Keys, checked_name
from relay.journal.redis._leases import RedisLeases
from relay.journal.redis._loading import load
from relay.journal.redis._place import read_url
from relay.journal.redis._tail import READ_TIMEOUT, Tail
from relay.journal.redis._tidying import tidy
from relay.journal.shared import Commands, Draft, Fence, LeaseStore, Receiver, Refusal
from relay.notices import Notify, guarded, notice
from relay.secret import Secret

__all__ = ["BATCH", "RedisJournal"]

BATCH: Final = 100
"""The most drafts of one call. [measured] Two hundred hold up every other client of the engine for 3 ms."""

BEHIND: Final = 10_000
"""How many entries the engine keeps beyond the bounds, for nodes that are behind: what they miss is a gap."""

CONNECTIONS: Final = 8
"""Connections beside that of the tail: an append, the leases and the requests of clients do not wait for each other."""


class RedisJournal:
    """A journal in the Redis or Valkey at *url*, shared by all nodes that name the same *name*.

    *keep* bounds the local copy, which is all that readers of this node can read. The engine keeps 10,000 entries more,
    for nodes that are behind; `pin_bytes` has no meaning here. *node* begins the name of this process; without it that
    is random. *notify* receives what the operator should know. Raises ConfigError for a URL or a name that cannot be
    one.
    """

    def __init__(
        self,
        url: Secret | str,
        keep: Retention | None = None,
        *,
        name: str = "relay",
        node: str | None = None,
        notify: Notify = notice,
    ) -> None:
        self._place = read_url(url.reveal() if isinstance(url, Secret) else url)
        self._keep = keep or Retention()
        keys = Keys(checked_name(name, "the name of a cluster"))
        self._node = f"{checked_name(node or 'node', 'the name of a node')}-{secrets.token_hex(4)}"
        self._notify = guarded(notify)
        self._client = EngineClient(self._place, read_timeout=READ_TIMEOUT, connections=CONNECTIONS)
        self._tail_client = EngineClient(self._place, read_timeout=READ_TIMEOUT)
        self._leases = RedisLeases(self._client, name, self._node)
        self._commands = RedisCommands(self._client, name)
        self._copy = LocalCopy(self._keep)
        most = self._keep.records + BEHIND
        self._engine = Engine(keys, self._node, most, lambda: self._leases.highest_token, self._notify)
        self._tail = Tail(self._tail_client, self._engine, self._copy, self._notify)

    @property
    def node(self) -> str:
        """The name of this process among the nodes."""
        return self._node

    @property
    def leases(self) -> LeaseStore:
        """The leases of the cluster."""
        return self._leases

    @property
    def commands(self) -> Commands:
        """The messages between its nodes."""
        return self._commands

    @property
    def problem(self) -> str | None:
        """Why the engine cannot be read at present; None while it can."""
        return self._tail.problem

    @property
    def epoch(self) -> str:
        return self._copy.epoch

    @property
    def head(self) -> int:
        return self._copy.head

    @property
    def kept(self) -> Kept:
        """How much the local copy keeps."""
        return self._copy.kept

    @property
    def tail_age(self) -> float:
        """Seconds since the engine last answered a read of its streams; about one at rest."""
        return self._tail.age

    async def open(self) -> Sequence[StoredJob]:
        """Connect and load. Raises JournalError for an engine that cannot be reached, ConfigError for a wrong one."""
        async with self._tail_client.talk(opening=True) as redis:
            self._tail.commands = await self._engine.newest_command(redis)
            return await load(redis, self._engine, self._copy, self._notify)

    async def append(self, number: int, drafts: Sequence[Draft]) -> Sequence[Refusal | None]:
        """Append up to BATCH *drafts* as one, once for each *number*. Raises JournalError if the outcome is unknown."""
        if len(drafts) > BATCH:
            raise UsageError(f"a batch has {BATCH} drafts at most")
        engine = self._engine
        epoch = engine.epoch
        async with self._client.talk() as redis:
            reply = await engine.append(redis, number, drafts)
            if reply == b"ENGINE" and (await engine.look(redis)).epoch == epoch:
                reply = await engine.append(redis, number, drafts)
            if reply in (b"EPOCH", b"ENGINE"):
                await engine.look(redis)
                raise self._moved()
            if reply == b"LATE":
                raise UsageError(f"batch {number} comes behind a newer one of this node, whose number has to be higher")
            answer = read_answer(reply)
            if answer.gen != engine.gen and (await engine.look(redis)).epoch != epoch:
                raise self._moved()
        if engine.epoch != epoch:
            raise self._moved()
        engine.acknowledged(answer.head)
        return [answer.refused.get(place) for place in range(len(drafts))]

    def states(self, job: str) -> bool:
        return self._copy.states(job)

    async def carry_over(self, fence: Fence, jobs: Sequence[StoredJob]) -> bool:
        """Append the states of *jobs* that the epoch lacks. Raises JournalError; repeating it does no harm."""
        engine = self._engine
        epoch = engine.epoch
        lacking = [(job, self._copy.unique(job.id)) for job in jobs if not self._copy.states(job.id)]
        async with self._client.talk() as redis:
            for start in range(0, len(lacking), BATCH):
                reply = await engine.carry_over(redis, fence, lacking[start : start + BATCH])
                if reply == b"FENCED":
                    return False
                if reply in (b"EPOCH", b"ENGINE") or engine.epoch != epoch:
                    await engine.look(redis)
                    raise self._moved()
                gen, head = map(int, reply.split(b" "))
                if gen == engine.gen:
                    engine.acknowledged(head)
        return True

    async def run(self, receiver: Receiver) -> None:
        """Pass on what is appended, until this is cancelled."""
        await self._tail.run(receiver)

    async def catch_up(self) -> None:
        """Return once the copy has all that the engine had when this was called. Raises JournalError."""
        async with self._client.talk() as redis:
            _, _, head = await self._engine.glance(redis)
        if not await self._tail.reaches(head):
            raise JournalError(f"this node lags behind what {self._place} has")

    async def tidy(self) -> None:
        """Remove from the engine what this node's copy does not keep, and the states of jobs that went with it.

        Raises JournalError; the next time does the rest.
        """
        async with self._client.talk() as redis:
            await tidy(redis, self._engine, self._copy.trimmed_to, BEHIND)
        await self._commands.tidy()

    async def close(self) -> None:
        """Close connections. Idempotent."""
        await self._client.close()
        await self._tail_client.close()

    def read(
        self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512, level: Level = "debug"
    ) -> Sequence[Record]:
        return self._copy.read(after, jobs, limit=limit, level=level)

    def has_all_since(self, offset: int, jobs: Collection[str] | None = None) -> bool:
        return self._copy.has_all_since(offset, jobs)

    def keeps(self, job: str) -> bool:
        return self._copy.keeps(job)

    def _moved(self) -> JournalError:
        return JournalError(f"{self._place} does not have what was appended before; a new epoch of the journal begins")
