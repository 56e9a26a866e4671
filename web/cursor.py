"""Where a stream begins: from what the client says it has seen, and what the journal still keeps. No I/O."""

from collections.abc import Collection, Sequence

from msgspec import Struct

from relay.events import Position
from relay.jobs import Job
from relay.journal import Journal

__all__ = ["Gap", "Opening", "open_at", "still_to_end"]


class Gap(Struct, frozen=True, kw_only=True):
    """What a client cannot be given: all between *start* and *to*; *missed* is None where it cannot be counted."""

    start: str
    to: str
    missed: int | None


class Opening(Struct, frozen=True, kw_only=True):
    """How a stream begins.

    *after*: the offset from which records are read. *gap*: said first, where the client's past cannot be continued.
    *snapshot*: whether the state of the jobs is said first, because their story cannot be told whole.
    *until*: the ids of the jobs whose end is still to come, None for a stream without end.
    *finished*: the client has everything there will ever be.
    """

    after: int
    gap: Gap | None = None
    snapshot: bool = False
    until: frozenset[str] | None = None
    finished: bool = False


def open_at(journal: Journal, jobs: Sequence[Job] | None, last_event_id: str | None) -> Opening:
    """How to serve a client that names *last_event_id*, or that is new, a stream of *jobs* or of all."""
    ids = None if jobs is None else frozenset(job.id for job in jobs)
    claimed = Position.parse(last_event_id) if last_event_id else Position(journal.epoch, 0)
    known = claimed is not None and claimed.epoch == journal.epoch and claimed.offset <= journal.head
    if known and claimed is not None and journal.complete(claimed.offset, ids):
        after, gap, snapshot = claimed.offset, None, False
    else:
        after, snapshot = journal.head, True
        gap = _gap(journal, ids, last_event_id, claimed if known else None) if last_event_id else None
    until = still_to_end(journal, jobs, after)
    return Opening(
        after=after,
        gap=gap,
        snapshot=snapshot,
        until=until,
        finished=until is not None and not until and bool(last_event_id) and gap is None,
    )


def _gap(journal: Journal, ids: Collection[str] | None, said: str, known: Position | None) -> Gap:
    """[interface] `{"from", "to", "missed"}`; the past of another epoch, or of some jobs among many, is not counted."""
    missed = journal.head - known.offset if known is not None and ids is None else None
    start = str(Position.parse(said) or "")
    return Gap(start=start, to=str(Position(journal.epoch, journal.head)), missed=missed)


def still_to_end(journal: Journal, jobs: Sequence[Job] | None, after: int) -> frozenset[str] | None:
    """The jobs whose terminal record a client that has everything up to *after* still lacks; None for all jobs."""
    if jobs is None:
        return None
    return frozenset(job.id for job in jobs if not job.ended or journal.read(after, [job.id], limit=1))
