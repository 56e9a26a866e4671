"""A file that lines are appended to: rotated, re-opened when it is renamed, and never with a part of a line in it."""

import errno
import os
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Final

from msgspec import Struct

from relay.clock import Clock
from sinks._file_lock import try_lock, unlock
from sinks._rotated import Compression, free_name, tidied
from sinks._writer import Output

__all__ = ["LogFile", "LogFileOptions"]

PRIVATE: Final = 0o600
"""The mode of a new file, which later ones inherit: a signed URL in it is a secret."""

TAIL: Final = 1024 * 1024
"""The most bytes at the end of a file that may belong to a line that was not finished. A line has 256 KiB."""

HEAD: Final = 32
"""Bytes by which the beginning of a line is known."""

NOT_OURS: Final = "it holds something else than records; name another file"

AGAIN: Final = 60.0
"""Seconds until a rotation that failed is tried again; lines are appended meanwhile."""

_FLAGS: Final = (
    os.O_RDWR
    | os.O_CREAT
    # The kernel finds the end at each write, also if another program writes or empties the file.
    | os.O_APPEND
    # A FIFO of that name is refused, and not waited for.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


class LogFileOptions(Struct, frozen=True, kw_only=True):
    """When a file is rotated, and what stays of it. Sizes are bytes, times seconds; 0 is never, or no limit."""

    rotate_bytes: int = 0
    rotate_every: float = 0.0
    keep_files: int = 0
    keep_bytes: int = 0
    compression: Compression = "none"
    sync: float = 0.0


class LogFile(Output):
    """The file at *path*, for the thread of a LineWriter alone; `reopen` is for any thread.

    It holds whole lines at each moment in which no write is under way: if the disk is full in the middle of a line, the
    part that was written is cut off again, and so is a line that a process left unfinished when it was killed. Each
    write compares the file at *path* with the one that is open, so a file that another program renames receives nothing
    more. Before a write that would make the file larger than `rotate_bytes`, or that belongs to another period of
    `rotate_every`, the file is put aside; periods are counted from midnight UTC. Writes and rotations hold a lock, so
    that several processes can use one file on a local disk. A file that does not begin as *is_ours* knows it is left
    alone. *notify* receives a sentence for what went wrong meanwhile.
    """

    def __init__(
        self,
        path: Path,
        options: LogFileOptions,
        *,
        is_ours: Callable[[bytes], bool],
        clock: Clock,
        notify: Callable[[str], object],
    ) -> None:
        self.clock = clock
        self._path = path
        self._options = options
        self._is_ours = is_ours
        self._notify = notify
        self._fd: int | None = None
        self._mode = PRIVATE
        self._period = 0
        self._whole = True
        self._reopen = False
        self._rotation_after = -AGAIN
        self._unsynced: float | None = None
        self._chores: list[Generator[None]] = []
        # A thread that ends closes the file, and the next one may have begun by then.
        self._turn = RLock()

    def reopen(self) -> None:
        """Close the file before the next write, or within moments, and open the one that is at the path then."""
        self._reopen = True

    def write(self, data: bytes) -> int:
        """Append the lines of *data* that the file has room for; return their bytes, 1 or more.

        Raises OSError if it has no room for the first of them, or cannot be opened; BlockingIOError while another
        process writes or rotates it. No part of a line is left in the file then.
        """
        with self._turn, self._locked() as fd:
            self._mend(fd)
            size = os.fstat(fd).st_size
            if not (self._is_due(data, size) and self._rotate(fd)):
                if size == 0:
                    self._period = self._period_of(self.clock.now().timestamp())
                return self._append(fd, data[: self._fitting(data, size)])
        return self.write(data)  # to the new file, which is empty

    def write_through(self, data: bytes) -> None:
        """Append all lines of *data*, and return once the disk keeps them. Raises OSError; some may be there then."""
        with self._turn:
            while data:
                data = data[self.write(data) :]
            if self._fd is not None:
                self._sync(self._fd)

    def upkeep(self) -> float | None:
        """A slice of work that is not urgent; the seconds until there is more, or None until the next line."""
        with self._turn:
            if self._fd is None or self._reopen:
                with suppress(BlockingIOError), self._locked() as fd:
                    self._mend(fd)
            if self._chores:
                try:
                    next(self._chores[0])
                except StopIteration:
                    del self._chores[0]
                return 0.0
            return self._sync_in_time()

    def close(self) -> None:
        """Close the file. A compression that is under way is begun anew with the next start."""
        with self._turn:
            for chore in self._chores:
                chore.close()
            self._chores.clear()
            self._let_go()

    @contextmanager
    def _locked(self) -> Generator[int]:
        """The descriptor of the file at the path, locked. Raises BlockingIOError where another process locked it."""
        if self._reopen:
            self._reopen = False
            self._let_go()
        fd = self._fd = self._open() if self._fd is None else self._fd
        if not try_lock(fd):
            raise BlockingIOError
        try:
            # Behind the lock: a rotation of another process ends before it lets go.
            if self._is_moved(fd):
                self._let_go()
            else:
                yield fd
                return
        finally:
            if self._fd == fd:
                unlock(fd)
        with self._locked() as other:
            yield other

    def _open(self) -> int:
        fd = self._new_or_found()
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file", str(self._path))
            if found.st_size and not self._is_ours(os.pread(fd, HEAD, 0)):
                raise OSError(errno.EINVAL, NOT_OURS, str(self._path))
        except BaseException:
            os.close(fd)
            raise
        self._mode = stat.S_IMODE(found.st_mode)
        self._period = self._period_of(found.st_mtime)
        self._whole = False
        self._tidy()
        return fd

    def _new_or_found(self) -> int:
        try:
            fd = os.open(self._path, _FLAGS | os.O_EXCL, self._mode)
        except FileExistsError:
            return os.open(self._path, _FLAGS, self._mode)
        if hasattr(os, "fchmod"):
            with suppress(OSError):  # a disk that has no modes
                os.fchmod(fd, self._mode)  # whatever the umask is: the mode is that of the file before
        return fd

    def _is_moved(self, fd: int) -> bool:
        """Whether another file, or none, is at the path. *fd* is open, so its inode number means no other file."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        own = os.fstat(fd)
        return (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino)

    def _let_go(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                if self._unsynced is not None:
                    self._sync(fd)
            os.close(fd)

    def _append(self, fd: int, lines: bytes) -> int:
        written = 0
        try:
            while written < len(lines):
                written += os.write(fd, memoryview(lines)[written:])
        except OSError:
            whole = lines.rfind(b"\n", 0, written) + 1
            if whole < written:
                self._whole = False
                with suppress(OSError):  # the next write begins with another try
                    self._cut(fd, written - whole)
            if not whole:
                raise
            written = whole
        if self._options.sync and self._unsynced is None:
            self._unsynced = self.clock.monotonic()
        return written

    def _cut(self, fd: int, length: int) -> None:
        os.ftruncate(fd, os.fstat(fd).st_size - length)
        self._whole = True

    def _mend(self, fd: int) -> None:
        """Cut off a line at the end that was not finished, once after opening, and once more if that failed."""
        if self._whole:
            return
        size = os.fstat(fd).st_size
        tail = os.pread(fd, min(TAIL, size), max(0, size - TAIL))
        if torn := tail[tail.rfind(b"\n") + 1 :]:
            if len(torn) == TAIL or not self._is_ours(torn[:HEAD]):
                raise OSError(errno.EINVAL, NOT_OURS, str(self._path))
            self._cut(fd, len(torn))
            self._notify(f"{self._path}: {len(torn):,} bytes of a line that was never finished are cut off at its end")
        self._whole = True

    def _fitting(self, data: bytes, size: int) -> int:
        """The bytes of whole lines of *data* that fit in a file of *size*, and those of the first line at least."""
        limit = self._options.rotate_bytes
        if not limit or size + len(data) <= limit or self.clock.monotonic() < self._rotation_after:
            return len(data)
        fitting = data.rfind(b"\n", 0, max(0, limit - size)) + 1
        return fitting or data.find(b"\n") + 1 or len(data)

    def _is_due(self, data: bytes, size: int) -> bool:
        if size == 0 or self.clock.monotonic() < self._rotation_after:
            return False
        limit = self._options.rotate_bytes
        if limit and size + data.find(b"\n") + 1 > limit:
            return True
        return self._period_of(self.clock.now().timestamp()) > self._period

    def _period_of(self, timestamp: float) -> int:
        return int(timestamp // self._options.rotate_every) if self._options.rotate_every else 0

    def _rotate(self, fd: int) -> bool:
        """Put the file aside, and open another; False if that failed, and lines go on into this one."""
        path = self._path.resolve()  # where a link leads: the file is renamed, and not the link
        try:
            self._mode = stat.S_IMODE(os.fstat(fd).st_mode)
            path.rename(free_name(path, self.clock.now()))
        except OSError as error:
            self._rotation_after = self.clock.monotonic() + AGAIN
            self._notify(f"{self._path} cannot be rotated ({error}); it grows until it can, which is tried each minute")
            return False
        self._let_go()
        return True

    def _tidy(self) -> None:
        options = self._options
        if not self._chores and (options.keep_files or options.keep_bytes or options.compression != "none"):
            chore = tidied(
                self._path.resolve(),
                files=options.keep_files,
                total=options.keep_bytes,
                compression=options.compression,
                notify=self._notify,
            )
            self._chores.append(chore)

    def _sync_in_time(self) -> float | None:
        if self._unsynced is None or self._fd is None:
            return None
        left = self._unsynced + self._options.sync - self.clock.monotonic()
        if left > 0:
            return left
        self._sync(self._fd)
        return None

    def _sync(self, fd: int) -> None:
        self._unsynced = None
        os.fsync(fd)
