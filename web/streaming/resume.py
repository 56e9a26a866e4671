"""Where a stream starts: the position that the client names, and the records that the journal keeps. No I/O."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from relay import Bus, Job, JournalReader, Position
from web.streaming.selection import Selection

__all__ = ["UNKNOWN", "Gap", "StreamStart", "has_all_of", "resume_stream", "start_kept", "start_stream"]

UNKNOWN: Final = Position("unknown", 0)
"""The cursor of a client that named no position of this journal, until it has received the whole snapshot."""


class Gap(Struct, frozen=True, kw_only=True):
    """The records that a client cannot be sent: all between *start* and *to*.

    *start* is None if the client named no position; *missed* is None if the records cannot be counted.
    """

    start: Position | None
    to: Position
    missed: int | None


class StreamStart(Struct, frozen=True, kw_only=True):
    """How a stream of *selection* starts.

    *after*: the position behind which records are read. *known*: the position up to which the client has every record.
    *gap*: sent first if the client's past cannot be continued.
    *snapshot*: whether the state of the jobs is sent first, because their records are not all kept.
    *awaiting_end*: the ids of the jobs whose terminal record is still to be sent; None for a stream without end.
    *finished*: there is nothing to send, now or later.
    """

    selection: Selection
    after: Position
    known: Position
    gap: Gap | None = None
    snapshot: bool = False
    awaiting_end: frozenset[str] | None = None
    finished: bool = False


def start_stream(bus: Bus, selection: Selection, last_event_id: str | None) -> StreamStart:
    """The start of a live stream for a client that names *last_event_id*, or that is new."""
    journal = bus.journal
    claimed = Position.parse(last_event_id) if last_event_id else Position(journal.epoch, 0)
    known = claimed if claimed is not None and _is_of(journal, claimed) else None
    if known is not None and _has_all_since(journal, selection, known.offset):
        after, gap, snapshot = known, None, False
    else:
        after, snapshot = Position(journal.epoch, journal.head), True
        gap = _gap(journal, selection, claimed, known) if last_event_id else None
    awaiting_end = _awaiting_end(bus, selection, after.offset)
    return StreamStart(
        selection=selection,
        after=after,
        known=known or UNKNOWN,
        gap=gap,
        snapshot=snapshot,
        awaiting_end=awaiting_end,
        finished=awaiting_end is not None and not awaiting_end and bool(last_event_id) and gap is None,
    )


def start_kept(bus: Bus, selection: Selection, last_event_id: str | None) -> StreamStart:
    """The start of a stream of the kept records and no more.

    If the client's past is not kept whole, a live stream starts with a snapshot; this one starts with the oldest record
    that is kept, after a gap that covers the missing ones.
    """
    live = start_stream(bus, selection, last_event_id)
    if not live.snapshot:
        return live
    journal, known = bus.journal, live.known
    oldest = journal.read(0, selection.ids(), limit=1)
    start = Position(journal.epoch, oldest[0].position.offset - 1 if oldest else journal.head)
    gap = Gap(
        start=live.gap.start if live.gap is not None else known,
        to=start,
        missed=start.offset - known.offset if selection.is_all and known.epoch == journal.epoch else None,
    )
    awaiting_end = _awaiting_end(bus, selection, start.offset)
    return replace(live, after=start, known=start, gap=gap, snapshot=False, awaiting_end=awaiting_end, finished=False)


def resume_stream(bus: Bus, selection: Selection, reached: Position) -> StreamStart:
    """The start for a client that has received every record up to *reached*, also if that lies in an earlier epoch."""
    awaiting_end = _awaiting_end(bus, selection, reached.offset)
    return StreamStart(selection=selection, after=reached, known=reached, awaiting_end=awaiting_end)


def _is_of(journal: JournalReader, position: Position) -> bool:
    return position.epoch == journal.epoch and position.offset <= journal.head


def _has_all_since(journal: JournalReader, selection: Selection, offset: int) -> bool:
    """Whether every record of *selection* behind *offset* is kept: of a job that ended up to there, there is none.

    For the jobs of an owner, as for all, no record at all may be missing: a job of which nothing is kept is not known
    any more, nor whose it was.
    """
    if selection.jobs is None:
        return journal.has_all_since(offset)
    open_jobs = [job for job in selection.jobs if not (job.ended and 0 < job.state.offset <= offset)]
    return has_all_of(journal, open_jobs, offset)


def has_all_of(journal: JournalReader, jobs: Iterable[Job], offset: int) -> bool:
    """Whether every record of *jobs* behind *offset* is kept.

    A job whose first record waits for a journal that cannot be written is not known there, and lacks nothing.
    """
    return journal.has_all_since(offset, [job.id for job in jobs if job.state.seq])


def _gap(journal: JournalReader, selection: Selection, claimed: Position | None, known: Position | None) -> Gap:
    """[interface] `{"from", "to", "missed"}`; records of another epoch, or of some jobs among many, are not counted.

    Their number would report on jobs that the client may not see.
    """
    missed = journal.head - known.offset if known is not None and selection.is_all else None
    return Gap(start=claimed, to=Position(journal.epoch, journal.head), missed=missed)


def _awaiting_end(bus: Bus, selection: Selection, after: int) -> frozenset[str] | None:
    """The jobs whose terminal record a client lacks that has every record up to *after*; None for all jobs."""
    if selection.jobs is None:
        return None
    read = bus.journal.read
    return frozenset(job.id for job in selection.jobs if not job.ended or read(after, [job.id], limit=1))
