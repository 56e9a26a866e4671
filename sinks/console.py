"""The operator's console: each record as one line, aligned for people or as JSON for programs."""

import asyncio
import os
import re
import sys
import time
import zlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol, Self, TextIO, TypeAlias, get_args

import structlog
from msgspec import Meta, Struct

from relay.events import LEVELS, Level, at_least
from sinks._writer import CLOSE_TIMEOUT, LineWriter, lost_as_json, notices

__all__ = ["ConsoleSettings", "ConsoleSink", "Format", "Printable"]

Format: TypeAlias = Literal["pretty", "json"]


class _Words(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def level(self) -> Level: ...
    @property
    def text(self) -> str: ...


class Printable(Protocol):
    """The part of a record that a console prints. A record received from another relay has it as well."""

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


_EventDict: TypeAlias = Mapping[str, Any]

# Characters that move a terminal's cursor, end a line or change its direction; a lone surrogate cannot be encoded.
_ACTIVE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_LEVEL_COLOURS: Final = {"debug": _DIM, "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_JOB_COLOURS: Final = tuple(f"\x1b[{weight}{code}m" for weight in ("", "1;") for code in (36, 35, 34, 32))


class ConsoleSettings(Struct, frozen=True, kw_only=True):
    """Records on standard output; without *format*, pretty on a terminal and JSON lines elsewhere."""

    kind: ClassVar[str] = "console"

    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "debug"
    format: Annotated[Format, Meta(description="one of pretty, json")] | None = None


class ConsoleSink:
    """Prints each record as one line, with the text that every stream has for it, and never waits for the output.

    *format* `pretty` is for people: local time, level, job, seq, type and text, in colours if the terminal has them
    (NO_COLOR, FORCE_COLOR and TERM=dumb are respected). `json` is the record as it is on the wire. The default is
    `pretty` on a terminal and `json` otherwise.

    *out* is standard output by default. While it stands still, up to *capacity* lines wait for it; beyond that the
    oldest are lost, and one line in their place reports their number. While it cannot be written, as on a full disk,
    lines wait as well, and the `relay` logger, which writes to standard error, logs one line then and one when the
    output works again. A closed pipe, or a missing output, is logged only with *watched*: an operator relies on it.

    Records below *level* are left out, except terminal ones. `async with` the sink, or close it: the remaining lines
    are written then, within two seconds.
    """

    settings: ClassVar[type[ConsoleSettings]] = ConsoleSettings

    @classmethod
    def from_settings(cls, settings: ConsoleSettings) -> Self:
        """The console of one table of [[sinks]], on standard output."""
        return cls(format=settings.format, level=settings.level, watched=True)

    def __init__(
        self,
        out: TextIO | None = None,
        *,
        format: Format | None = None,  # noqa: A002 - what the command line and relay.toml call it
        level: Level = "debug",
        capacity: int = 10_000,
        watched: bool = False,
    ) -> None:
        out = out if out is not None else sys.stdout
        if format not in (None, *get_args(Format)):
            raise ValueError(f"the console has no format {format!r}; it has {' and '.join(get_args(Format))}")
        self.format: Format = format or ("pretty" if _is_terminal(out) else "json")
        self.level: Level = level
        self._levels = frozenset(name for name in LEVELS if at_least(name, level))
        pretty = self.format == "pretty"
        self._writer = LineWriter(
            out,
            capacity,
            lost=_lost_in_words if pretty else lost_as_json,
            troubled=notices("the console's output", watched=watched),
        )
        render = _Pretty(self._writer.encoding, colours=_wants_colours(out)) if pretty else _as_json
        # Every option is passed here, so that the structlog configuration of the program has no effect.
        self._log = _RecordLogger(_LineLogger(self._writer), [render], {})

    def __call__(self, record: Printable) -> None:
        if record.event.level in self._levels or record.terminal:
            self._log.log_record(record)

    @property
    def missed(self) -> int:
        """The number of lines lost so far because the output stood still or could not be written."""
        return self._writer.missed

    @property
    def waiting(self) -> int:
        """The number of lines that the output has not accepted yet; a replay can wait until there are none."""
        return self._writer.waiting

    def close(self) -> None:
        """Write the remaining lines, as far as the output accepts them, for up to two seconds; blocks the caller."""
        self._writer.close(CLOSE_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


class _RecordLogger(structlog.BoundLoggerBase):
    """Logs a record as an event of structlog."""

    def log_record(self, record: Printable) -> None:
        self._proxy_to_logger(record.event.level, record.event.type, record=record)


class _LineLogger:
    """The logger that structlog passes finished lines to."""

    def __init__(self, writer: LineWriter) -> None:
        self.debug = self.info = self.warning = self.error = writer.write


def _as_json(_logger: object, _method: str, event: _EventDict) -> bytes:
    record: Printable = event["record"]
    return record.json + b"\n"


class _Pretty:
    """A structlog processor; ConsoleRenderer costs two and a half times as much and escapes no control characters."""

    def __init__(self, encoding: str, *, colours: bool) -> None:
        self._encoding = encoding
        self._colours = colours
        dim, reset = (_DIM, _RESET) if colours else ("", "")
        self._dim = dim
        self._cells: dict[str, str] = {
            level: f"{reset} {_LEVEL_COLOURS[level] if colours else ''}{level:<7}{reset} " for level in LEVELS
        }

    def __call__(self, _logger: object, level: str, event: _EventDict) -> bytes:
        record: Printable = event["record"]
        at, job, words = record.at, _job_cell(record.job, self._colours), _inert(record.event.text)
        clock = f"{self._dim}{_local_time(int(at.timestamp()))}.{at.microsecond // 1000:03}"
        line = f"{clock}{self._cells[level]}{job} {record.seq:>4} {event['event']:<12} {words}\n"
        return line.encode(self._encoding, "backslashreplace")


@lru_cache(maxsize=1024)
def _job_cell(job: str, colours: bool) -> str:
    cell = f"{_inert(job):<20}"
    if not colours:
        return cell
    # Not `hash`: a job keeps its colour across restarts and processes.
    colour = _JOB_COLOURS[zlib.crc32(job.encode("utf-8", "replace")) % len(_JOB_COLOURS)]
    return f"{colour}{cell}{_RESET}"


@lru_cache(maxsize=16)
def _local_time(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


def _inert(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _lost_in_words(missed: int) -> bytes:
    lines = "line is" if missed == 1 else "lines are"
    return f"... {missed:,} {lines} missing here: the output did not take them in time\n".encode("ascii")


def _is_terminal(out: TextIO | None) -> bool:
    try:
        return out is not None and out.isatty()
    except ValueError:
        return False


def _wants_colours(out: TextIO | None) -> bool:
    """Colours on a terminal that has them, unless the user overrides that (no-color.org, force-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return _is_terminal(out) and os.environ.get("TERM") != "dumb"
