"""Errors of a journal's file, and what to do about each: one sentence each."""

import sqlite3

from relay.errors import JournalError

__all__ = ["damaged", "is_of_the_content", "no_database", "no_place", "no_room", "trouble"]


def trouble(name: str, error: sqlite3.Error) -> JournalError:
    """What *error* means for the journal *name*, and what to do."""
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return no_room(name)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return JournalError(f"the journal {name} cannot be written: the file or its folder is read-only")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return JournalError(f"the journal {name} is locked by another program; let that one end")
        case sqlite3.SQLITE_CANTOPEN:
            return no_place(name)
        case sqlite3.SQLITE_NOTADB:
            return no_database(name)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR:
            return damaged(name, str(error))
        case _:
            return JournalError(f"the journal {name} cannot be used: {error}")


def is_of_the_content(error: sqlite3.Error) -> bool:
    """Whether it is what was to be stored that cannot be, whenever that is tried."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "binding" in str(error)
    return code & 0xFF in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH)


def no_room(name: str) -> JournalError:
    """The disk is full."""
    return JournalError(f"the journal {name} cannot be written: no room is left; make room on its disk")


def no_place(name: str) -> JournalError:
    """No file can be made where the journal is to be."""
    return JournalError(f"cannot open the journal {name}: no file can be written there; name another one")


def no_database(name: str) -> JournalError:
    """The file is something else."""
    return JournalError(f"{name} is no journal: it is not even an SQLite database; name another file")


def damaged(name: str, how: str) -> JournalError:
    """SQLite cannot make sense of the file; *how* is what it says."""
    what = " ".join(how.split())
    return JournalError(
        f"the journal {name} is damaged ({what}); move it away to begin a new one; `relay replay {name} --speed 0`"
        f" prints the records that can still be read, and so does `sqlite3 {name} .recover`"
    )
