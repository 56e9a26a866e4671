"""A journal's file, read while a relay may be writing it: never trusted to stay as it is, and never changed."""

import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from relay.errors import JournalError, UsageError
from relay.events import Record
from relay.journal._index import ROWS, record_in
from relay.journal._tables import is_journal
from relay.journal._trouble import trouble
from relay.journal.cursors import Parked
from relay.notices import Notify, notice
from relay.text import inert

__all__ = ["reading", "stored_dead_letters", "stored_owner", "stored_records"]

DEAD_LETTERS: Final = """SELECT offset, number, crc, body, attempts, since FROM parked
    WHERE name = ? AND dead = 1 AND offset > ? ORDER BY offset"""

PAGE: Final = 512
BUSY_SECONDS: Final = 1.0
"""How long a page waits for a writer: the file is only ever locked for moments."""

COPY_TRIES: Final = 5


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection]:
    """The journal at *path*, to be read while a relay may be writing it. Raises JournalError where it is none.

    It is read under SQLite's locks, which keep what is read whole whatever a relay does meanwhile. Where those cannot
    be had, on a medium that is read-only, a copy is read.
    """
    if not path.is_file():
        raise JournalError(f"there is no journal {path}; name the file of a relay, such as relay.db")
    with ExitStack() as stack:
        try:
            sql = stack.enter_context(closing(_opened(path)))
        except _NoLocksError:
            sql = stack.enter_context(_copied(path))
        if not is_journal(sql, str(path)):
            raise JournalError(f"{path} is no journal: it is empty")
        try:
            yield sql
        except sqlite3.Error as error:
            raise trouble(str(path), error) from error


def stored_records(path: Path, jobs: Collection[str] | None = None, *, notify: Notify = notice) -> Generator[Record]:
    """The records in the journal at *path*, of *jobs* or of all, in order; a relay may be writing it meanwhile.

    Offsets only ever grow. A record that cannot be read is left out, and so are those that the relay drops before their
    turn; *notify* receives a line about them. Raises JournalError where there is no journal, and at the place where it
    cannot be read on; UsageError where it holds nothing of one of *jobs*.
    """
    with reading(path) as sql:
        (epoch,) = sql.execute("SELECT epoch FROM journal").fetchone()
        known = {id: number for number, id in sql.execute("SELECT number, id FROM jobs")}
        for job in jobs or ():
            if job not in known:
                raise UsageError(f"the journal {path} holds nothing of a job {inert(job)!r}")
        wanted = None if jobs is None else {known[job] for job in jobs}
        after = 0
        # In pages, so that no reader who takes his time keeps the relay from reusing its log.
        while page := sql.execute(f"{ROWS} WHERE offset > ? ORDER BY offset LIMIT {PAGE}", (after,)).fetchall():
            if after and page[0][0] != after + 1:
                notify(
                    f"the relay has dropped the records of {path} from offset {after + 1} to {page[0][0] - 1} meanwhile"
                )
            for row in page:
                if row[0] <= after:
                    raise JournalError(f"the journal {path} cannot be read in order; is it on a network file system?")
                after = row[0]
                if wanted is not None and row[1] not in wanted:
                    continue
                if (record := record_in(row, epoch)) is not None:
                    yield record
                else:
                    notify(f"the record at offset {row[0]} of {path} cannot be read, and is left out")


def stored_dead_letters(
    path: Path, sinks: Collection[str], *, notify: Notify = notice
) -> Generator[tuple[str, Parked]]:
    """What the durable *sinks* have given up on in the journal at *path*, each with the sink's name, in order for each.

    A relay may be writing the file meanwhile. One that cannot be read is left out, with a line to *notify*. Raises
    JournalError where there is no journal, or it cannot be read.
    """
    with reading(path) as sql:
        (epoch,) = sql.execute("SELECT epoch FROM journal").fetchone()
        if not sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'parked'").fetchone():
            return  # written by a version without durable sinks
        for sink in sinks:
            after = 0
            while page := sql.execute(f"{DEAD_LETTERS} LIMIT {PAGE}", (sink, after)).fetchall():
                for after, number, crc, body, attempts, since in page:
                    if (record := record_in((after, number, crc, body), epoch)) is not None:
                        yield sink, Parked(record=record, attempts=attempts, since=since, dead=True)
                    else:
                        notify(f"a dead letter of sink {sink} at offset {after} cannot be read, and is left out")


def stored_owner(path: Path, job: str) -> str | None:
    """The owner of *job* in the journal at *path*, empty for nobody's; None for a job that it does not know.

    A relay may be writing the file meanwhile. Raises JournalError where there is no journal, or it cannot be read.
    """
    with reading(path) as sql:
        columns = {name for _, name, *_ in sql.execute("PRAGMA table_info(jobs)")}
        owner = "owner" if "owner" in columns else "''"  # written by a version without owners
        found = sql.execute(f"SELECT {owner} FROM jobs WHERE id = ?", (job,)).fetchone()  # noqa: S608
    return None if found is None else str(found[0])


class _NoLocksError(Exception):
    """The file cannot be read together with others."""


def _opened(path: Path) -> sqlite3.Connection:
    """A connection that reads *path* under SQLite's locks. Raises _NoLocksError, and JournalError.

    A journal without a log is opened as a writer would, though nothing is written: only a writer takes the files away
    again that readers and writers share. Where there is a log, to be a writer would be to move it into the file.
    """
    log = Path(f"{path.resolve()}-wal")
    ways: list[Literal["rw", "ro"]] = ["ro"] if _size(log) else ["rw", "ro"]
    for way in ways:
        sql = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={way}", timeout=BUSY_SECONDS, isolation_level=None, uri=True
        )
        try:
            sql.execute("PRAGMA query_only = ON")
            sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            sql.close()
            if error.sqlite_errorcode & 0xFF not in (
                sqlite3.SQLITE_CANTOPEN,
                sqlite3.SQLITE_READONLY,
                sqlite3.SQLITE_PERM,
            ):
                raise trouble(str(path), error) from error
        else:
            return sql
    raise _NoLocksError


@contextmanager
def _copied(path: Path) -> Generator[sqlite3.Connection]:
    """A copy of the journal at *path*, with its log, as of a moment at which nobody wrote it. Raises JournalError."""
    real = path.resolve()
    files = [real, Path(f"{real}-wal")]
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-replay-")))
            for _ in range(COPY_TRIES):
                before = [_state(file) for file in files]
                for file in files:
                    with suppress(FileNotFoundError):
                        (folder / file.name).unlink()
                    if file.exists():
                        shutil.copyfile(file, folder / file.name)
                if before == [_state(file) for file in files]:
                    break
            else:
                raise JournalError(
                    f"the journal {path} is being written and cannot be read from here: the place is read-only; read"
                    " it where the relay runs, or when it is stopped"
                )
            sql = stack.enter_context(closing(sqlite3.connect(folder / real.name, isolation_level=None)))
            sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be read: {error.strerror}") from None
        except sqlite3.Error as error:
            raise trouble(str(path), error) from error
        yield sql


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _size(file: Path) -> int:
    state = _state(file)
    return state[1] if state is not None else 0
