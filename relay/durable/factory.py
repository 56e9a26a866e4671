"""Which reader a durable sink has."""

from collections.abc import Callable
from typing import Any, Final

from relay.clock import Clock
from relay.durable.lanes import LaneReader
from relay.durable.reader import DurableReader, Works
from relay.durable.serial import SerialReader
from relay.events import Record
from relay.journal import JournalReader
from relay.notices import Notify
from relay.queue import ATTEMPT_TIMEOUT, Retries

__all__ = ["durable_reader"]

THREE_DAYS: Final = Retries(within=72 * 3_600.0, base=5.0, cap=4 * 3_600.0)
"""For a sink that says nothing else: about thirty attempts, and then a dead letter if it has lanes."""


def durable_reader(
    name: str,
    sink: Any,
    journal: JournalReader,
    *,
    clock: Clock,
    notify: Notify,
    wanted: Callable[[Record], bool],
    start: int | None = None,
) -> DurableReader:
    """A reader for the durable *sink* called *name*, which begins at *start* the first time, or with the next record.

    *sink* has `work`, which is awaited with a record, or with a list of records if it has a `batch`; and perhaps
    `retries`, `timeout` and `lost`, as `relay.queue.Queued`, and `lanes`: how many jobs are delivered at once, where
    there is no batch.
    Raises UsageError for a journal that keeps no cursors, and for a name in use.
    """
    works = Works(
        work=sink.work,
        batch=getattr(sink, "batch", None),
        retries=getattr(sink, "retries", None) or THREE_DAYS,
        timeout=getattr(sink, "timeout", ATTEMPT_TIMEOUT),
        lost=getattr(sink, "lost", None),
        lanes=getattr(sink, "lanes", None) or 0,
    )
    reader = LaneReader if works.lanes and works.batch is None else SerialReader
    start = journal.head if start is None else start
    return reader(name, works, journal, clock=clock, notify=notify, wanted=wanted, start=start)
