"""The start of a node: what the engine keeps becomes the local copy, and the states of the jobs."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace
from redis.asyncio import Redis

from relay.jobs.state import evolve
from relay.journal.base import StoredJob
from relay.journal.redis._copy import LocalCopy
from relay.journal.redis._engine import Engine, Fields, Meta
from relay.journal.redis._entries import KeptEntry, is_move, offset_of, read_entry
from relay.notices import Notify

__all__ = ["load"]

PAGE: Final = 512
SLICE: Final = 128
"""The entries that are decoded without a pause: about 3 ms."""

T = TypeVar("T")


async def load(redis: Redis, engine: Engine, copy: LocalCopy, notify: Notify) -> list[StoredJob]:
    """Read all that the engine keeps into *copy*; the jobs as of its head, oldest first. Raises as the client does."""
    while True:
        meta = await engine.look(redis)
        engine.begin(meta)
        loading = _Loading(redis, engine, copy, meta)
        if await loading.finished():
            break
    engine.acknowledged(copy.head)
    if loading.unreadable:
        notify(f"{loading.unreadable:,} entries of the journal cannot be read by this version; readers get a gap")
    jobs = sorted(loading.jobs.values(), key=lambda job: loading.firsts[job.id])
    return [job for job in jobs if copy.states(job.id)]


class _Loading:
    """One attempt. It fails if the engine changes, or trims what was still to be read."""

    def __init__(self, redis: Redis, engine: Engine, copy: LocalCopy, meta: Meta) -> None:
        self._redis = redis
        self._engine = engine
        self._copy = copy
        self._meta = meta
        self.jobs: dict[str, StoredJob] = {}
        self.firsts: dict[str, int] = {}
        self.unreadable: int = 0

    async def finished(self) -> bool:
        """Load; return whether that came to its end."""
        engine, copy = self._engine, self._copy
        # The states come first: entries that are appended meanwhile are behind them in the stream.
        states = await engine.states(self._redis)
        self.jobs = {job.id: job for _, job in states}
        self.firsts = {job.id: first for first, job in states}
        self._unique = await engine.unique(self._redis)
        self._begin_behind(self._meta.base)
        begun = False
        while page := await engine.entries(self._redis, copy.head, PAGE):
            if not begun:
                self._begin_behind(offset_of(page[0][0]) - 1)
                begun = True
            for part in _slices(page, SLICE):
                if not self._add(part):
                    return False
                await asyncio.sleep(0)
        if copy.head < self._meta.head:
            self._begin_behind(self._meta.head)
        return True

    def _begin_behind(self, offset: int) -> None:
        self._copy.begin(self._engine.epoch, offset, self.jobs.values(), self._unique)

    def _add(self, entries: Sequence[tuple[bytes, Fields]]) -> bool:
        """Add *entries* to the copy and to the jobs; False if they do not follow."""
        engine = self._engine
        page: list[KeptEntry] = []
        head = self._copy.head
        for id, fields in entries:
            offset = offset_of(id)
            try:
                kept = None if is_move(fields) else read_entry(id, fields, engine.epoch)
            except ValueError:
                self.unreadable += 1
                page, head = [], offset
                self._begin_behind(offset)
                continue
            if kept is None or kept.gen > engine.gen or offset != head + 1:
                return False
            page.append(kept)
            head = offset
        self._copy.add(page)
        for kept in page:
            engine.saw(kept.entry.offset, kept.entry.token, kept.raw)
            self._fold(kept)
        return True

    def _fold(self, kept: KeptEntry) -> None:
        record, stored = kept.entry.record, kept.entry.stored
        if stored is not None:
            self.jobs.setdefault(stored.id, stored)
            self.firsts.setdefault(stored.id, kept.entry.offset)
        if record is not None and (job := self.jobs.get(record.job)) is not None and record.seq > job.state.seq:
            self.jobs[record.job] = replace(job, state=evolve(job.state, record))


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
