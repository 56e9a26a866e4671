"""A sink written by hand, without the queue that keeps most laws by itself. It keeps them all."""

import asyncio
from collections import deque
from itertools import count
from types import TracebackType
from typing import Any, Self

from relay import Progress, Record
from relay.clock import Clock
from relay.events import Level, at_least
from relay.notices import Notify
from relay.testing import ScriptedFarEnd
from relay.testing.conformance.sink_tally import Tally

CANARY = "canary-7Qx_secret-password"


class RightSink:
    """Sends each record to a far end, one at a time and in order, from a queue of its own."""

    capacity = 500
    lanes = 1

    def __init__(self, far_end: ScriptedFarEnd, *, token: str = CANARY, level: Level = "debug") -> None:
        self.level: Level = level
        self.far_end = far_end
        self.token = token
        self.notify: Notify = lambda _: None
        self.waiting_records: deque[Record] = deque()
        self.news = asyncio.Event()
        self.delivered = self.coalesced = self.dropped = self.failed = 0
        self.under_way = 0
        self.lost = 0
        self.draining = False
        self.task: asyncio.Task[None] | None = None
        self.beat: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to far-end.example>"

    def bind(self, clock: Clock, notify: Notify, name: str) -> None:
        self.notify = notify

    def counts(self) -> Tally:
        return Tally(self.delivered, self.coalesced, self.dropped, self.failed, self.waiting)

    @property
    def waiting(self) -> int:
        return len(self.waiting_records) + self.under_way

    async def __aenter__(self) -> Self:
        self.beat = asyncio.create_task(asyncio.Event().wait(), name="beat")
        try:
            await self.connect()
        except BaseException:
            await self.release()
            raise
        self.draining = False
        self.task = asyncio.create_task(self.run(), name="worker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def connect(self) -> None:
        await asyncio.sleep(0)
        try:
            await self.far_end.take(b"")
        except ConnectionError:
            raise ConnectionError("far-end.example cannot be reached") from None

    async def release(self) -> None:
        if self.beat is not None:
            self.beat.cancel()

    async def aclose(self) -> None:
        task, self.task = self.task, None
        if task is None:
            return
        self.draining = True
        self.news.set()
        try:
            await self.drain(task)
        finally:
            task.cancel()
            await self.release()
            self.give_up()
        await asyncio.wait([task])

    async def drain(self, task: "asyncio.Task[None]") -> None:
        await asyncio.wait([task], timeout=3.0)

    def give_up(self) -> None:
        if rest := self.waiting:
            self.dropped += rest
            self.waiting_records.clear()
            self.under_way = 0
            self.notify(f"{rest} records were not delivered")

    def __call__(self, record: Record) -> object:
        if self.passes(record):
            self.accept(record)
        return None

    def passes(self, record: Record) -> bool:
        return record.terminal or at_least(record.event.level, self.level)

    def accept(self, record: Record) -> None:
        if len(self.waiting_records) >= self.capacity:
            self.make_room()
        self.waiting_records.append(record)
        self.news.set()

    def make_room(self) -> None:
        for place in range(20):
            one, following = self.waiting_records[place], self.waiting_records[place + 1]
            if _replaces(following, one):
                del self.waiting_records[place]
                self.coalesced += 1
                return
        self.drop(self.waiting_records.popleft())

    def drop(self, record: Record) -> None:
        self.dropped += 1
        self.lost += 1

    async def run(self) -> None:
        while not self.draining or self.waiting_records:
            if not self.waiting_records:
                self.news.clear()
                await self.news.wait()
                continue
            await self.report_lost()
            self.under_way = 1
            await self.deliver(self.waiting_records.popleft())
            self.under_way = 0

    async def report_lost(self) -> None:
        if lost := self.lost:
            self.lost = 0
            await self.send(b'{"type":"skipped","missed":%d}\n' % lost, f"lost-{self.dropped}")

    async def deliver(self, record: Record) -> None:
        await self.send(self.encode(record), f"{record.job}-{record.seq}")
        self.delivered += 1

    async def send(self, data: bytes, key: str) -> None:
        for attempt in count(1):
            try:
                async with asyncio.timeout(10.0):
                    return await self.far_end.take(data, self.key(key, attempt))
            except asyncio.CancelledError as error:
                self.cut_off(error)
            except (ConnectionError, TimeoutError) as error:
                self.met(error)
            await asyncio.sleep(min(30.0, 0.5 * 2**attempt))

    def key(self, key: str, attempt: int) -> str:
        return key

    def cut_off(self, error: asyncio.CancelledError) -> None:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise error

    def met(self, error: Exception) -> None:
        self.notify(f"far-end.example cannot be reached: {type(error).__name__}")

    def encode(self, record: Record) -> bytes:
        return record.json + b"\n"


def _replaces(later: Record, earlier: Record) -> bool:
    match earlier.event, later.event:
        case Progress() as before, Progress() as after:
            return earlier.job == later.job and (before.status, before.raw_status) == (after.status, after.raw_status)
        case _:
            return False
