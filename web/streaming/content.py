"""The content of one client's stream, in order. No I/O: it returns bytes, which may be cut off anywhere."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from relay import Position, Record, Relay, Snapshot
from relay.events import Level
from sinks.sse import Pages
from web.state_snapshot import StateSnapshot
from web.streaming.journal_cursor import JournalCursor
from web.streaming.registry import StreamCounts
from web.streaming.resume import Gap, StreamStart, has_all_of, start_stream
from web.streaming.wire import Wire

__all__ = ["StreamContent"]

SNAPSHOT_JOBS: Final = 100
TEXT_BYTES: Final = 256
PAGE_RECORDS: Final = 128
"""How many records are read at once: no more than fit into a page at their usual size, so that none is read twice."""


class StreamContent:
    """One client's stream: first the notices of its start (`gap`, `snapshot`), then the records.

    Wherever the connection breaks, the last id that the client received claims nothing that it did not receive: the
    last block about a hole is the one that moves the cursor over it.
    """

    def __init__(
        self,
        relay: Relay,
        wire: Wire,
        start: StreamStart,
        *,
        level: Level = "debug",
        caught_up: bool = False,
        encode: Callable[[Sequence[Record]], bytes] | None = None,
        counts: StreamCounts | None = None,
    ) -> None:
        """*encode* encodes a page of records, block by block on *wire* by default.

        *caught_up*: the client has been up to date before, so that records may be skipped once it is slow.
        """
        self.begun: bool = False
        """Set by the owner once it has returned anything of this to the client."""
        self._relay = relay
        self._wire = wire
        self._counts = counts or StreamCounts()
        self._selection = start.selection
        journal, selection = relay.journal, start.selection
        self._journal = journal
        self._cursor = JournalCursor(
            lambda after: journal.read(after, selection.ids(after), limit=PAGE_RECORDS, level=level),
            head=lambda: journal.head,
            encode=encode or Pages(wire.record),
            caught_up=caught_up,
        )
        self._start(start)

    @property
    def ended(self) -> bool:
        """Whether everything there will ever be has been returned."""
        return self._cursor.ended

    @property
    def position(self) -> Position:
        """The position that the client may resume from: every block up to there has been returned, or passed over."""
        return self._unmoved or Position(self._epoch, self._cursor.offset)

    @property
    def is_at_end(self) -> bool:
        """Whether there is nothing more to return now; False as well if that takes another page to be known."""
        if self._has_notices:
            return False
        jobs = self._selection.jobs
        if jobs is None:
            return self._cursor.offset >= self._journal.head
        return all(job.state.offset <= self._cursor.offset for job in jobs)

    def next_page(self, *, slow: bool = False) -> bytes:
        """The next blocks, to be written at once; empty if the client is up to date.

        For a client that is *slow*, the latest progress replaces what came before it, and `skipped` counts the rest.
        """
        if self._epoch != self._journal.epoch and not self._is_over:
            self._continue_from_now()
        if notice := next(self._notices, b""):
            return notice
        if not self._has_the_next():
            self._continue_from_now()
            return next(self._notices)
        before = self.position
        page = self._cursor.next_page(slow=slow)
        if self._cursor.skipped:
            self._counts.skipped += self._cursor.skipped
            # The notice goes first, or a client that is cut off in between has a hole without a notice.
            page = self._wire.notice("skipped", {"missed": self._cursor.skipped}, before) + page
        return page

    @property
    def _is_over(self) -> bool:
        """Whether the client has been sent the end of every job: a new epoch has nothing to add to that."""
        return self._cursor.ended and self._unmoved is None

    def _continue_from_now(self) -> None:
        """The next records are gone, as the client was slow, or the journal has begun anew: say so, and go on."""
        self._start(start_stream(self._relay.bus, self._selection, str(self.position)))

    def _has_the_next(self) -> bool:
        """Whether the journal still keeps all that the client is to be sent."""
        jobs, awaiting = self._selection.jobs, self._cursor.awaiting_end
        if jobs is None or awaiting is None:
            return self._journal.has_all_since(self._cursor.offset)
        # A client that received a job's end misses nothing if the journal drops the whole job.
        return has_all_of(self._journal, (job for job in jobs if job.id in awaiting), self._cursor.offset)

    def _start(self, start: StreamStart) -> None:
        """Place the cursor, and prepare the notices that replace records, with the state of the jobs at this moment."""
        self._epoch: str = start.after.epoch
        self._cursor.move_to(start.after.offset, awaiting_end=start.awaiting_end)
        self._unmoved: Position | None = None
        self._notices: Iterator[bytes] = iter(())
        self._has_notices = start.snapshot or start.gap is not None
        if start.snapshot:
            self._unmoved = start.known
            jobs = self._relay.jobs(self._selection.owner) if self._selection.jobs is None else self._selection.jobs
            self._notices = self._instead(start.gap, len(jobs), StateSnapshot(self._relay.bus, jobs))
        elif start.gap is not None:
            self._notices = iter([self._missing(start.gap)])

    def _missing(self, gap: Gap) -> bytes:
        self._counts.gaps += 1
        return self._notice("gap", {"from": str(gap.start or ""), "to": str(gap.to), "missed": gap.missed})

    def _instead(self, gap: Gap | None, jobs: int, standing: StateSnapshot) -> Iterator[bytes]:
        if gap is not None:
            yield self._missing(gap)
        for number, snapshots in enumerate(standing.slices(SNAPSHOT_JOBS), 1):
            if number * SNAPSHOT_JOBS >= jobs:
                self._unmoved = None
            yield self._notice("snapshot", {"jobs": [_brief(job) for job in snapshots]})

    def _notice(self, event: str, data: dict[str, Any]) -> bytes:
        return self._wire.notice(event, data, self.position)


def _brief(job: Snapshot) -> dict[str, Any]:
    """A job's snapshot in less than 1 kB, however long its text is; `GET /v1/jobs/{job}` returns the whole."""
    state = msgspec.to_builtins(job)
    text, terminal = state["text"], job.terminal
    while len(json.dumps(text)) > TEXT_BYTES:
        text = text[: len(text) * 3 // 4]
    return {**state, "text": text, "terminal": terminal.type if terminal is not None else None}
