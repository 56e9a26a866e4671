"""A journal in an engine, read by what is no node of it: nothing is written, nothing claimed, and nobody notices."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from relay.errors import JournalError, UsageError
from relay.events import Record
from relay.journal.base import StoredJob
from relay.journal.redis._client import EngineClient
from relay.journal.redis._entries import ForeignEntryError, KeptEntry, is_move, offset_of, read_entry, read_state
from relay.journal.redis._keys import Keys, checked_name
from relay.journal.redis._place import EnginePlace, read_url
from relay.notices import Notify, notice
from relay.text import inert

__all__ = ["Claim", "StoredJournal", "reading", "stored_records"]

PAGE: Final = 512

ANSWER_WITHIN: Final = 10.0
"""Seconds for each answer."""


class Claim(NamedTuple):
    """One claim of a *shard*: from *head* on in *epoch*, its records have this *token*, and *node* appends them."""

    shard: int
    token: int
    node: str
    epoch: str
    head: int


class StoredJournal:
    """The present *epoch* of a journal, from the oldest entry that is kept up to the *head* that it had at first.

    *base* is the offset with which the epoch began.
    """

    def __init__(self, client: EngineClient, keys: Keys, epoch: str, head: int, base: int) -> None:
        self.place: EnginePlace = client.place
        self.epoch: str = epoch
        self.head: int = head
        self.base: int = base
        self._client = client
        self._keys = keys

    async def entries(self, notify: Notify = notice) -> AsyncGenerator[KeptEntry]:
        """The entries, in order. One that cannot be read, or was removed meanwhile, is a line to *notify*."""
        after, began = self.base, False
        while after < self.head:
            async with self._client.talk() as redis:
                client: Any = redis
                stream = self._keys.of(self.epoch).stream
                page = await client.xrange(stream, f"{after + 1}-0", f"{self.head}-0", count=PAGE)
            if not page:
                return
            for id, fields in page:
                offset, kept = self._read(id, fields, notify)
                if began and offset != after + 1:
                    notify(f"entries {after + 1} to {offset - 1} of the journal at {self.place} were removed meanwhile")
                after, began = offset, True
                if kept is not None:
                    yield kept

    def _read(self, id: bytes, fields: Mapping[bytes, bytes], notify: Notify) -> tuple[int, KeptEntry | None]:
        try:
            return offset_of(id), None if is_move(fields) else read_entry(id, fields, self.epoch)
        except ForeignEntryError:
            raise JournalError(f"the journal at {self.place} has an entry that no relay has written") from None
        except ValueError:
            notify(f"entry {offset_of(id)} of the journal at {self.place} cannot be read by this version; left out")
            return offset_of(id), None

    async def claims(self) -> list[Claim]:
        """The newest claims, in the order in which they were made."""
        async with self._client.talk() as redis:
            client: Any = redis
            found = await client.xrange(self._keys.claims)
        return [_claim(fields) for _, fields in found]

    async def states(self, jobs: Collection[str]) -> AsyncGenerator[tuple[str, StoredJob | None]]:
        """The state of each of *jobs* as it is kept beside the entries, or None; it may be newer than `head`."""
        names = list(jobs)
        for start in range(0, len(names), PAGE):
            async with self._client.talk() as redis:
                client: Any = redis
                values = await client.hmget(self._keys.of(self.epoch).states, names[start : start + PAGE])
            for job, value in zip(names[start:], values, strict=False):
                yield job, None if value is None else read_state(value)[1]


def _claim(fields: Mapping[bytes, bytes]) -> Claim:
    shard, token, head = (int(fields[name]) for name in (b"shard", b"token", b"head"))
    return Claim(shard, token, fields[b"node"].decode(), fields[b"epoch"].decode(), head)


@asynccontextmanager
async def reading(url: str, name: str = "relay") -> AsyncGenerator[StoredJournal]:
    """The journal of the cluster *name* in the engine at *url*, whose nodes may go on meanwhile.

    Raises ConfigError for a URL that cannot be one, or that the engine does not accept; JournalError where there is no
    such journal, and where the engine cannot be reached.
    """
    keys = Keys(checked_name(name, "the name of a cluster"))
    client = EngineClient(read_url(url), read_timeout=ANSWER_WITHIN)
    try:
        async with client.talk(opening=True) as redis:
            reader: Any = redis
            epoch, head, base = await reader.hmget(keys.meta, "epoch", "head", "base")
        if epoch is None:
            raise JournalError(f"there is no journal of a cluster {name!r} at {client.place}; see [cluster] name")
        yield StoredJournal(client, keys, epoch.decode(), int(head), int(base))
    finally:
        await client.close()


async def stored_records(
    url: str, jobs: Collection[str] | None = None, *, name: str = "relay", notify: Notify = notice
) -> AsyncGenerator[Record]:
    """The records in the journal of the cluster *name* at *url*, of *jobs* or of all, in order.

    Only those of its present epoch, up to the head that it has now. Raises as `reading` does, and UsageError where the
    journal holds nothing of one of *jobs*.
    """
    async with reading(url, name) as journal:
        async for job, state in journal.states(jobs or ()):
            if state is None:
                raise UsageError(f"the journal at {journal.place} holds nothing of a job {inert(job)!r}")
        async for kept in journal.entries(notify):
            record = kept.entry.record
            if record is not None and (jobs is None or record.job in jobs):
                yield record
