"""The content of the engine, read past all proxies as it grows: nothing is missing where it is trimmed or emptied."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from relay.clock import SystemClock
from relay.events import Position
from relay.journal import StoredJob
from relay.journal.shared import Entry
from relay.wire.record_json import read_record
from tests.faults.cluster.history import Claim, Epoch

__all__ = ["Observer"]

EVERY: Final = 0.5
"""Seconds between two looks: a stream is not trimmed by as much as it grows in that time."""

PAGE: Final = 2_000

FLUSH: Final = """
local epoch, known = redis.call('HGET', KEYS[1], 'epoch'), false
for place = 3, #ARGV do known = known or ARGV[place] == epoch end
if epoch and not known then return nil end
local found = {redis.call('XRANGE', KEYS[2], ARGV[1], '+'), redis.call('XRANGE', KEYS[3], ARGV[2], '+')}
redis.call('FLUSHALL')
return found
"""
"""Empty the engine, and return what is new; nothing is done if it has an epoch that is not known."""


class Observer:
    """Reads the streams of the cluster *name* at *url*. *epochs* and *claims* have all that there ever was."""

    def __init__(self, url: str, name: str = "relay") -> None:
        self.epochs: list[Epoch] = []
        self.claims: list[Claim] = []
        self._redis = Redis.from_url(url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=5.0)
        self._prefix = f"{{{name}}}"
        self._seen_claim = "-"
        self._looking = asyncio.Lock()

    @property
    def records(self) -> int:
        """How many records there are in all epochs."""
        return sum(entry.record is not None for epoch in self.epochs for entry in epoch.entries)

    async def run(self) -> None:
        """Look again and again. An engine that stands still, or is away, is looked at later."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError):
                await self._redis.connection_pool.disconnect()
            await SystemClock().sleep(EVERY)

    async def look(self) -> None:
        """Read what is new."""
        async with self._looking:  # two at a time would both add the same entries
            await self._look()

    async def _look(self) -> None:
        client: Any = self._redis
        meta = {key.decode(): value.decode() for key, value in (await client.hgetall(self._key("m"))).items()}
        # An engine with older data shows an epoch that is over; a node begins a new one soon.
        if not meta or meta["epoch"] in {epoch.name for epoch in self.epochs[:-1]}:
            return
        epoch = self._epoch(meta)
        while True:
            page = await client.xrange(self._key(f"s:{epoch.name}"), _behind(epoch), "+", count=PAGE)
            epoch.entries.extend(_entries(epoch.name, page))
            if len(page) < PAGE:
                break
        await self._read_claims()

    async def read_states(self) -> None:
        """Read the states of the jobs of the newest epoch, when nobody appends any more."""
        await self.look()
        client: Any = self._redis
        epoch = self.epochs[-1]
        found = await client.hgetall(self._key(f"j:{epoch.name}"))
        states = {job.decode(): _state(text) for job, text in found.items()}
        self.epochs[-1] = msgspec.structs.replace(epoch, states=states)

    async def flush(self) -> None:
        """Empty the engine, and miss nothing of what it had."""
        async with self._looking:
            while True:  # a node may begin an epoch behind the look
                await self._look()
                epoch = self.epochs[-1]
                keys = (self._key("m"), self._key(f"s:{epoch.name}"), self._key("claims"))
                known = [epoch.name for epoch in self.epochs]
                client: Any = self._redis
                found = await client.eval(FLUSH, len(keys), *keys, _behind(epoch), self._seen_claim, *known)
                if found is not None:
                    break
            page, claims = ([(id, _mapping(fields)) for id, fields in part] for part in found)
            epoch.entries.extend(_entries(epoch.name, page))
            self._take_claims(claims)

    async def close(self) -> None:
        await self._redis.aclose()

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _epoch(self, meta: Mapping[str, str]) -> Epoch:
        if not self.epochs or self.epochs[-1].name != meta["epoch"]:
            self.epochs.append(Epoch(name=meta["epoch"], base=int(meta.get("base", 0)), entries=[]))
        return self.epochs[-1]

    async def _read_claims(self) -> None:
        """Read those that are new: their ids are times, which go on where the engine has lost them."""
        client: Any = self._redis
        self._take_claims(await client.xrange(self._key("claims"), self._seen_claim, "+"))

    def _take_claims(self, found: list[Any]) -> None:
        for id, fields in found:
            self._seen_claim = f"({id.decode()}"
            text = {key.decode(): value.decode() for key, value in fields.items()}
            at = int(id.partition(b"-")[0]) / 1000
            claim = Claim(int(text["shard"]), int(text["token"]), text["node"], int(text["head"]), at, text["epoch"])
            self.claims.append(claim)


def _mapping(fields: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _behind(epoch: Epoch) -> str:
    """The ids behind all that was read of *epoch*."""
    return f"({epoch.entries[-1].offset if epoch.entries else epoch.base}-0"


def _entries(epoch: str, page: list[Any]) -> Iterator[Entry]:
    """The entries; the last one of an old epoch, which has no record, only names the next one."""
    return (_entry(epoch, id, fields) for id, fields in page if b"moved" not in fields)


def _entry(epoch: str, id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """An entry, by a reader of our own: that of the relay is under test as well."""
    offset = int(id.partition(b"-")[0])
    record = read_record(fields[b"body"], Position(epoch, offset)) if b"body" in fields else None
    stored = msgspec.json.decode(fields[b"stored"], type=StoredJob) if b"stored" in fields else None
    node, token = fields[b"node"].decode(), int(fields[b"token"])
    return Entry(offset=offset, node=node, token=token, record=record, stored=stored)


def _state(text: bytes) -> tuple[int, int, StoredJob]:
    numbers, _, stored = text.partition(b" {")
    seq, offset, *_ = map(int, numbers.split())
    return seq, offset, msgspec.json.decode(b"{" + stored, type=StoredJob)
