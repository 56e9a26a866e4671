"""A durable sink of a relay: where it goes on, what becomes of it, and when it is refused."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay import AttachedSink, Job, MemoryJournal, Record, Relay, SinkOptions, SqliteJournal, UsageError
from relay.events import Log
from relay.queue import Queued
from relay.testing import ManualClock
from tests.relay.scripted import OneStep

DOWN = ConnectionRefusedError("nobody is there")


class FarEnd:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.down = False
        self.news = asyncio.Event()

    async def work(self, record: Record) -> None:
        if self.down:
            raise DOWN
        self.lines.append(record.event.text)
        self.news.set()

    async def has(self, number: int) -> list[str]:
        while len(self.lines) < number:
            self.news.clear()
            await self.news.wait()
        return self.lines


@pytest.fixture
def far() -> FarEnd:
    return FarEnd()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@asynccontextmanager
async def relay_at(path: Path, sinks: list[Any], notices: list[str] | None = None) -> AsyncGenerator[tuple[Relay, Job]]:
    notify = list[str]().append if notices is None else notices.append
    journal = SqliteJournal(path, notify=notify)
    clock = ManualClock(auto=True)
    async with Relay([OneStep(lambda _: {})], sinks=sinks, journal=journal, clock=clock, notify=notify) as relay:
        yield relay, relay.registry.add(Job(f"job_{len(relay.jobs())}"))


def write(relay: Relay, job: Job, *lines: str) -> None:
    for line in lines:
        relay.bus.publish(job, Log(line=line))


async def caught_up(sink: AttachedSink) -> None:
    while sink.status().lag:  # noqa: ASYNC110 - nothing waits for a cursor
        await asyncio.sleep(0)


def hook(far: FarEnd) -> SinkOptions:
    return SinkOptions(sink=Queued(far.work), name="hook", types=["log"], durable=True)


async def test_it_goes_on_where_it_was_across_restarts_also_with_what_came_while_it_was_away(
    path: Path, far: FarEnd
) -> None:
    async with relay_at(path, []) as (relay, job):
        write(relay, job, "before it was there")
    async with relay_at(path, [hook(far)]) as (relay, job):
        write(relay, job, "1", "2")
        assert await far.has(2) == ["1", "2"]
    async with relay_at(path, []) as (relay, job):
        write(relay, job, "3", "4")
    async with relay_at(path, [hook(far)]) as (relay, job):
        write(relay, job, "5")
        assert await far.has(5) == ["1", "2", "3", "4", "5"]


async def test_leaving_the_relay_delivers_what_is_committed(path: Path, far: FarEnd) -> None:
    async with relay_at(path, [hook(far)]) as (relay, job):
        write(relay, job, "1", "2")
        assert far.lines == []
    assert far.lines == ["1", "2"]


async def test_its_status_shows_how_far_it_is_behind(path: Path, far: FarEnd) -> None:
    far.down = True
    async with relay_at(path, [hook(far)]) as (relay, job):
        write(relay, job, "1", "2")
        (sink,) = relay.sinks
        await asyncio.sleep(0)
        status = sink.status()
        assert (status.durable, status.cursor, status.lag, status.delivered) == (True, 0, 2, 0)
        far.down = False
        await caught_up(sink)
        assert (sink.status().cursor, sink.status().delivered) == (2, 2)


async def test_it_is_added_and_removed_while_records_flow_and_nothing_waits_for_it_after_that(
    path: Path, far: FarEnd
) -> None:
    async with relay_at(path, []) as (relay, job):
        write(relay, job, "1")
        sink = await relay.add_sink(far.work, name="hook", durable=True)
        write(relay, job, "2")
        await caught_up(sink)
        with pytest.raises(UsageError, match="there is a sink called 'hook' already"):
            await relay.add_sink(far.work, name="hook", durable=True)
        await sink.remove()
        write(relay, job, "3")
        journal = relay.journal
        assert isinstance(journal, SqliteJournal)
        assert [(cursor.name, cursor.offset, cursor.pins) for cursor in journal.cursors.all()] == [("hook", 2, False)]
        await relay.add_sink(far.work, name="hook", durable=True)
        assert await far.has(2) == ["2", "3"]


async def test_it_is_delivered_what_its_level_and_its_types_say(path: Path, far: FarEnd) -> None:
    async with relay_at(path, []) as (relay, job):
        await relay.add_sink(far.work, name="hook", durable=True, where=lambda record: record.seq % 2)
        write(relay, job, "1", "2", "3")
        assert await far.has(2) == ["1", "3"]


async def test_a_journal_in_memory_cannot_have_one(far: FarEnd) -> None:
    relay = Relay([OneStep(lambda _: {})], sinks=[hook(far)], journal=MemoryJournal(), clock=ManualClock(auto=True))
    with pytest.raises(UsageError) as caught:
        async with relay:
            pass
    assert str(caught.value) == (
        "sink hook cannot be durable: this journal ends with the process and keeps no cursors; use one in a file, such"
        ' as url = "sqlite:relay.db"'
    )


def test_a_sink_without_work_that_is_awaited_cannot_be_one() -> None:
    with pytest.raises(UsageError) as caught:
        Relay([], sinks=[SinkOptions(sink=print, name="printer", durable=True)])
    assert str(caught.value) == (
        "sink printer cannot be durable, since it has no `work` that is awaited: put it behind sinks.Queued"
    )
