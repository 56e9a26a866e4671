"""Where a stream begins: from what the client says it has seen, and what the journal still keeps. No I/O."""

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct

from relay.bus import Bus
from relay.events import Position
from relay.jobs import Job
from relay.journal import Journal

__all__ = ["UNKNOWN", "Gap", "Opening", "open_at", "resumed_at"]

UNKNOWN: Final = Position("unknown", 0)
"""What a client that named nothing we can read is to name until it has been told where the jobs stand."""


class Gap(Struct, frozen=True, kw_only=True):
    """What a client cannot be given: all between *start* and *to*.

    *start* is None where what the client named is no position; *missed* where it cannot be counted.
    """

    start: Position | None
    to: Position
    missed: int | None


class Opening(Struct, frozen=True, kw_only=True):
    """How a stream begins.

    *after*: the offset from which records are read. *known*: up to where the client has the story.
    *gap*: said first, where the client's past cannot be continued.
    *snapshot*: whether the state of the jobs is said first, because their story cannot be told whole.
    *until*: the ids of the jobs whose end is still to come, None for a stream without end.
    *finished*: the client has everything there will ever be.
    """

    after: int
    known: Position
    gap: Gap | None = None
    snapshot: bool = False
    until: frozenset[str] | None = None
    finished: bool = False


def open_at(bus: Bus, jobs: Sequence[Job] | None, last_event_id: str | None) -> Opening:
    """How to serve a client that names *last_event_id*, or that is new, a stream of *jobs* or of all."""
    journal = bus.journal
    ids = None if jobs is None else frozenset(job.id for job in jobs)
    claimed = Position.parse(last_event_id) if last_event_id else Position(journal.epoch, 0)
    known = claimed if claimed is not None and _is_of(journal, claimed) else None
    if known is not None and journal.complete(known.offset, ids):
        after, gap, snapshot = known.offset, None, False
    else:
        after, snapshot = journal.head, True
        gap = _gap(journal, ids, claimed, known) if last_event_id else None
    until = _still_to_end(bus, jobs, after)
    return Opening(
        after=after,
        known=known or UNKNOWN,
        gap=gap,
        snapshot=snapshot,
        until=until,
        finished=until is not None and not until and bool(last_event_id) and gap is None,
    )


def resumed_at(bus: Bus, jobs: Sequence[Job] | None, after: int) -> Opening:
    """How to go on serving a client that was told everything up to the offset *after*."""
    return Opening(after=after, known=Position(bus.journal.epoch, after), until=_still_to_end(bus, jobs, after))


def _is_of(journal: Journal, position: Position) -> bool:
    return position.epoch == journal.epoch and position.offset <= journal.head


def _gap(journal: Journal, ids: Collection[str] | None, claimed: Position | None, known: Position | None) -> Gap:
    """[interface] `{"from", "to", "missed"}`; the past of another epoch, or of some jobs among many, is not counted."""
    missed = journal.head - known.offset if known is not None and ids is None else None
    return Gap(start=claimed, to=Position(journal.epoch, journal.head), missed=missed)


def _still_to_end(bus: Bus, jobs: Sequence[Job] | None, after: int) -> frozenset[str] | None:
    """The jobs whose terminal record a client that has everything up to *after* still lacks; None for all jobs."""
    if jobs is None:
        return None
    return frozenset(job.id for job in jobs if not bus.as_told(job).ended or bus.journal.read(after, [job.id], limit=1))
