"""What a sink says of its records: delivered, lost, or waiting."""

from typing import Any, NamedTuple, cast

__all__ = ["Tally", "counts_of", "missed_of"]


class Tally(NamedTuple):
    """The counts of a sink since a trial began; the fields of `relay.queue.Counts`."""

    delivered: int
    coalesced: int
    dropped: int
    failed: int
    waiting: int

    @property
    def lost(self) -> int:
        """The records that were accepted and will never be delivered; a coalesced one is part of the next."""
        return self.dropped + self.failed


def counts_of(sink: Any) -> Tally | None:
    if not callable(counts := getattr(sink, "counts", None)):
        return None
    now = cast("Any", counts())
    return Tally(*(int(getattr(now, field, 0)) for field in Tally._fields))


def missed_of(sink: Any) -> int:
    missed = getattr(sink, "missed", 0)
    return missed if isinstance(missed, int) else 0
