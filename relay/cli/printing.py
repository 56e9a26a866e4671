"""Printing at the reader's pace: a terminal that stands still, a pipe whose reader has gone."""

import asyncio
import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

from sinks import ConsoleSink

__all__ = ["WAITING", "noticing_the_reader", "taken"]

WAITING: Final = 5_000
"""How many lines may wait for the output: the console would lose the oldest of 10,000, but a replay can wait."""


async def taken(console: ConsoleSink, most: int, stop: asyncio.Event) -> None:
    """Return when no more than *most* lines wait for the output, or when it is to stop."""
    while console.waiting > most and not stop.is_set():  # noqa: ASYNC110 - its thread does not report how far it is
        await asyncio.sleep(0.01)


@contextmanager
def noticing_the_reader(stop: asyncio.Event) -> Generator[asyncio.Event]:
    """An event that is set, and *stop* with it, when nobody reads standard output any more, as in `... | head`.

    SIGPIPE would end the process for a connection that breaks as well. The write end of a pipe becomes readable when
    its other end is closed, which asyncio's own pipe transports rely on.
    """
    loop, left = asyncio.get_running_loop(), asyncio.Event()
    out = _pipe()

    def leave() -> None:
        left.set()
        stop.set()
        if out is not None:
            loop.remove_reader(out)

    if out is not None:
        with suppress(NotImplementedError):
            loop.add_reader(out, leave)
    try:
        yield left
    finally:
        if out is not None:
            with suppress(NotImplementedError):
                loop.remove_reader(out)


def _pipe() -> int | None:
    """The descriptor of standard output, where that is a pipe."""
    try:
        out = sys.stdout.fileno()
        return out if stat.S_ISFIFO(os.fstat(out).st_mode) else None
    except (AttributeError, OSError, ValueError):
        return None
