"""The SQLite file under a journal: locked, checked, and kept in shape beside the event loop."""

import secrets
import sqlite3
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from relay.errors import JournalError
from relay.subscription import Notify

__all__ = ["JournalFile", "reading", "trouble"]

APPLICATION_ID: Final = 0x72656C79
"""What tells our files from those of other programs: "rely" in ASCII, in the header that SQLite has for this."""

MAGIC: Final = b"SQLite format 3\0"

FORMAT: Final = 1
"""The version of the tables below, and of what is in them."""

TABLES: Final = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
    "CREATE TABLE journal (epoch TEXT NOT NULL, boot TEXT NOT NULL)",
    """CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        key TEXT,
        digest BLOB,
        state BLOB,
        folded_to INTEGER NOT NULL DEFAULT 0,
        trimmed_to INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE TABLE records (offset INTEGER PRIMARY KEY, job INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL)",
    # An index ends in the rowid, which offset is: this one is ordered by job and offset.
    "CREATE INDEX records_by_job ON records (job)",
)

BUSY_SECONDS: Final = 0.05
"""How long a commit waits for a program that looks at the file with a lock; then the records wait instead."""

CHECKPOINT_AFTER: Final = 256
RECORDS_A_PAGE: Final = 8
BACKSTOP_PAGES: Final = 16_384
"""64 MiB of write-ahead log: only if the checkpoints beside the loop fall that far behind is one made on it."""


class JournalFile:
    """A journal's file, for this process alone: two relays would write two stories under the same offsets.

    Raises JournalError, with what to do about it, where the file is in use, is none of ours, is of a newer version,
    is damaged, or cannot be made; it is left as it is.
    """

    def __init__(self, path: str | Path, notify: Notify) -> None:
        self.name = str(path)
        # By its real name, so that two names of one file are one lock.
        self._path = Path(path).resolve()
        self._notify = notify
        self._weight = 0
        self._reported = ""
        self._checkpoint: Future[str] | None = None
        with ExitStack() as stack:
            self._lock(stack)
            self._make()
            try:
                self.sql = self._connect(stack)
                self.epoch = self._begin()
                stack.callback(self._leave)
                self._beside = self._connect(stack)
            except sqlite3.Error as error:
                raise trouble(self.name, error) from None
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-checkpoint")
            stack.callback(self._thread.shutdown)
            self._stack = stack.pop_all()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """All of what is done within, or nothing. Raises JournalError where it cannot be had."""
        try:
            self.sql.execute("BEGIN IMMEDIATE")
            try:
                yield self.sql
                self.sql.execute("COMMIT")
            except BaseException:
                # After some failures SQLite has rolled back by itself.
                if self.sql.in_transaction:
                    self.sql.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise trouble(self.name, error) from error

    def written(self, records: int) -> None:
        """Count a commit of so many *records*; now and then let the log be moved into the database, on a thread.

        A checkpoint waits for the disk, and the loop must not: made on it, it was seen to take 31 ms. What is left on
        the loop is an fsync of the log's header after each, 256 commits apart: 11 ms at most, among 2,400 commits.
        """
        self._weight += 1 + records // RECORDS_A_PAGE
        if self._weight < CHECKPOINT_AFTER or not (self._checkpoint is None or self._checkpoint.done()):
            return
        self._weight = 0
        if self._checkpoint is not None and (failure := self._checkpoint.result()) != self._reported:
            self._reported = failure
            if failure:
                self._notify(f"the log of the journal {self.name} cannot be moved into it, and grows: {failure}")
        self._checkpoint = self._thread.submit(self._move_log)

    def close(self) -> None:
        """Move the log into the database, and let go. Closing twice does nothing."""
        self._stack.close()

    def _lock(self, stack: ExitStack) -> None:
        """Hold a lock that the kernel releases when the process ends, however it ends.

        SQLite's own lock on an empty file beside the journal: it works wherever SQLite does.
        """
        if not self._path.parent.is_dir():
            raise JournalError(f"cannot open the journal {self.name}: there is no folder {self._path.parent}; make it")
        try:
            lock = stack.enter_context(closing(_connection(f"{self._path}-lock", wait=0.0)))
            lock.execute("PRAGMA journal_mode = MEMORY")
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise JournalError(
                    f"the journal {self.name} is in use by another relay; stop that one, or name another file"
                ) from None
            raise trouble(self.name, error) from None

    def _make(self) -> None:
        """See that there is a file, which nobody else may read: a signed URL in it is a secret."""
        try:
            self._path.touch(mode=0o600)
            with self._path.open("rb") as file:
                begins = file.read(len(MAGIC))
        except OSError as error:
            raise JournalError(f"cannot open the journal {self.name}: {error.strerror}; name another file") from None
        # SQLite itself takes a file of one byte for an empty one.
        if begins not in (b"", MAGIC):
            raise _no_database(self.name)

    def _connect(self, stack: ExitStack) -> sqlite3.Connection:
        connection = stack.enter_context(closing(_connection(str(self._path), wait=BUSY_SECONDS)))
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {BACKSTOP_PAGES}")
        return connection

    def _begin(self) -> str:
        """Check the file or fill it, and return its epoch."""
        sql = self.sql
        begun = is_journal(sql, self.name)
        if begun and (found := sql.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise _damaged(self.name, found)
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA journal_size_limit = 16777216")
        with self.transaction():
            if not begun:
                for statement in TABLES:
                    sql.execute(statement)
                sql.execute("INSERT INTO journal VALUES (?, '')", (secrets.token_hex(4),))
            epoch = self._enter()
        # On the disk before the first record is: a machine that stops from here on is noticed.
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return epoch

    def _enter(self) -> str:
        """Note in which run of the machine the journal is used. The epoch changes where its end may be missing."""
        epoch, used_in = self.sql.execute("SELECT epoch, boot FROM journal").fetchone()
        now = _boot()
        if used_in and now and used_in != now:
            epoch = secrets.token_hex(4)
            self._notify(
                f"the machine stopped while the journal {self.name} was in use, so its last records may be missing;"
                " a new epoch begins, and every reader is told"
            )
        self.sql.execute("UPDATE journal SET epoch = ?, boot = ?", (epoch, now))
        return str(epoch)

    def _leave(self) -> None:
        try:
            self.sql.execute("UPDATE journal SET boot = ''")
            self.sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            self._notify(f"the journal {self.name} could not be closed in order: {error}; nothing committed is lost")

    def _move_log(self) -> str:
        """On the thread: a checkpoint; what went wrong, or nothing."""
        try:
            self._beside.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            return str(error)
        return ""


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection]:
    """The journal at *path*, to be read while a relay may be writing it. Raises JournalError where it is none."""
    if not path.is_file():
        raise JournalError(f"there is no journal {path}; name the file of a relay, such as relay.db")
    log = Path(f"{path}-wal")
    # Without a log nobody is writing; then SQLite need not make the files that readers and writers share.
    how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    try:
        with closing(_connection(f"{path.resolve().as_uri()}?{how}", wait=BUSY_SECONDS, uri=True)) as sql:
            if not is_journal(sql, str(path)):
                raise JournalError(f"{path} is no journal: it is empty")
            yield sql
    except sqlite3.Error as error:
        raise trouble(str(path), error) from error


def is_journal(sql: sqlite3.Connection, name: str) -> bool:
    """Whether this is a journal, rather than an empty file. Raises JournalError for anything else."""
    (application,) = sql.execute("PRAGMA application_id").fetchone()
    (version,) = sql.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID:
        if version > FORMAT:
            raise JournalError(
                f"the journal {name} is of format {version}, and this version reads up to {FORMAT};"
                " upgrade progress-relay, or name another file"
            )
        return True
    (tables,) = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or tables:
        raise JournalError(f"{name} is no journal, but the database of another program; name another file")
    return False


def trouble(name: str, error: sqlite3.Error) -> JournalError:
    """What *error* means for the journal *name*, and what to do."""
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return JournalError(f"the journal {name} cannot be written: no room is left; make room on its disk")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return JournalError(f"the journal {name} cannot be written: the file or its folder is read-only")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return JournalError(f"the journal {name} is locked by another program; let that one end")
        case sqlite3.SQLITE_CANTOPEN:
            return JournalError(f"cannot open the journal {name}: no file can be written there; name another one")
        case sqlite3.SQLITE_NOTADB:
            return _no_database(name)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR:
            return _damaged(name, str(error))
        case _:
            return JournalError(f"the journal {name} cannot be used: {error}")


def _no_database(name: str) -> JournalError:
    return JournalError(f"{name} is no journal: it is not even an SQLite database; name another file")


def _damaged(name: str, how: str) -> JournalError:
    what = " ".join(how.split())
    return JournalError(
        f"the journal {name} is damaged ({what}); move it away to begin a new one: what can still be read of it,"
        f" `relay replay {name} --speed 0` prints, or `sqlite3 {name} .recover`"
    )


def _connection(path: str, *, wait: float, uri: bool = False) -> sqlite3.Connection:
    """A connection that leaves transactions to us. The bus sees to it that it is used on one thread."""
    return sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False, uri=uri)


def _boot() -> str:
    """Which run of the machine this is, where that can be known.

    What a process has committed outlives it, but the last of it may be lost with the machine (synchronous=NORMAL).
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
