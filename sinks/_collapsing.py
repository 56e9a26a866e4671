"""Polls without news, on a terminal: they share its last row, and leave one line behind."""

import os
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from sinks._pretty import PrettyLine, Printable, lost_in_words

__all__ = ["Collapsing", "columns_of"]

CLEARED: Final = b"\r\x1b[K"
"""Empties the row that the cursor is in, and no other: another program's lines above it stay."""

HELD: Final = 4
"""Steps of a poll that wait for what it brings; a poll has two, `checking` and `received`."""

JOBS: Final = 10_000
"""Jobs whose polls are counted, as many as a relay runs by default; the oldest gives way."""

_STEPS: Final = frozenset({"checking", "received"})


class _Run:
    """The polls of one job since its last line: the repeats so far, and the steps of the poll under way."""

    __slots__ = ("held", "last", "repeats")

    def __init__(self) -> None:
        self.repeats = 0
        self.last: Printable | None = None
        self.held: list[Printable] = []

    def add(self, record: Printable, *, repeats: bool) -> None:
        if repeats:
            self.repeats += 1
            self.last = record
            self.held.clear()
        else:
            self.held.append(record)

    @property
    def counted(self) -> str:
        return f", unchanged x{self.repeats}" if self.repeats > 1 else ""


class Collapsing:
    """Renders records for a terminal, where a poll that brings no news is shown in the last row, and replaced there.

    When there is news of its job, or at the `rest`, what remains of such polls is one line: the last of them, and how
    many there were. A poll that brings news leaves all its lines. While *columns* returns 0, nothing collapses: a row
    that a terminal wraps could not be replaced.
    """

    def __init__(self, line: PrettyLine, plain: PrettyLine, *, columns: Callable[[], int]) -> None:
        """*line* renders the lines that stay, and *plain*, without colours, the last row."""
        self._line = line
        self._plain = plain
        self._columns = columns
        self._runs: dict[str, _Run] = {}
        self._shown = False

    def __call__(self, record: Printable) -> list[bytes]:
        """What to write for *record*, each a line, or the last row without a line end."""
        columns = self._columns()
        if not columns:
            return [*self.rest(), self._line(record)]
        job, event = record.job, record.event
        run = self._runs.get(job)
        repeats = event.type == "progress" and event.level == "debug"
        if not repeats and (event.type not in _STEPS or (run is not None and len(run.held) == HELD)):
            return self._kept([*self._lines(self._runs.pop(job, None)), self._line(record)])
        given_way: list[bytes] = []
        if run is None:
            given_way = self._make_room()
            run = self._runs[job] = _Run()
        run.add(record, repeats=repeats)
        self._shown = True
        return [*given_way, CLEARED + self._plain.row(record, run.counted if repeats else "", columns - 1)]

    def rest(self) -> list[bytes]:
        """The lines of all polls that have left none so far; nothing is counted any more."""
        runs, self._runs = self._runs, {}
        return self._kept([line for run in runs.values() for line in self._lines(run)])

    def lost(self, missed: int) -> bytes:
        """A line in the place of *missed* lines; called on the thread that writes."""
        return CLEARED + lost_in_words(missed)

    def _make_room(self) -> list[bytes]:
        if len(self._runs) < JOBS:
            return []
        return self._kept(list(self._lines(self._runs.pop(next(iter(self._runs))))))

    def _lines(self, run: _Run | None) -> Iterator[bytes]:
        if run is not None:
            if run.last is not None:
                yield self._line(run.last, run.counted)
            yield from map(self._line, run.held)

    def _kept(self, lines: list[bytes]) -> list[bytes]:
        """*lines*, the first of them in the place of the last row."""
        if self._shown:
            lines = [CLEARED + lines[0], *lines[1:]] if lines else [CLEARED]
            self._shown = False
        return lines


def columns_of(out: TextIO | None) -> int:
    """The width of the terminal that *out* is; 0 where it is none, or does not say."""
    try:
        return os.get_terminal_size(out.fileno()).columns if out is not None else 0
    except (AttributeError, OSError, ValueError):
        return 0
