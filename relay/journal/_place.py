"""The place of a journal: its files by name, which are locked, private, and still those that are open."""

import math
import os
import sqlite3
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import time
from typing import Final

from relay.errors import JournalError
from relay.notices import Notify

__all__ = ["Place"]

SHARED: Final = ("-wal", "-shm")
FILES: Final = ("", *SHARED)
"""What the names of SQLite's own files end in: the database, its log, and what its readers and writers share."""

LOCK: Final = "-lock"
PRIVATE: Final = 0o600
OTHERS: Final = 0o007

SETTLED: Final = 2.5
"""Seconds after which a further change of a folder gives it another time stamp, however coarse those are: FAT has 2."""

_TELLS: Final = os.name == "posix"
"""Whether the status of a folder has the time of its last change; elsewhere that is the time when it was made."""

_Identity = tuple[int, int] | None
_Folder = tuple[int, int, int] | None


class Place:
    """The files of the journal at *path*, for this process alone.

    Another program may delete, move or replace them while they are open. Writes then reach no file that a
    restart would find: so see that `is_kept` before each commit.
    """

    def __init__(self, path: Path, name: str) -> None:
        # By its real name, so that two names of one file are one lock.
        self.path = path
        self.name = name
        self._file: _Identity = None
        self._shared: dict[str, _Identity] = {}
        self._folder = str(path.parent)
        self._seen: _Folder = None
        self._trusted_from = 0.0
        self._names = {ending: f"{path}{ending}" for ending in (*FILES, LOCK)}
        self._filled = False
        self._lock_file: _Identity = None
        self._locks = ExitStack()

    @property
    def copy(self) -> Path:
        """Where the journal is written anew, before it is put in its place."""
        return Path(f"{self.path}-new")

    def lock(self) -> None:
        """Hold a lock that the kernel releases when the process ends, however it ends.

        SQLite's own lock on an empty file beside the journal: it works wherever SQLite does. Raises JournalError where
        another relay has it; sqlite3.Error and OSError where there can be none.
        """
        file = Path(f"{self.path}{LOCK}")
        self._make(file)
        with ExitStack() as stack:
            lock = stack.enter_context(closing(sqlite3.connect(file, timeout=0.0, isolation_level=None)))
            try:
                lock.execute("PRAGMA journal_mode = MEMORY")
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                raise JournalError(
                    f"the journal {self.name} is in use by another relay; stop that one, or name another file"
                ) from None
            held = stack.pop_all()
        self._locks.close()
        self._locks = held
        self._lock_file = self._identity(LOCK)

    def unlock(self) -> None:
        """Let another relay have the journal. Twice does nothing."""
        self._locks.close()

    def make(self) -> None:
        """See that there is a file, which nobody else may read: a signed URL in it is a secret."""
        self._make(self.path)

    def warn(self, notify: Notify) -> None:
        """Say which of the files everybody may read."""
        readable = [file for file in map(self._named, (*FILES, LOCK)) if _mode(file) & OTHERS]
        if readable:
            names = " ".join(map(str, readable))
            notify(
                f"everybody on this machine may read the journal, and with it what is secret in it: chmod 600 {names}"
            )

    def note(self) -> None:
        """From now on, the file at the place is the open one."""
        self._filled = False
        self._seen = None
        self._file, *shared = map(self._identity, FILES)
        self._shared = dict(zip(SHARED, shared, strict=True))

    def is_untouched(self) -> bool:
        """Whether nothing was made, renamed or deleted in the folder since `note_folder`, and the file is not empty.

        Two looks in place of four. Each such change gives the folder a time stamp which nobody can set. Two changes
        that are close together may have the same one, so a folder that has just changed is not trusted.
        """
        if self._seen is None:
            return False
        found = _found(self._names[""])
        return (
            found is not None
            and found.st_size > 0
            and (found.st_dev, found.st_ino) == self._file
            and self.folder() == self._seen
        )

    def folder(self) -> _Folder:
        """The folder as it is at this moment; None where it cannot be seen, or changed a moment ago."""
        if time() < self._trusted_from:
            return None
        found = _found(self._folder)
        return None if found is None else (found.st_dev, found.st_ino, found.st_ctime_ns)

    def note_folder(self, before: _Folder) -> None:
        """All files are in their places; *before* is the folder before that was seen."""
        self._seen = None
        if before is not None:
            self._trusted_from = before[2] / 1e9 + SETTLED if _TELLS else math.inf
            if time() > self._trusted_from:
                self._seen = before

    def is_kept(self) -> bool:
        """Whether what is open is what is at the place, and has not been emptied there."""
        found = _found(self._names[""])
        if found is None:
            return False
        for ending, own in self._shared.items():
            if self._identity(ending) != own:
                return False
        return self._file in (None, (found.st_dev, found.st_ino)) and self._is_whole(found.st_size)

    def is_full(self) -> bool:
        """Whether no block is free where the journal is, as far as the system reports."""
        try:
            return hasattr(os, "statvfs") and os.statvfs(self.path.parent).f_bavail == 0
        except OSError:
            return False

    def is_locked(self) -> bool:
        """Whether the lock that is held is one that another relay would find."""
        return self._identity(LOCK) == self._lock_file

    def put_copy(self) -> Path | None:
        """Put the copy in place; return where that has been put which somebody else had put there. Raises OSError."""
        aside = None
        if self._identity("") not in (None, self._file):
            aside = self._free_name()
        for ending in FILES:
            there = self._identity(ending)
            if there is None:
                continue
            if there == self._shared.get(ending, self._file) or aside is None:
                # A log that is left here would be read as that of the copy.
                if ending:
                    self._named(ending).unlink()
            else:
                self._named(ending).rename(f"{aside}{ending}")
        self.copy.rename(self.path)
        return aside

    def make_copy(self) -> Path:
        """An empty file for the copy."""
        with suppress(FileNotFoundError):
            self.copy.unlink()
        self._make(self.copy)
        return self.copy

    def _free_name(self) -> Path:
        number = 1
        while (name := Path(f"{self.path}.found-{number}")).exists():
            number += 1
        return name

    def _named(self, ending: str) -> Path:
        return Path(f"{self.path}{ending}")

    def _identity(self, ending: str) -> _Identity:
        found = _found(self._names[ending])
        return None if found is None else (found.st_dev, found.st_ino)

    def _is_whole(self, size: int) -> bool:
        """Whether the database still has something in it, once it had. A log may be emptied by anybody's checkpoint."""
        is_filled = size > 0
        is_whole = is_filled or not self._filled
        self._filled = self._filled or is_filled
        return is_whole

    def _make(self, file: Path) -> None:
        """Make *file*, if there is none, with its mode whatever the umask is."""
        try:
            descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE)
        except FileExistsError:
            return
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, PRIVATE)
        finally:
            os.close(descriptor)


def _found(name: str) -> os.stat_result | None:
    try:
        # A link to the file is not the file: a restart would look for its log beside what it leads to.
        return os.lstat(name)
    except OSError:
        return None


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode & 0o777
    except OSError:
        return 0
