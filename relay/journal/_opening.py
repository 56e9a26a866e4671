"""How the file of a journal is opened: locked, made, checked or filled; and how it is left in the end."""

import secrets
import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Final

from relay.errors import JournalError
from relay.journal._place import Place
from relay.journal._tables import bring_up_to_date, create_tables, is_journal
from relay.journal._trouble import damaged, no_database, no_place, trouble
from relay.notices import Notify

__all__ = ["connect", "connection", "in_use", "leave", "lock", "make", "start"]

MAGIC: Final = b"SQLite format 3\0"

START_SECONDS: Final = 1.0
"""How long the start waits for a program with a lock: the last reader of the file puts it in order as it leaves."""

BACKSTOP_PAGES: Final = 16_384
"""64 MiB of write-ahead log: only if the checkpoints beside the loop fall that far behind is one made on it."""


def lock(place: Place) -> None:
    """Lock *place* for this process. Raises JournalError where it is in use, or where nothing can be made."""
    folder = place.path.parent
    if not folder.is_dir():
        raise JournalError(f"cannot open the journal {place.name}: there is no folder {folder}; make it")
    try:
        place.lock()
    except sqlite3.Error as error:
        raise trouble(place.name, error) from None
    except OSError:
        raise no_place(place.name) from None


def make(place: Place) -> None:
    """Make the file, if there is none. Raises JournalError where that cannot be, or where it is no database."""
    try:
        place.make()
        with place.path.open("rb") as file:
            begins = file.read(len(MAGIC))
    except OSError as error:
        raise JournalError(f"cannot open the journal {place.name}: {error.strerror}; name another file") from None
    # SQLite itself takes a file of one byte for an empty one.
    if begins not in (b"", MAGIC):
        raise no_database(place.name)


def connect(place: Place) -> sqlite3.Connection:
    """A connection to the journal, as each of them is set. Raises sqlite3.Error."""
    sql = connection(str(place.path), wait=START_SECONDS)
    try:
        sql.execute("PRAGMA synchronous = NORMAL")
        sql.execute(f"PRAGMA wal_autocheckpoint = {BACKSTOP_PAGES}")
    except sqlite3.Error:
        sql.close()
        raise
    return sql


def start(sql: sqlite3.Connection, name: str, transaction: AbstractContextManager[object], notify: Notify) -> str:
    """Check the file or fill it, in one *transaction*, and return its epoch.

    Raises JournalError where the file is none of ours, of a newer version or damaged; sqlite3.Error for the rest.
    """
    begun = is_journal(sql, name)
    if begun and (found := sql.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        raise damaged(name, found)
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("PRAGMA journal_size_limit = 16777216")
    with transaction:
        if not begun:
            create_tables(sql)
            sql.execute("INSERT INTO journal VALUES (?, '')", (secrets.token_hex(4),))
        bring_up_to_date(sql)
        epoch = _enter(sql, name, notify)
    # On the disk before the first record is: a machine that stops from here on is noticed.
    sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return epoch


def leave(sql: sqlite3.Connection, name: str, notify: Notify) -> None:
    """Move the log into the database, and note that the journal is closed in order."""
    try:
        sql.execute("UPDATE journal SET boot = ''")
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        notify(f"the journal {name} could not be closed in order: {error}; nothing committed is lost")


def in_use(path: Path) -> bool:
    """Whether a relay holds the journal at *path* right now, as far as this user may know. Nothing is made for it."""
    lock = Path(f"{path.resolve()}-lock")
    if not lock.is_file():
        return False
    try:
        with closing(connection(f"{lock.as_uri()}?mode=ro", wait=0.0, uri=True)) as sql:
            sql.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return False


def connection(path: str, *, wait: float, uri: bool = False) -> sqlite3.Connection:
    """A connection that leaves transactions to us. The bus sees to it that it is used on one thread."""
    return sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False, uri=uri)


def _enter(sql: sqlite3.Connection, name: str, notify: Notify) -> str:
    """Note in which run of the machine the journal is used. The epoch changes where its end may be missing."""
    epoch, used_in = sql.execute("SELECT epoch, boot FROM journal").fetchone()
    now = _boot()
    if used_in and now and used_in != now:
        epoch = secrets.token_hex(4)
        notify(
            f"the machine stopped while the journal {name} was in use, so its last records may be missing;"
            " a new epoch begins, and every reader gets a gap"
        )
    sql.execute("UPDATE journal SET epoch = ?, boot = ?", (epoch, now))
    return str(epoch)


def _boot() -> str:
    """Which run of the machine this is, where that can be known.

    What a process has committed outlives it, but the last of it may be lost with the machine (synchronous=NORMAL).
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
