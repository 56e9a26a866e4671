"""One bar a job, drawn again in its place; a job that has ended leaves its line above, and makes room."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TextIO

from relay.cli import say
from relay.cli.received import ReceivedRecord
from relay.text import within_columns

__all__ = ["Bars", "bar"]

WIDTH: Final = 20
NAME_LIMIT: Final = 32
JOBS_KEPT: Final = 10_000
"""Running jobs that a bar is kept of, as many as a relay runs by default; the oldest gives way."""

NOT_DONE: Final = 99
"""The most percent of a job that has ended without a result: its bar is never full."""

EVERY: Final = 0.1
"""Seconds between two drawings, at least."""

_UP: Final = "\x1b[{}A"
_CLEAR_BELOW: Final = "\r\x1b[J"


def bar(job: str, percent: int | None, text: str) -> str:
    """One job in one line."""
    filled = "#" * (WIDTH * (percent or 0) // 100)
    shown = "" if percent is None else f"{percent}%"
    return f"{job[:NAME_LIMIT]:<20} [{filled:<{WIDTH}}] {shown:>4} {text}"


class Bars:
    """Progress bars on *out*, a terminal. Leaving it draws the bars that are still to be drawn."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._running: dict[str, tuple[int | None, str]] = {}
        self._ended: list[str] = []
        self._drawn = 0
        self._due: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw()

    async def tell(self, told: ReceivedRecord) -> None:
        """Put *record* into its job's bar, and draw that soon."""
        percent, _ = self._running.get(told.job, (None, ""))
        percent = told.percent if told.percent is not None else 100 if told.event.type == "done" else percent
        if told.terminal:
            if told.event.type != "done" and percent is not None:
                percent = min(percent, NOT_DONE)
            self._running.pop(told.job, None)
            self._ended.append(bar(told.job, percent, told.event.text))
        else:
            self._running[told.job] = (percent, told.event.text)
            if len(self._running) > JOBS_KEPT:
                del self._running[next(iter(self._running))]
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(EVERY, self._draw)

    async def remark(self, text: str) -> None:
        """Say *text* above the bars."""
        self._write(self._erased())
        say(text)
        self._draw()

    async def finish(self) -> None:
        """All is drawn on leaving."""

    def _draw(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        erased, ended, live = self._erased(), self._ended, list(self._live())
        self._ended, self._drawn = [], len(live)
        self._write(erased + "".join(f"{line}\n" for line in [*ended, *live]))

    def _live(self) -> Iterator[str]:
        """A line for each job that runs, as far as the terminal has room: one that wraps could not be drawn over."""
        columns, rows = shutil.get_terminal_size()
        fit = max(rows - 2, 1)
        for job, (percent, text) in list(self._running.items())[:fit]:
            yield within_columns(bar(job, percent, text), columns - 1)
        if (more := len(self._running) - fit) > 0:
            yield within_columns(f"and {more:,} more", columns - 1)

    def _erased(self) -> str:
        up, self._drawn = self._drawn, 0
        return (_UP.format(up) if up else "") + _CLEAR_BELOW

    def _write(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        with suppress(OSError):  # the terminal has gone, and a signal says so
            self._out.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._out.flush()
