"""The command `relay`, which notes in the file HOLDS the longest times that it has held its event loop while it served.

A line for each new longest: its milliseconds of CPU and of wall time, and what ran.
"""

import asyncio
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from relay.cli import main

__all__ = ["HOLDS"]

HOLDS: Final = "TEST_HOLDS"
"""The environment variable that names the file."""


def watch(file: Path) -> None:
    """Time every callback of the event loop from now on."""
    run = asyncio.Handle._run
    longest = 0.001

    def timed(self: asyncio.Handle) -> None:
        nonlocal longest
        began, wall = time.thread_time(), time.perf_counter()
        run(self)
        took = time.thread_time() - began
        if took > longest:
            longest = took
            with file.open("a") as out:
                out.write(f"{1000 * took:.1f} {1000 * (time.perf_counter() - wall):.1f} {self!r}\n")

    asyncio.Handle._run = timed  # type: ignore[method-assign]


def begin_when_serving(file: Path) -> None:
    """A relay that starts may take its time; watch it once it says that it serves."""
    command = importlib.import_module("relay.cli.serve")
    say = vars(command)["say"]

    def noticed(text: str, *args: Any) -> None:
        say(text, *args)
        if text.startswith("serving on"):
            watch(file)

    vars(command)["say"] = noticed


if __name__ == "__main__":
    begin_when_serving(Path(os.environ[HOLDS]))
    sys.exit(main())
