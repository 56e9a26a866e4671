"""The SQLite file under a journal: its transactions, and how it is kept in shape beside the event loop."""

import math
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import monotonic
from typing import Final

from relay.errors import JournalError
from relay.journal._opening import connect, connection, leave, lock, make, start
from relay.journal._place import Place
from relay.journal._trouble import is_of_the_content, no_room, trouble
from relay.notices import Notify

__all__ = ["JournalFile"]

BUSY_SECONDS: Final = 0.02
"""How long a commit waits for a program that looks at the file with a lock; then the records wait instead."""

CHECKPOINT_AFTER: Final = 256
RECORDS_A_PAGE: Final = 8

COPY_SECONDS: Final = 0.01
"""How long a commit waits for the journal to be written anew; then the records wait instead."""

COPY_AGAIN_AFTER: Final = 1.0


class JournalFile:
    """A journal's file, for this process alone: two relays would write two stories under the same offsets.

    Where another program deletes, moves or replaces it meanwhile, it is written anew at its place from what is open,
    before anything more is committed; the files that were put there are moved aside.

    Raises JournalError, with what to do about it, where the file is in use, is none of ours, is of a newer version,
    is damaged, or cannot be made; it is left as it is.
    """

    def __init__(self, path: str | Path, notify: Notify) -> None:
        self.name = str(path)
        self._place = Place(Path(path).resolve(), self.name)
        self._notify = notify
        self._weight = 0
        self._reported = ""
        self._patient: bool | None = None
        self._checkpoint: Future[str] | None = None
        self._copy: Future[str] | None = None
        self._copied_at = -math.inf
        self._idle = False
        self._closed = False
        with ExitStack() as stack:
            stack.callback(self._place.unlock)
            lock(self._place)
            make(self._place)
            self._place.warn(notify)
            try:
                self.sql = stack.enter_context(closing(connect(self._place)))
                self._execute = self.sql.cursor().execute
                self.epoch = start(self.sql, self.name, self.transaction(), notify)
                self._beside = stack.enter_context(closing(connect(self._place)))
            except sqlite3.Error as error:
                raise trouble(self.name, error) from None
            self._place.note()
            self._wait_for_others(True)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-checkpoint")
            stack.pop_all()

    def transaction(self) -> "_Transaction":
        """All of what is done within, or nothing.

        Raises JournalError if it cannot be had just now. Any other error, of the data to be stored, passes as it is.
        """
        return _Transaction(self)

    def begin(self) -> sqlite3.Connection:
        """Begin a transaction. Raises as `transaction` does."""
        try:
            self.check()
            self._execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._refused(error)
            raise
        return self.sql

    def commit(self) -> None:
        """Make what was done since `begin` durable; where that fails, undo it. Raises as `transaction` does."""
        try:
            self._execute("COMMIT")
        except BaseException as error:
            self.roll_back(error)
            raise
        self._wait_for_others(True)

    def roll_back(self, cause: BaseException) -> None:
        """Undo what was done since `begin`, because of *cause*. Raises JournalError in its place, if that is due."""
        try:
            # After some failures SQLite has rolled back by itself.
            if self.sql.in_transaction:
                self.sql.execute("ROLLBACK")
        except sqlite3.Error as error:
            cause = error
        if isinstance(cause, sqlite3.Error):
            self._refused(cause)

    def _refused(self, error: sqlite3.Error) -> None:
        """Raise JournalError, unless *error* is one of the data to be stored."""
        if is_of_the_content(error):
            return
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            self._wait_for_others(False)
        raise trouble(self.name, error) from error

    def probe(self) -> None:
        """Write what is there anyway. Raises JournalError where the file cannot be written."""
        self._need_room()
        with self.transaction() as sql:
            sql.execute("UPDATE journal SET epoch = epoch")

    def try_out(self) -> None:
        """See, without writing anything, that a commit could be had. Raises JournalError where it could not."""
        if self._closed:
            return
        if self._idle:
            self._need_room()
        self._idle = True
        with self.transaction():
            pass

    def _need_room(self) -> None:
        """A commit may find room in the log where there is none on the disk: a write that succeeds proves nothing."""
        if self._place.is_full():
            raise no_room(self.name)

    def check(self) -> None:
        """See that what is open is what a restart would find, and mend it. Raises JournalError while it is not."""
        if self._closed:
            return
        place = self._place
        if self._copy is None and place.is_untouched():
            return
        folder = place.folder()
        if not place.is_locked():
            lock(place)
        if place.is_kept() and self._copy is None:
            return place.note_folder(folder)
        self._write_anew()

    def written(self, records: int) -> None:
        """Count a commit of so many *records*; now and then let the log be moved into the database, on a thread.

        A checkpoint waits for the disk, and the loop must not: made on it, it was seen to take 31 ms. On the
        loop remains an fsync of the log's header after each, 256 commits apart: 11 ms at most, among 2,400 commits.
        """
        self._idle = False
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
        if self._closed:
            return
        try:
            self._settle()
        except JournalError as error:
            self._notify(str(error))
        self._closed = True
        self._thread.shutdown()
        leave(self.sql, self.name, self._notify)
        self.sql.close()
        self._beside.close()
        self._place.unlock()

    def _settle(self) -> None:
        """As `check`, but wait for it."""
        self._copied_at = -math.inf
        with suppress(JournalError):
            return self.check()
        if self._copy is not None:
            wait([self._copy])
        self.check()

    def _write_anew(self) -> None:
        """Write the journal anew from what is open: on the thread, since that may take a while."""
        if self._copy is None:
            if monotonic() < self._copied_at + COPY_AGAIN_AFTER:
                raise JournalError(self._moved("cannot be written anew yet"))
            self._copied_at = monotonic()
            self._copy = self._thread.submit(self._make_copy)
            wait([self._copy], COPY_SECONDS)
        if not self._copy.done():
            raise JournalError(self._moved("is being written anew"))
        failure, self._copy = self._copy.result(), None
        if failure:
            raise JournalError(self._moved(f"cannot be written anew: {failure}"))
        try:
            aside = self._place.put_copy()
            sql, beside = connect(self._place), connect(self._place)
            sql.execute("SELECT epoch FROM journal").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise JournalError(self._moved(f"cannot be written anew: {error}")) from None
        for left in (self.sql, self._beside):
            # SQLite sees that this is not what is at the place, and leaves the names of the new files alone. It is done
            # on the thread: with its last connection a file without a name is gone, and a long one takes a while.
            self._thread.submit(left.close)
        self.sql, self._beside = sql, beside
        self._execute = sql.cursor().execute
        self._patient = None
        self._wait_for_others(True)
        self._place.note()
        self._copied_at = -math.inf
        found = f"; the files found there are now {aside}" if aside is not None else ""
        self._notify(f"{self._moved('was written anew in its place')}{found}; nothing is lost")

    def _make_copy(self) -> str:
        """On the thread: all that is open, as a new file beside the place; what went wrong, or nothing."""
        try:
            with closing(connection(str(self._place.make_copy()), wait=0.0)) as copy:
                self._beside.backup(copy)
                if (found := copy.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                    return str(found)
                copy.execute("SELECT epoch FROM journal").fetchone()
        except (OSError, sqlite3.Error) as error:
            return str(error)
        return ""

    def _moved(self, what: str) -> str:
        return f"the journal {self.name} was deleted, moved, replaced or emptied while in use, and {what}"

    def _wait_for_others(self, patient: bool) -> None:
        """Wait BUSY_SECONDS for a program that has a lock, but not again and again: the loop stands still meanwhile."""
        if patient is not self._patient:
            self._patient = patient
            self.sql.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1_000) if patient else 0}")

    def _move_log(self) -> str:
        """On the thread: a checkpoint; what went wrong, or nothing."""
        try:
            self._beside.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            return str(error)
        return ""


class _Transaction:
    """From `JournalFile.begin` to its end. Plain methods: a generator for it costs each commit 1.5 us more."""

    __slots__ = ("_file",)

    def __init__(self, file: JournalFile) -> None:
        self._file = file

    def __enter__(self) -> sqlite3.Connection:
        return self._file.begin()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self._file.commit()
        else:
            self._file.roll_back(error)
