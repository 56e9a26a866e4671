"""What a journal keeps for durable sinks: how far each has got, and what waits for one of them apart."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from msgspec import Struct

from relay.events import Record

__all__ = ["Cursor", "Cursors", "KeepsCursors", "Parked", "Parking"]


class Cursor(Struct, frozen=True, kw_only=True):
    """How far the sink *name* has got: up to the record at *offset*, which was the newest at the time *used*."""

    name: str
    offset: int
    used: datetime
    pins: bool
    """Whether the records behind it wait for this sink."""


class Parked(Struct, frozen=True, kw_only=True):
    """The copy of a record that waits for one sink beside the journal's records, or that is a dead letter.

    Its first attempt began at *since*, *attempts* have failed, and the next one is due at *due*; these are seconds of
    the time of day. Without *due* it waits behind another record of its job, or is *dead*: given up on.
    """

    record: Record
    attempts: int
    since: float
    due: float | None = None
    dead: bool = False


class Cursors(Protocol):
    """A cursor for each durable sink, by name: the offset of the last record that it is done with.

    The records behind a cursor are *pinned*: they stay beyond the journal's bounds until the sink is done with them,
    up to `Retention.pin_bytes`. A cursor that no sink has claimed for a week pins nothing, and is forgotten.
    """

    def claim(self, name: str, start: int) -> int:
        """Return the cursor of the sink *name*, which is *start* if it has none; from now on it pins.

        Raises UsageError if a sink of this process has claimed it already.
        """
        ...

    def move(self, name: str, offset: int) -> None:
        """Move a claimed cursor; that becomes durable with the next commit, or with `save`."""
        ...

    def save(self) -> None:
        """Make the moves so far durable by themselves, which costs about 40 us. Raises JournalError if it cannot."""
        ...

    def release(self, name: str, *, pins: bool = True) -> None:
        """End the claim: another sink may have the cursor. Without *pins* the records no longer wait for it."""
        ...

    def forget(self, name: str) -> None:
        """Drop the cursor and all that is parked for it.

        Raises UsageError while a sink has claimed it, and JournalError if the file cannot be written just now.
        """
        ...

    def all(self) -> Sequence[Cursor]:
        """All cursors, by name."""
        ...


class Parking(Protocol):
    """Records that one sink could not deliver, copied for it: the others of their jobs queue behind them.

    The first of each job is its *head*, and the only one that has a time. For each sink there is as much room as
    `Retention.pin_bytes`. Every method writes by itself, and raises JournalError if that cannot be done just now.
    """

    def park(self, name: str, records: Sequence[Record], *, attempts: int = 0, since: float = 0.0, due: float) -> int:
        """Copy *records* of one job, in order; if the first becomes the head of its job, these figures are its own.

        A record that is there already is left as it is. Where there is no more room, dead letters and then the oldest
        records go; return the number of those that were still waiting.
        """
        ...

    def holds(self, name: str, job: str) -> bool:
        """Whether a record of *job* waits there for the sink *name*."""
        ...

    def waiting(self, name: str) -> int:
        """How many records wait there for the sink *name*."""
        ...

    def heads(self, name: str, due: float, limit: int, without: Collection[str] = ()) -> Sequence[Parked]:
        """The heads of jobs, but not of those *without*, whose time is *due* or before, the earliest first."""
        ...

    def next_due(self, name: str, without: Collection[str] = ()) -> float | None:
        """The earliest time of a head, jobs *without* left out."""
        ...

    def put_off(self, name: str, offset: int, attempts: int, due: float) -> None:
        """Another attempt at this head has failed; the next one is at *due*."""
        ...

    def unpark(self, name: str, offset: int, due: float) -> None:
        """This head is delivered, so it is dropped; the next record of its job is the head, and *due*."""
        ...

    def bury(self, name: str, records: Sequence[Record], *, attempts: int, since: float, due: float) -> None:
        """Keep *records* as dead letters, parked or not; the next record of their job is the head, and *due*."""
        ...

    def wake(self, name: str, due: float, limit: int) -> int:
        """Make up to *limit* heads whose time is later *due* at once; return how many."""
        ...

    def dead(self, name: str, after: int = 0, limit: int = 512) -> Sequence[Parked]:
        """Dead letters behind offset *after*, in order."""
        ...

    def revive(self, name: str, offset: int, due: float) -> bool:
        """Queue this dead letter again, as if it had never been tried; return whether there was one."""
        ...


@runtime_checkable
class KeepsCursors(Protocol):
    """A journal that outlives its process keeps cursors, so that durable sinks go on where they were."""

    @property
    def cursors(self) -> Cursors: ...

    @property
    def parking(self) -> Parking: ...
