"""A record as one line for people: what the console prints on a terminal, and a file in the pretty format holds."""

import re
import time
import zlib
from datetime import datetime
from functools import lru_cache
from typing import Final, Protocol

from relay.events import LEVELS, Level
from relay.text import within_columns

__all__ = ["PrettyLine", "Printable", "inert", "lost_in_words"]

# Characters that move a terminal's cursor, end a line or change its direction; a lone surrogate cannot be encoded.
_ACTIVE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_LEVEL_COLOURS: Final = {"debug": _DIM, "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_JOB_COLOURS: Final = tuple(f"\x1b[{weight}{code}m" for weight in ("", "1;") for code in (36, 35, 34, 32))


class _Words(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def level(self) -> Level: ...
    @property
    def text(self) -> str: ...


class Printable(Protocol):
    """The part of a record that is printed. A record received from another relay has it as well."""

    @property
    def job(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def event(self) -> _Words: ...
    @property
    def json(self) -> bytes: ...
    @property
    def terminal(self) -> bool: ...


class PrettyLine:
    """Renders a record as local time, level, job, seq, type and text, in columns; with *dated*, the day comes first.

    A character that *encoding* does not have is its escape. ConsoleRenderer of structlog costs two and a half times as
    much, and escapes no control characters.
    """

    def __init__(self, encoding: str, *, colours: bool, dated: bool = False) -> None:
        self._encoding = encoding
        self._colours = colours
        dim, reset = (_DIM, _RESET) if colours else ("", "")
        self._dim = dim
        self._time_format = "%Y-%m-%d %H:%M:%S" if dated else "%H:%M:%S"
        self._cells: dict[str, str] = {
            level: f"{reset} {_LEVEL_COLOURS[level] if colours else ''}{level:<7}{reset} " for level in LEVELS
        }

    def __call__(self, record: Printable, more: str = "") -> bytes:
        """The line of *record*, with *more* behind its text."""
        return self._encoded(f"{self._rendered(record)}{more}\n")

    def row(self, record: Printable, more: str, columns: int) -> bytes:
        """As much of the same as fits into so many *columns*, without a line end."""
        return self._encoded(within_columns(f"{self._rendered(record)}{more}", columns))

    def _rendered(self, record: Printable) -> str:
        at, event = record.at, record.event
        clock = f"{self._dim}{_local_time(int(at.timestamp()), self._time_format)}.{at.microsecond // 1000:03}"
        head = f"{clock}{self._cells[event.level]}{_job_cell(record.job, self._colours)}"
        return f"{head} {record.seq:>4} {event.type:<12} {inert(event.text)}"

    def _encoded(self, line: str) -> bytes:
        return line.encode(self._encoding, "backslashreplace")


def inert(text: str) -> str:
    """*text* as one line that moves no cursor: a character that acts is shown as its escape."""
    if text.isascii() and text.isprintable():
        return text
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def lost_in_words(missed: int) -> bytes:
    """A line for people in the place of *missed* lines."""
    lines = "line is" if missed == 1 else "lines are"
    return f"... {missed:,} {lines} missing here: the output did not take them in time\n".encode("ascii")


@lru_cache(maxsize=1024)
def _job_cell(job: str, colours: bool) -> str:
    cell = f"{inert(job):<20}"
    if not colours:
        return cell
    # Not `hash`: a job keeps its colour across restarts and processes.
    colour = _JOB_COLOURS[zlib.crc32(job.encode("utf-8", "replace")) % len(_JOB_COLOURS)]
    return f"{colour}{cell}{_RESET}"


@lru_cache(maxsize=16)
def _local_time(second: int, time_format: str) -> str:
    return time.strftime(time_format, time.localtime(second))
