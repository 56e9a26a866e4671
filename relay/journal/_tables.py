"""The tables in the SQLite file of a journal, its marks, and the additions to files of earlier versions."""

import sqlite3
from typing import Final

from relay.errors import JournalError

__all__ = ["FORMAT", "bring_up_to_date", "create_tables", "is_journal"]

APPLICATION_ID: Final = 0x72656C79
"""The mark of our files among those of other programs: "rely" in ASCII, in the header that SQLite has for this."""

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
        trimmed_to INTEGER NOT NULL DEFAULT 0,
        owner TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE TABLE records (offset INTEGER PRIMARY KEY, job INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL)",
)

ADDED: Final = (
    "CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, offset INTEGER NOT NULL, used REAL NOT NULL)",
    """CREATE TABLE IF NOT EXISTS parked (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        offset INTEGER NOT NULL,
        job TEXT NOT NULL,
        crc INTEGER NOT NULL,
        body BLOB NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        since REAL NOT NULL DEFAULT 0,
        due REAL,
        dead INTEGER NOT NULL DEFAULT 0,
        UNIQUE (name, offset)
    )""",
    "CREATE INDEX IF NOT EXISTS parked_by_job ON parked (name, job, offset) WHERE dead = 0",
    "CREATE INDEX IF NOT EXISTS parked_by_due ON parked (name, due) WHERE due IS NOT NULL",
)
"""Tables that a version which does not know them leaves alone, so that they need no other format."""

COLUMNS: Final = {"jobs": {"owner": "ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT ''"}}
"""Columns that files of earlier versions have not. Such a version names those that it writes, and the rest default."""

REMOVED: Final = ("DROP INDEX IF EXISTS records_by_job",)
"""The index of earlier versions, which a relay no longer looks at: an index costs each commit a page and more.

Such a version works without it, but walks over all records for those of one job.
"""


def create_tables(sql: sqlite3.Connection) -> None:
    """Within a transaction: make a journal of an empty file."""
    for statement in TABLES:
        sql.execute(statement)


def bring_up_to_date(sql: sqlite3.Connection) -> None:
    """Within a transaction: add what a journal of an earlier version has not, and remove what is not used any more."""
    for statement in (*ADDED, *REMOVED):
        sql.execute(statement)
    for table, columns in COLUMNS.items():
        there = {name for _, name, *_ in sql.execute(f"PRAGMA table_info({table})")}
        for column in columns.keys() - there:
            sql.execute(columns[column])


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
