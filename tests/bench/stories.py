"""Journals with stories in them, made as quickly as they can be."""

from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, TypeAlias

from relay.events import Position, Record
from relay.journal import Journal, MemoryJournal, Retention, SqliteJournal
from relay.wire.record_json import stamp
from tests.bench.fanout.events import progress

__all__ = ["ALL", "KINDS", "Kind", "fill", "journal"]

Kind: TypeAlias = Literal["memory", "SQLite"]

KINDS: Final[tuple[Kind, ...]] = ("SQLite", "memory")

ALL: Final = Retention(records=10_000_000, bytes=4 * 1024**3)
"""Everything: a run has its own bounds."""

_AT_ONCE: Final = 1_000
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def journal(kind: Kind, keep: Retention | None = None) -> Generator[Journal]:
    """An empty journal; its file, if it has one, is removed afterwards."""
    with TemporaryDirectory(prefix="relay-bench-") as directory:
        path = Path(directory) / "relay.db"
        made: Journal = MemoryJournal(keep) if kind == "memory" else SqliteJournal(path, keep)
        with closing(made):
            yield made


def fill(to: Journal, records: int, *, jobs: int = 1, prefix: str = "job") -> None:
    """Append so many *records* of jobs `<prefix>0`, `<prefix>1` and so on, in turn; all have one event and one text."""
    made = _records(to.epoch, to.head, jobs, prefix)
    left = records
    while left:
        for record in islice(made, min(left, _AT_ONCE)):
            to.append(record)
            left -= 1
        to.commit()


def _records(epoch: str, head: int, jobs: int, prefix: str) -> Generator[Record]:
    ids = [f"{prefix}{number}" for number in range(jobs)]
    bodies = [stamp(id, 1, _AT, progress(1), Position(epoch, 1)) for id in ids]
    index = 0
    while True:
        seq, which = divmod(index, jobs)
        like = bodies[which]
        index += 1
        yield Record(
            job=like.job, seq=seq + 1, at=_AT, event=like.event, position=Position(epoch, head + index), json=like.json
        )
