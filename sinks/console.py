"""The operator's console: each record as one line, aligned for people or as JSON for programs."""

import os
import sys
from types import TracebackType
from typing import Annotated, ClassVar, Literal, Protocol, Self, TextIO, TypeAlias, get_args

from msgspec import Meta, Struct

from relay.events import LEVELS, LEVELS_FROM, Level
from sinks._collapsing import Collapsing, columns_of
from sinks._pretty import PrettyLine, Printable, lost_in_words
from sinks._writer import CLOSE_TIMEOUT, LineWriter, lost_as_json, notices

__all__ = ["ConsoleSettings", "ConsoleSink", "Format", "Printable"]

Format: TypeAlias = Literal["pretty", "json"]


class ConsoleSettings(Struct, frozen=True, kw_only=True):
    """Records on standard output; without *format*, pretty on a terminal and JSON lines elsewhere."""

    kind: ClassVar[str] = "console"

    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "info"
    format: Annotated[Format, Meta(description="one of pretty, json")] | None = None


class ConsoleSink:
    """Prints each record as one line, with the text that every stream has for it, and never waits for the output.

    *format* `pretty` is for people: local time, level, job, seq, type and text, in colours if the terminal has them
    (NO_COLOR, FORCE_COLOR and TERM=dumb are respected). On a terminal with colours, polls that bring no news share its
    last row, and leave one line behind that counts them ("unchanged x12"). `json` is the record as it is on the wire.
    The default is `pretty` on a terminal and `json` otherwise.

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
        """The console of one table of [[sinks]], on standard output. Its level is the relay's business."""
        return cls(format=settings.format, watched=True)

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
        self._levels = LEVELS_FROM[level]
        self._writer = LineWriter(
            out,
            capacity,
            lost=self._lost,
            troubled=notices("the console's output", watched=watched),
        )
        self._as_json = self.format == "json"
        self._renderer = _renderer(out, self._writer.encoding) if self.format == "pretty" else _Json()

    def __call__(self, record: Printable) -> None:
        if record.event.level in self._levels or record.terminal:
            if self._as_json:
                return self._writer.write(record.json + b"\n")
            for line in self._renderer(record):
                self._writer.write(line)
        return None

    def _lost(self, missed: int) -> bytes:
        return self._renderer.lost(missed)

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
        self._write_rest()
        self._writer.close(CLOSE_TIMEOUT)

    async def __aenter__(self) -> Self:
        # The first record does not wait for a thread to start: on a busy machine that takes tens of milliseconds.
        self._writer.wake()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write_rest()
        await self._writer.aclose()

    def _write_rest(self) -> None:
        for line in self._renderer.rest():
            self._writer.write(line)


class _Renderer(Protocol):
    """Renders a record, the rest at the end, and the line in the place of lost ones."""

    def __call__(self, record: Printable) -> list[bytes]: ...
    def rest(self) -> list[bytes]: ...
    def lost(self, missed: int) -> bytes: ...


class _Json:
    def __call__(self, record: Printable) -> list[bytes]:
        return [record.json + b"\n"]

    def rest(self) -> list[bytes]:
        return []

    def lost(self, missed: int) -> bytes:
        return lost_as_json(missed)


class _Pretty:
    def __init__(self, line: PrettyLine) -> None:
        self._line = line

    def __call__(self, record: Printable) -> list[bytes]:
        return [self._line(record)]

    def rest(self) -> list[bytes]:
        return []

    def lost(self, missed: int) -> bytes:
        return lost_in_words(missed)


def _renderer(out: TextIO | None, encoding: str) -> _Renderer:
    """Pretty lines; repeats collapse on a terminal that can clear a row, unless its user wishes for plain lines."""
    if not _wants_colours(out):
        return _Pretty(PrettyLine(encoding, colours=False))
    line = PrettyLine(encoding, colours=True)
    if not _is_terminal(out):
        return _Pretty(line)
    return Collapsing(line, PrettyLine(encoding, colours=False), columns=lambda: columns_of(out))


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
