"""Streams are written to once for what is sent together: a commit, or all commits of one turn of the loop."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from relay import Job, Record, SqliteJournal
from relay.bus import Bus
from relay.events import Log
from relay.journal import MemoryJournal
from relay.journal.base import Journal
from relay.testing import ManualClock
from sinks.sse import frame
from tests.web.streaming.test_apart import PATIENCE, Member
from web.streaming.fanout import FanOut
from web.streaming.group import Group
from web.streaming.selection import Selection
from web.streaming.wire import SSE


class Streams:
    """Two streams of all jobs at one level each, and one of each job, on a bus with *journal*."""

    def __init__(self, journal: Journal) -> None:
        self.clock = ManualClock()
        self.bus = Bus(journal, clock=self.clock)
        self.jobs = [Job(f"job-{number}") for number in range(3)]
        self.fanout = FanOut(self.bus, PATIENCE)
        self.groups: dict[Member, Group] = {}
        self.of_all = [self._join(Selection(None)), self._join(Selection(None), "info")]
        self.of_jobs = [self._join(Selection([job])) for job in self.jobs]

    def _join(self, selection: Selection, level: str = "debug") -> Member:
        member = Member()
        group = self.fanout.join_group(member, SSE, level, selection, chunked=False)  # type: ignore[arg-type]
        self.groups[member] = group
        return member

    def publish(self, lines: int = 1) -> list[Record]:
        return [self.bus.publish(job, Log(line=f"{number}")) for number in range(lines) for job in self.jobs]

    def publish_deferred(self) -> list[Record]:
        with self.bus.batch(deferrable=True):
            return self.publish()

    def leave(self) -> None:
        for member, group in self.groups.items():
            group.leave(member)


def joined(records: Sequence[Record]) -> bytes:
    return b"".join(map(frame, records))


async def test_all_commits_of_one_turn_of_the_loop_are_one_write_to_each_stream() -> None:
    streams = Streams(MemoryJournal())
    records = streams.publish(10)
    assert [member.written for member in streams.groups] == [[]] * 5
    await asyncio.sleep(0)

    assert [member.written for member in streams.of_all] == [[joined(records)]] * 2
    assert [member.written for member in streams.of_jobs] == [[joined(records[first::3])] for first in range(3)]
    streams.leave()


async def test_a_commit_of_deferred_batches_is_written_at_once_and_in_order(tmp_path: Path) -> None:
    with ExitStack() as stack:
        streams = Streams(stack.enter_context(closing(SqliteJournal(tmp_path / "relay.db"))))
        first = streams.publish_deferred()
        assert [member.written for member in streams.of_all] == [[joined(first)]] * 2
        second = streams.publish_deferred() + streams.publish_deferred()
        await streams.clock.advance(1.0)
        with streams.bus.batch(deferrable=True):
            third = streams.publish()

        # The timer of the deferred ones may have come first, on a machine that is busy.
        assert b"".join(streams.of_all[0].written) == joined(first + second + third)
        assert [b"".join(member.written) for member in streams.of_jobs] == [
            joined((first + second + third)[start::3]) for start in range(3)
        ]
        streams.leave()


class BusyClock(ManualClock):
    """A clock that goes on while the relay is at work."""

    worked = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.worked


async def test_a_burst_to_many_streams_is_one_write_to_each_though_writing_takes_longer_than_a_commit_waits(
    tmp_path: Path,
) -> None:
    clock = BusyClock()

    class Reader(Member):
        def write(self, data: bytes) -> None:
            super().write(data)
            clock.worked += 0.001

    with ExitStack() as stack:
        bus = Bus(stack.enter_context(closing(SqliteJournal(tmp_path / "relay.db"))), clock=clock)
        fanout, job, members = FanOut(bus, PATIENCE), Job("job"), [Reader() for _ in range(100)]
        groups = [fanout.join_group(member, SSE, "debug", Selection(None), chunked=False) for member in members]
        records: list[Record] = []
        for number in range(5):
            with bus.batch(deferrable=True):
                records.append(bus.publish(job, Log(line=f"{number}")))
            clock.worked += 0.01
        await asyncio.sleep(0)

        assert [member.written for member in members] == [[joined(records)]] * 100
        for group, member in zip(groups, members, strict=True):
            group.leave(member)


async def test_a_group_that_is_left_before_its_flush_is_not_written_any_more() -> None:
    streams = Streams(MemoryJournal())
    streams.publish()
    gone = streams.of_jobs[0]
    streams.groups.pop(gone).leave(gone)
    await asyncio.sleep(0)

    assert gone.written == []
    assert all(member.written for member in streams.groups)
    streams.leave()


async def test_a_group_that_fails_as_it_is_flushed_leaves_the_others_alone() -> None:
    streams = Streams(MemoryJournal())
    broken = streams.of_jobs[0]
    group = streams.groups[broken]
    members, group.members = group.members, None  # type: ignore[assignment]
    records = streams.publish()
    await asyncio.sleep(0)

    assert [member.written for member in streams.of_jobs[1:]] == [[frame(record)] for record in records[1:]]
    group.members = members
    streams.leave()
