"""One node's journal on a MemoryEngine: every request, reply and read can be held back, lost or refused by a test."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

from relay.errors import JournalError
from relay.events import Level, Record
from relay.journal.base import Kept, Retention, StoredJob
from relay.journal.memory import MemoryJournal
from relay.journal.shared import Claimed, ClusterView, Command, Draft, Entry, Fence, Lease, Receiver, Refusal
from tests.cluster.memory_engine import AnotherEpochError, Known, MemoryEngine, Meta

__all__ = ["Gate", "MemoryNode"]

_Answer = TypeVar("_Answer")


class Gate:
    """A place of the way that is open until a test closes it. What has come to a closed gate waits there."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._arrived = asyncio.Condition()
        self.held: int = 0
        """How many wait at present."""

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        """Go through, once the gate is open."""
        if self._open.is_set():
            return
        self.held += 1
        try:
            async with self._arrived:
                self._arrived.notify_all()
            await self._open.wait()
        finally:
            self.held -= 1

    async def holds(self, count: int = 1) -> None:
        """Return when *count* wait, or more."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.held >= count)


class MemoryNode:
    """A `SharedJournal`, `LeaseStore` and `Commands` of the node *name*.

    *requests*, *replies* and *tail* are gates: before a script runs, behind it, and before entries are read.
    `time_out` lets all calls under way fail while their requests go on, as a client does that gives up.
    """

    def __init__(self, engine: MemoryEngine, name: str, keep: Retention | None = None) -> None:
        self._engine = engine
        self._name = name
        self._keep = keep
        self._meta = Meta("", 0, 0, 0, 0)
        self._copy = MemoryJournal(keep)
        self._head = 0
        self._acknowledged = 0
        self._token = 0
        self._states: set[str] = set()
        self._carried: dict[str, int] = {}
        self._commands_read = len(engine.commands)
        self._receiver: Receiver | None = None
        self._news = asyncio.Event()
        self._moved = asyncio.Event()
        self._calls: dict[asyncio.Future[None], asyncio.Future[object]] = {}
        self.requests: Gate = Gate()
        self.replies: Gate = Gate()
        self.tail: Gate = Gate()
        self.lost_replies: int = 0
        """How many of the next replies are lost: the script has run, and the call fails."""
        self.problem: str | None = None
        engine.listen(self._news.set)

    @property
    def node(self) -> str:
        return self._name

    @property
    def leases(self) -> "MemoryNode":
        return self

    @property
    def commands(self) -> "MemoryNode":
        return self

    # The copy.

    @property
    def epoch(self) -> str:
        return self._meta.epoch

    @property
    def head(self) -> int:
        return self._head

    @property
    def kept(self) -> Kept:
        return self._copy.kept

    def read(
        self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512, level: Level = "debug"
    ) -> Sequence[Record]:
        return self._copy.read(after, jobs, limit=limit, level=level)

    def has_all_since(self, offset: int, jobs: Collection[str] | None = None) -> bool:
        carried = [at for job, at in self._carried.items() if jobs is None or job in jobs]
        return offset >= max(carried, default=0) and self._copy.has_all_since(offset, jobs)

    def keeps(self, job: str) -> bool:
        return self._copy.keeps(job) or job in self._carried

    def states(self, job: str) -> bool:
        return job in self._states

    # Calls.

    async def open(self) -> Sequence[StoredJob]:
        self._meta = await self._call(lambda: self._engine.open(Known()))
        trimmed_to, jobs = self._engine.jobs()
        self._head = trimmed_to
        self._copy = MemoryJournal(self._keep, epoch=self.epoch, after=trimmed_to)
        self._states = {job.id for job in jobs}
        self._carried = {}
        self._take(self._engine.behind(trimmed_to))
        self._head = max(self._head, self._meta.head)
        return sorted(jobs, key=lambda job: (job.state.started is None, job.state.started, job.state.offset))

    async def append(self, number: int, drafts: Sequence[Draft]) -> Sequence[Refusal | None]:
        epoch, drafts = self.epoch, list(drafts)
        answer = await self._call(lambda: self._engine.append(epoch, self.node, number, drafts))
        return list(answer)

    async def carry_over(self, fence: Fence, jobs: Sequence[StoredJob]) -> bool:
        epoch, jobs = self.epoch, list(jobs)
        return await self._call(lambda: self._engine.carry_over(epoch, self.node, fence, jobs))

    async def view(self) -> ClusterView:
        view = await self._call(self._engine.view, writes=False)
        self._token = max([self._token, *(lease.token for lease in view.leases.values())])
        return view

    async def beat(self, held: Mapping[int, int]) -> frozenset[int]:
        return await self._call(partial(self._engine.beat, self.node, dict(held)), writes=False)

    async def claim(self, shard: int, seen: Lease | None) -> Claimed | None:
        claimed = await self._call(lambda: self._engine.claim(self.node, shard, seen))
        self._token = max(self._token, claimed.token if claimed is not None else 0)
        return claimed

    async def release(self, held: Mapping[int, int]) -> None:
        await self._call(partial(self._engine.release, self.node, dict(held)), writes=False)

    async def leave(self) -> None:
        await self._call(lambda: self._engine.leave(self.node), writes=False)

    async def send(self, command: Command) -> None:
        await self._call(lambda: self._engine.send(command))

    async def catch_up(self) -> None:
        meta = await self._call(self._engine.meta, writes=False)
        while meta is not None and self._head < meta.head:
            await self._moved.wait()

    async def tidy(self) -> None:
        await self._call(self._engine.tidy)

    async def close(self) -> None:
        for carrying in self._calls:
            carrying.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def acknowledged(self) -> None:
        """Return when no call is under way, and those who called have their answers."""
        while self._calls:
            await asyncio.wait(list(self._calls))
            await asyncio.sleep(0)

    def time_out(self) -> None:
        """Let every call under way fail; its request stays where it is, and may still be carried out."""
        for answer in self._calls.values():
            _settle(answer, JournalError("the engine did not answer in time"))

    async def _call(self, script: Callable[[], _Answer], *, writes: bool = True) -> _Answer:
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        carrying = asyncio.ensure_future(self._carry(script, answer, writes))
        self._calls[carrying] = answer  # type: ignore[assignment]
        carrying.add_done_callback(self._calls.pop)
        return await answer

    async def _carry(self, script: Callable[[], _Answer], answer: "asyncio.Future[_Answer]", writes: bool) -> None:
        await self.requests.passed()
        try:
            result = self._run_script(script, writes)
        except JournalError as error:
            return _settle(answer, error)
        await self.replies.passed()
        if self.lost_replies:
            self.lost_replies -= 1
            _settle(answer, JournalError("the connection was lost before the reply"))
        elif not answer.done():
            answer.set_result(result)

    def _run_script(self, script: Callable[[], _Answer], writes: bool) -> _Answer:
        engine = self._engine
        if engine.down:
            raise JournalError("the engine cannot be reached")
        if writes and engine.refusing is not None:
            raise JournalError(engine.refusing)
        try:
            return script()
        except AnotherEpochError:
            self._news.set()
            raise JournalError("the engine has another epoch by now") from None
        finally:
            self._note(engine.meta())

    def _note(self, meta: Meta | None) -> None:
        """The engine has answered: it has all that this node has seen, or the next look finds what is lost."""
        if meta is None or meta.epoch != self.epoch:
            return
        if meta.gen != self._meta.gen and meta.since >= max(self._head, self._acknowledged):
            self._meta = meta
        if meta.gen == self._meta.gen:
            self._acknowledged = max(self._acknowledged, meta.head)

    # The tail.

    async def run(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._news.set()
        while True:
            await self._news.wait()
            self._news.clear()
            await self.tail.passed()
            self.problem = "the engine cannot be reached; it is tried again" if self._engine.down else None
            if self.problem is None:
                self._look(receiver)
                self._moved.set()
                self._moved = asyncio.Event()

    def _look(self, receiver: Receiver) -> None:
        meta = self._engine.meta()
        known = Known(self.epoch, max(self._head, self._acknowledged), self._meta.gen, self._token)
        if meta is None or meta.epoch != self.epoch or meta.gen != self._meta.gen or meta.head < known.head:
            meta = self._engine.open(known)
        if meta.epoch != self.epoch:
            self._head = self._acknowledged = max(meta.base, known.head)
            self._copy = MemoryJournal(self._keep, epoch=meta.epoch, after=self._head)
            self._states = set()
            self._carried = {}
            self._meta = meta
            receiver.begin_anew()
        self._meta = meta
        trimmed_to, jobs = self._engine.jobs()
        if trimmed_to > self._head:
            self._go_on_behind(trimmed_to, jobs, receiver)
        if entries := self._engine.behind(self._head):
            self._take(entries)
            receiver.receive(entries)
        commands, self._commands_read = self._engine.commands[self._commands_read :], len(self._engine.commands)
        for command in commands:
            if command.to in ("", self.node):
                receiver.command(command)

    def _go_on_behind(self, offset: int, jobs: Sequence[StoredJob], receiver: Receiver) -> None:
        """Entries up to *offset* are gone: their jobs have a state, and readers of this node a gap."""
        self._head = offset
        self._copy = MemoryJournal(self._keep, epoch=self.epoch, after=offset)
        self._states = {job.id for job in jobs}
        self._carried = {}
        receiver.begin_anew()
        receiver.receive([Entry(offset=offset, node="", token=0, stored=job) for job in jobs])

    def _take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._head = entry.offset
            if entry.record is not None:
                self._states.add(entry.record.job)
                self._copy.append(entry.record)
            elif entry.stored is not None:
                self._states.add(entry.stored.id)
                self._carried[entry.stored.id] = entry.offset
        self._copy.commit()


def _settle(answer: "asyncio.Future[_Answer]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
