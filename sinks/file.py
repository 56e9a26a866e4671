"""Records as lines of a file that is rotated, kept within bounds, and left whole by a full disk."""

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias, get_args

from msgspec import Meta, Struct

from relay.clock import Clock, SystemClock
from relay.errors import ConfigError, UsageError
from relay.events import LEVELS, Level, Record
from relay.queue import Counts
from relay.queue.counts import Breaker
from sinks._log_file import LogFile, LogFileOptions
from sinks._pretty import PrettyLine, lost_in_words
from sinks._rotated import Compression, compressor_for
from sinks._troubles import Trouble, notices, to_logger
from sinks._writer import CLOSE_TIMEOUT, LineWriter, lost_as_json

__all__ = ["FileKeep", "FileRotation", "FileSettings", "FileSink"]

Format: TypeAlias = Literal["json", "pretty"]

_Bytes = Annotated[int, Meta(ge=0, description="a number of bytes, 0 for no limit")]
_Seconds = Annotated[float, Meta(ge=0, description='seconds, or text like "1h" or "1d"; 0 for never')]

_JSON_BEGINS: Final = (b'{"v":1,"job":', b'{"type":"skipped",')
_PRETTY_BEGINS: Final = re.compile(rb"[0-9]{1,4}(?:-[0-9-]{0,5}(?: [^\n]*)?)?|\.{1,3}(?: [^\n]*)?")


class FileRotation(Struct, frozen=True, kw_only=True):
    """When the file is put aside and another one begun: before it is larger than *bytes*, and once in *every* period.

    Periods are counted from midnight UTC: `every = "1d"` begins a file with the first record of each day.
    """

    bytes: _Bytes = 100_000_000
    every: _Seconds = 0.0


class FileKeep(Struct, frozen=True, kw_only=True):
    """How many files that were put aside are kept, and of how many *bytes* in all; the oldest go first."""

    files: Annotated[int, Meta(ge=0, description="a number of files, 0 for no limit")] = 10
    bytes: _Bytes = 0


class FileSettings(Struct, frozen=True, kw_only=True):
    """Records as lines of a file."""

    kind: ClassVar[str] = "file"

    path: Annotated[str, Meta(min_length=1, description="the path of a file")]
    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "debug"
    format: Annotated[Format, Meta(description="one of json, pretty")] = "json"
    rotate: FileRotation = FileRotation()
    keep: FileKeep = FileKeep()
    compress: Annotated[Compression, Meta(description="one of none, gzip, zstd")] = "none"
    sync: _Seconds = 0.0
    capacity: Annotated[int, Meta(ge=1, description="a number of records, 1 or more")] = 10_000


class FileSink:
    """Appends each record as one line to the file at *path*, from a thread of its own, and never waits for the disk.

    *format* `json` is the record as it is on the wire; `pretty` is the line of the console, with the day in front.
    *rotate* puts the file aside as `jobs-20260101T000000Z.jsonl`, *keep* deletes the oldest of these, and *compress*
    makes them smaller. *sync* is how often, in seconds, the disk is made to keep what was written; 0 leaves that to the
    system. `reopen` and a change of the file at *path*, as by logrotate, begin the file anew.

    While the file cannot be written, as on a full disk, up to *capacity* lines (and 16 MiB) wait, the sink counts as
    quarantined, and the file is tried every second. The oldest lines give way, and a line in their place reports their
    number. The file never holds a part of a line, except in the moment of a write.

    Raises UsageError if the folder of *path* does not exist, or this Python cannot *compress* so. `async with` the
    sink, or close it: the remaining lines are written then, within two seconds.
    """

    settings: ClassVar[type[FileSettings]] = FileSettings
    batch: Final = (256, 0.05)
    """How many records, and of how many seconds, `work` is given at once."""

    @classmethod
    def from_settings(cls, settings: FileSettings) -> Self:
        """The file of one table of [[sinks]]. Raises ConfigError."""
        try:
            return cls(
                settings.path,
                format=settings.format,
                rotate=settings.rotate,
                keep=settings.keep,
                compress=settings.compress,
                sync=settings.sync,
                capacity=settings.capacity,
            )
        except UsageError as error:
            raise ConfigError(f"sink file: {error}") from None

    def __init__(
        self,
        path: str | Path,
        *,
        format: Format = "json",  # noqa: A002 - the name of the key in relay.toml
        rotate: FileRotation = FileRotation(),  # noqa: B008 - it is frozen
        keep: FileKeep = FileKeep(),  # noqa: B008
        compress: Compression = "none",
        sync: float = 0.0,
        capacity: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        self.path: Path = Path(path)
        _check(self.path, format, compress)
        options = LogFileOptions(
            rotate_bytes=rotate.bytes,
            rotate_every=rotate.every,
            keep_files=keep.files,
            keep_bytes=keep.bytes,
            compression=compress,
            sync=sync,
        )
        pretty = format == "pretty"
        self._notify: Callable[[str], object] | None = None
        self._name = f"the file {self.path}"
        self._file = LogFile(
            self.path,
            options,
            is_ours=_begins_pretty if pretty else _begins_json,
            clock=clock or SystemClock(),
            notify=self._say,
        )
        self._line: Callable[[Record], bytes] = PrettyLine("utf-8", colours=False, dated=True) if pretty else _as_json
        self._lost: Callable[[int], bytes] = lost_in_words if pretty else lost_as_json
        self._writer = LineWriter(self._file, capacity, lost=self._lost, troubled=self._troubled)

    def __call__(self, record: Record) -> None:
        self._writer.write(self._line(record))

    async def work(self, records: Sequence[Record]) -> None:
        """Append *records* and return once the disk keeps them: a durable sink goes on from there after a restart.

        Raises OSError; some of the records may be in the file then, and are there again after the next try.
        """
        await asyncio.to_thread(self._file.write_through, b"".join(map(self._line, records)))
        self._writer.wake()  # a rotation may have left something to compress

    async def lost(self, number: int) -> None:
        """Report in the file that *number* records are missing in this place: the journal no longer had them."""
        await asyncio.to_thread(self._file.write_through, self._lost(number))

    def __repr__(self) -> str:
        return f"FileSink({str(self.path)!r})"

    @property
    def missed(self) -> int:
        """The number of records lost so far because the file could not be written in time."""
        return self._writer.missed

    @property
    def breaker(self) -> Breaker:
        """`open` while the file cannot be written, and `closed` while it can."""
        return "open" if self._writer.fails else "closed"

    def counts(self) -> Counts:
        """The number of records by what became of them."""
        delivered, dropped, waiting = self._writer.figures
        return Counts(delivered=delivered, dropped=dropped, waiting=waiting)

    def bind(self, clock: Clock, notify: Callable[[str], object], name: str) -> None:
        """Use the relay's *clock*, and report to its operator under the *name* that the relay has for the sink."""
        loop = asyncio.get_running_loop()

        def from_any_thread(text: str) -> None:
            try:
                loop.call_soon_threadsafe(notify, text)
            except RuntimeError:  # the loop has ended
                notify(text)

        self._file.clock = clock
        self._notify = from_any_thread
        self._name = f"sink {name}: the file {self.path}"

    def reopen(self) -> None:
        """Close the file, and open the one that is at the path then: after a rename, within moments. On any thread."""
        self._file.reopen()
        self._writer.wake()

    def close(self) -> None:
        """Write the remaining lines, as far as the disk accepts them, for up to two seconds; blocks the caller."""
        self._writer.close(CLOSE_TIMEOUT)

    async def __aenter__(self) -> Self:
        self._writer.wake()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._writer.aclose()

    def _troubled(self, trouble: Trouble) -> None:
        notices(self._name, watched=True, notify=self._notify)(trouble)

    def _say(self, text: str) -> None:
        (self._notify or to_logger)(text)


def _check(path: Path, format: str, compress: Compression) -> None:  # noqa: A002
    if format not in get_args(Format):
        raise UsageError(f"a file has no format {format!r}; it has {' and '.join(get_args(Format))}")
    if compress not in get_args(Compression):
        raise UsageError(f"a file is compressed with {', '.join(get_args(Compression))}, not {compress!r}")
    try:
        compressor_for(compress)
    except ImportError:
        raise UsageError(f'compress = "{compress}" needs Python 3.14 or later; write "gzip"') from None
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; make it")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file; name another one")


def _as_json(record: Record) -> bytes:
    return record.json + b"\n"


def _begins_json(start: bytes) -> bool:
    return any(start.startswith(begin[: len(start)]) for begin in _JSON_BEGINS)


def _begins_pretty(start: bytes) -> bool:
    return _PRETTY_BEGINS.match(start) is not None
