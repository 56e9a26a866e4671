"""The tail of the journal: what any node appends, read in order, and every change of the engine found out."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from relay.errors import JournalError
from relay.journal.redis._client import EngineClient
from relay.journal.redis._commands import read_command
from relay.journal.redis._copy import LocalCopy
from relay.journal.redis._engine import Engine, Fields
from relay.journal.redis._entries import ForeignEntryError, KeptEntry, is_move, offset_of, read_entry
from relay.journal.shared import Entry, Receiver
from relay.notices import Notify, describe
from relay.text import inert

__all__ = ["Tail"]

BLOCK: Final = 1000
"""Milliseconds for which a read waits. [measured] Neither FLUSHALL nor DEL wakes it, so its end is a chance to look."""

READ_TIMEOUT: Final = 3.0
"""Seconds after which an engine that does not answer counts as standing still."""

PAGE: Final = 128
"""The entries of one read, which are decoded and passed on without a pause: about 3 ms."""

CANCEL_AGAIN: Final = 0.05
"""Seconds after which a read that goes on is cancelled again."""

PAUSES: Final = (0.1, 1.0)
"""The shortest and the longest pause in seconds before a failed read is repeated."""


class Tail:
    """Reads the streams of records and of commands, over a connection of its own.

    *problem* is why they cannot be read at present; None while they can.
    """

    def __init__(self, client: EngineClient, engine: Engine, copy: LocalCopy, notify: Notify) -> None:
        """Made once the copy is loaded; commands that are older are not passed on."""
        self.problem: str | None = None
        self._client = client
        self._engine = engine
        self._copy = copy
        self._notify = notify
        self.commands: str = "0-0"
        """The id of the newest command that was read, or is not to be."""
        self._missed_at: int | None = None
        self._answered_at = time.monotonic()
        self._moved = asyncio.Event()

    @property
    def age(self) -> float:
        """Seconds since the engine last answered a read: at rest about a second, as a read blocks for that long."""
        return time.monotonic() - self._answered_at

    async def reaches(self, offset: int) -> bool:
        """Return True once the copy goes up to *offset*, and False if that takes READ_TIMEOUT."""
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                while self._copy.head < offset:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def run(self, receiver: Receiver) -> None:
        """Pass on what is read, until this is cancelled."""
        reading = asyncio.create_task(self._run(receiver), name="journal tail")
        try:
            await asyncio.wait([reading])
        finally:
            # The client may drop a cancellation as it sends (see EngineClient.talk), and the read blocks after that.
            while not reading.done():
                reading.cancel()
                await asyncio.wait([reading], timeout=CANCEL_AGAIN)
        await reading

    async def _run(self, receiver: Receiver) -> None:
        failures = 0
        while True:
            try:
                async with self._client.talk() as redis:
                    await self._settle(redis, receiver)
                    while True:
                        await self._read(redis, receiver)
                        failures = 0
            except JournalError as error:
                self.problem = str(error)
            shortest, longest = PAUSES
            pause = min(longest, shortest * 2**failures)
            failures = min(failures + 1, 8)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - nodes come apart, no secret

    async def _read(self, redis: Redis, receiver: Receiver) -> None:
        streams: dict[Any, Any] = {
            self._engine.here.stream: f"{self._copy.head}-0",
            self._engine.keys.commands: self.commands,
        }
        # Redis answers with a list, by the second version of its protocol.
        found: Any = await redis.xread(streams, count=PAGE, block=BLOCK)
        self.problem, self._answered_at = None, time.monotonic()
        if not found:
            return await self._glance(redis, receiver)
        for stream, entries in found:
            if stream.decode() == self._engine.keys.commands:
                self.commands = entries[-1][0].decode()
                for _, fields in entries:
                    if (command := read_command(fields)) is not None:
                        receiver.command(command)
            elif not await self._receive(redis, receiver, entries):
                return None
        await asyncio.sleep(0)
        return None

    async def _receive(self, redis: Redis, receiver: Receiver, entries: Sequence[tuple[bytes, Fields]]) -> bool:
        """Pass on *entries*; False if the node went on elsewhere, so that the rest is none of its story."""
        engine, copy = self._engine, self._copy
        page: list[KeptEntry] = []
        head = copy.head
        for id, fields in entries:
            try:
                kept = None if is_move(fields) else read_entry(id, fields, engine.epoch)
            except ForeignEntryError:
                self._pass_on(receiver, page)
                self._notify(f"another program has written entry {_shown(id)} of the journal; a new epoch begins")
                await self._settle(redis, receiver, spoiled=True)
                return False
            except ValueError as error:
                self._pass_on(receiver, page)
                self._notify(f"entry {_shown(id)} of the journal cannot be read: {describe(error)}; readers get a gap")
                await self._go_on_behind(offset_of(id), redis, receiver)
                return False
            if kept is None or kept.gen > engine.gen:
                self._pass_on(receiver, page)
                await self._follow(redis, receiver, kept)
                return False
            if kept.entry.offset != head + 1:
                self._pass_on(receiver, page)
                await self._go_on_behind(kept.entry.offset - 1, redis, receiver)
                page = []
            page.append(kept)
            head = kept.entry.offset
        self._pass_on(receiver, page)
        return True

    def _pass_on(self, receiver: Receiver, page: list[KeptEntry]) -> None:
        if page:
            self._copy.add(page)
            for kept in page:
                self._engine.saw(kept.entry.offset, kept.entry.token, kept.raw)
            receiver.receive([kept.entry for kept in page])
            self._wake()

    def _wake(self) -> None:
        """The copy goes further than before."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def _glance(self, redis: Redis, receiver: Receiver) -> None:
        """After a read that brought nothing: see whether there is something that no read will bring."""
        engine, copy = self._engine, self._copy
        epoch, gen, head = await engine.glance(redis)
        if (epoch, gen) != (engine.epoch, engine.gen) or head < engine.head:
            return await self._settle(redis, receiver)
        if head > copy.head == self._missed_at:
            # It was missing at the last look, too: the stream was deleted, or trimmed up to its end.
            return await self._go_on_behind(head, redis, receiver)
        self._missed_at = copy.head if head > copy.head else None
        return None

    async def _follow(self, redis: Redis, receiver: Receiver, kept: KeptEntry | None) -> None:
        """Look, since *kept* comes from another process of the engine, or the epoch has moved on."""
        epoch = self._engine.epoch
        await self._settle(redis, receiver)
        if self._engine.epoch == epoch and (kept is None or kept.gen > self._engine.gen):
            await self._settle(redis, receiver, spoiled=True)

    async def _settle(self, redis: Redis, receiver: Receiver, *, spoiled: bool = False) -> None:
        """Look at an engine that may have lost something, and go on in the epoch that it has then."""
        meta = await self._engine.look(redis, spoiled=spoiled)
        if meta.epoch != self._engine.epoch:
            self._engine.begin(meta)
            self._copy.begin(meta.epoch, meta.base)
            receiver.begin_anew()
            self._wake()
        newest = await self._engine.newest_command(redis)
        # Ids of commands are times; those of an engine that lost its data may begin below what was read.
        if _order(newest) < _order(self.commands):
            self.commands = newest

    async def _go_on_behind(self, offset: int, redis: Redis, receiver: Receiver) -> None:
        """Entries up to *offset* cannot be read any more: their jobs have a state, and readers of this node a gap."""
        engine = self._engine
        states = [job for _, job in await engine.states(redis)]
        self._copy.begin(engine.epoch, offset, states, await engine.unique(redis))
        engine.acknowledged(offset)
        receiver.begin_anew()
        receiver.receive([Entry(offset=offset, node="", token=0, stored=job) for job in states])
        self._wake()


def _order(id: str) -> tuple[int, int]:
    first, _, second = id.partition("-")
    return int(first), int(second)


def _shown(id: bytes) -> str:
    return inert(id.decode(errors="replace"))
