"""What one client is told, and in which order. No I/O: bytes come out, and may be cut off anywhere on their way."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from relay.events import Level, Position, Record
from relay.jobs import Job, Snapshot
from relay.relay import Relay
from sinks.sse import Pages, SseSink
from web.cursor import Gap, Opening, open_at
from web.wire import Wire

__all__ = ["Telling"]

SNAPSHOT_JOBS: Final = 100
TEXT_BYTES: Final = 256
PAGE_RECORDS: Final = 256
"""What is read at once: no more than a page takes of records of the usual size, so that none is read twice."""


class Telling:
    """One client's stream of *jobs*, or of all: what it cannot be given is said first, then come the records.

    Wherever the client's connection breaks, the id it saw last claims nothing that it was not told: what moves the
    cursor over a hole is the last block of what is said about that hole.
    """

    def __init__(
        self,
        relay: Relay,
        wire: Wire,
        jobs: Sequence[Job] | None,
        opening: Opening,
        *,
        level: Level = "debug",
        caught_up: bool = False,
        encode: Callable[[Sequence[Record]], bytes] | None = None,
    ) -> None:
        """*encode* puts a page of records on *wire*, block by block if it is left out.

        *caught_up*: the client has been up to date before, so that it is told when it has become slow.
        """
        self._relay = relay
        self._journal = relay.journal
        self._wire = wire
        self._jobs = jobs
        self._ids = None if jobs is None else [job.id for job in jobs]
        self._reader = SseSink(
            lambda after: self._journal.read(after, self._ids, limit=PAGE_RECORDS),
            lambda: None,  # who writes knows when there is news
            after=opening.after,
            level=level,
            until=opening.until,
            encode=encode or Pages(wire.record),
            caught_up=caught_up,
        )
        self._begin(opening)

    @property
    def ended(self) -> bool:
        """Whether the client has been told all there will ever be."""
        return self._reader.ended

    @property
    def position(self) -> Position:
        """What the client may name when it comes back: up to there it has been told, or passed over, everything."""
        return self._unmoved or Position(self._journal.epoch, self._reader.cursor)

    def take(self, *, slow: bool = False) -> bytes:
        """What comes next, to be written at once; empty where the client has all there is.

        A client that is *slow* is given the latest instead of all, and told so.
        """
        if notice := next(self._notices, b""):
            return notice
        # Who was told of a job's end misses nothing where the journal forgets the job as a whole.
        if not self._journal.complete(self._reader.cursor, self._reader.unended):
            # So slow that the journal forgot what comes next: it goes on from now.
            opening = open_at(self._relay.bus, self._jobs, str(self.position))
            self._reader.restart(after=opening.after, until=opening.until)
            self._begin(opening)
            return next(self._notices)
        before = self.position
        page = self._reader.take(slow=slow)
        if self._reader.skipped:
            # First, or a client that is cut off in between has a hole that nobody told it of.
            page = self._wire.notice("skipped", {"missed": self._reader.skipped}, before) + page
        return page

    def _begin(self, opening: Opening) -> None:
        """Find what is said instead of records: what is missing, and where the jobs stand at this very moment."""
        self._unmoved: Position | None = None
        self._notices: Iterator[bytes] = iter(())
        if opening.snapshot:
            self._unmoved = opening.known
            jobs = self._relay.jobs() if self._jobs is None else self._jobs
            as_told = self._relay.bus.as_told
            self._notices = self._instead(opening.gap, [as_told(job).snapshot() for job in jobs])

    def _instead(self, gap: Gap | None, jobs: Sequence[Snapshot]) -> Iterator[bytes]:
        if gap is not None:
            yield self._notice("gap", {"from": str(gap.start or ""), "to": str(gap.to), "missed": gap.missed})
        for start in range(0, max(len(jobs), 1), SNAPSHOT_JOBS):
            if start + SNAPSHOT_JOBS >= len(jobs):
                self._unmoved = None
            yield self._notice("snapshot", {"jobs": [_brief(job) for job in jobs[start : start + SNAPSHOT_JOBS]]})

    def _notice(self, event: str, data: dict[str, Any]) -> bytes:
        return self._wire.notice(event, data, self.position)


def _brief(job: Snapshot) -> dict[str, Any]:
    """A job's snapshot in less than 1 kB, however much it has to say; `GET /v1/jobs/{job}` has the whole."""
    state = msgspec.to_builtins(job)
    text, terminal = state["text"], job.terminal
    while len(json.dumps(text)) > TEXT_BYTES:
        text = text[: len(text) * 3 // 4]
    return {**state, "text": text, "terminal": terminal.type if terminal is not None else None}
