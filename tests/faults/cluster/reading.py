"""The part of the checker that compares what readers have received with the streams. Pure."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping

import msgspec

from relay.events import Position, Record, at_least
from tests.faults.cluster.history import Block, Connection, Epoch, History, Story
from tests.faults.cluster.violation import Violation

__all__ = ["check_readers"]

LEFT_OUT = frozenset({"progress", "checking", "received"})
"""The records that a slow reader may be spared, if it is notified of their number."""


def check_readers(history: History) -> Iterator[Violation]:
    """One id, one content, for all; each reader's list is a run of the stream, and every break has a gap."""
    written = {
        f"{epoch.name}-{entry.offset}": entry.record.json.decode()
        for epoch in history.epochs
        for entry in epoch.entries
        if entry.record is not None
    }
    read: dict[str, str] = {}
    trimmed = any(epoch.trimmed for epoch in history.epochs)
    for story in history.stories:
        for block in (block for connection in story.connections for block in connection.blocks if block.is_record):
            if read.setdefault(block.id, block.data) != block.data:
                yield Violation("bytes", f"two readers have two records under {block.id}")
            if written.get(block.id, block.data) != block.data:
                yield Violation("bytes", f"{story.reader} has another record under {block.id} than the stream")
            if block.id not in written and not trimmed and not history.losses:
                yield Violation("bytes", f"{story.reader} has {block.id}, which is in no stream")
    for story in history.stories:
        yield from _check_story(story)
        yield from _Run(history, story).check()


def _check_story(story: Story) -> Iterator[Violation]:
    """To one reader, the seq of a job never goes back, and nothing comes behind its end.

    In a new epoch, behind a gap, the job is as its owner knew it: what this one had not received yet comes again.
    """
    seqs: dict[str, int] = {}
    ended: set[str] = set()
    epoch = ""
    for connection in story.connections:
        for block in connection.blocks:
            if not block.is_record:
                continue
            before, epoch = epoch, block.id.rpartition("-")[0]
            if epoch != before:
                seqs, ended = {}, set()
            head = msgspec.json.decode(block.data, type=_Head)
            job, seq = head.job, head.seq
            if seq <= seqs.get(job, 0):
                yield Violation("reader", f"{story.reader} has seq {seq} of {job} behind {seqs[job]}, at {block.id}")
            if job in ended:
                yield Violation("reader", f"{story.reader} has a record of {job} behind its end, at {block.id}")
            seqs[job] = seq
            if block.event in ("done", "failed", "cancelled"):
                ended.add(job)


class _Run:
    """One reader against the streams."""

    def __init__(self, history: History, story: Story) -> None:
        self._story = story
        self._epochs: Mapping[str, Epoch] = {epoch.name: epoch for epoch in history.epochs}
        self._losses = history.losses
        self._wanted: dict[str, list[Record]] = {
            epoch.name: [
                entry.record for entry in epoch.entries if entry.record is not None and self._selects(entry.record)
            ]
            for epoch in history.epochs
        }
        self._offsets = {name: [record.position.offset for record in found] for name, found in self._wanted.items()}

    def _selects(self, record: Record) -> bool:
        level = at_least(record.event.level, self._story.level) or record.terminal
        return level and self._story.job in ("", record.job)

    def check(self) -> Iterator[Violation]:
        for connection in self._story.connections:
            yield from self._check(connection)

    def _check(self, connection: Connection) -> Iterator[Violation]:
        cursor = Position.parse(connection.cursor) if connection.cursor else None
        # A client without a cursor may be sent a snapshot in place of old records; any other one is sent a gap first.
        excused = not connection.cursor
        spared = 0
        for block in connection.blocks:
            where = Position.parse(block.id)
            if where is None:
                yield Violation("reader", f"{self._story.reader} has a block without a position: {block}")
                continue
            if block.event == "gap":
                excused = True
            elif block.event == "skipped":
                if spared:
                    yield Violation("hole", f"{self._story.reader} lacks {spared} records fewer than was notified")
                spared = msgspec.json.decode(block.data, type=_Skipped).missed
            elif block.event == "snapshot" and where != cursor:
                if not excused and where.epoch != "unknown":
                    yield Violation("gap", f"{self._story.reader} was moved to {block.id} without a gap")
                cursor = where
            elif block.is_record or block.event == "heartbeat":
                missing = list(self._between(cursor, where, block))
                yield from self._break(cursor, where, block)
                lasting = [record for record in missing if record.event.type not in LEFT_OUT]
                if len(missing) > spared or lasting:
                    words = ", ".join(f"{record.position.offset} ({record.event.type})" for record in missing[:5])
                    name = self._story.reader
                    yield Violation("hole", f"{name} came from {cursor} to {where}, {spared} left out, without {words}")
                cursor, spared, excused = where, max(0, spared - len(missing)), False

    def _break(self, cursor: Position | None, where: Position, block: Block) -> Iterator[Violation]:
        name = self._story.reader
        if where.epoch not in self._epochs:
            if not self._losses:
                yield Violation("gap", f"{name} has {block.id}, of an epoch that nobody knows")
        elif cursor is not None and cursor.epoch != where.epoch:
            yield Violation("gap", f"{name} came from {cursor} to {where} without a gap")
        elif cursor is not None and block.is_record and where.offset <= cursor.offset:
            yield Violation("reader", f"{name} has {where} behind {cursor}")

    def _between(self, cursor: Position | None, where: Position, block: Block) -> list[Record]:
        """The records that the reader wants, behind *cursor* and before the record at *where*."""
        epoch = self._epochs.get(where.epoch)
        if epoch is None or (cursor is not None and cursor.epoch != epoch.name) or (cursor is None and epoch.trimmed):
            return []
        after = epoch.base if cursor is None else cursor.offset
        last = where.offset - 1 if block.is_record else where.offset
        offsets = self._offsets[epoch.name]
        return self._wanted[epoch.name][bisect_right(offsets, after) : bisect_right(offsets, last)]


class _Head(msgspec.Struct):
    job: str
    seq: int


class _Skipped(msgspec.Struct):
    missed: int
