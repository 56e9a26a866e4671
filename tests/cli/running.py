"""`relay` as users run it: a process of its own, watched by what it says."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from relay.cli.loops import VARIABLE
from tests.cli import warm

__all__ = ["Running", "relay"]

SCRIPT = Path(sys.executable).parent / "relay"
PATIENCE = 60
"""A safety net: nothing here waits for time to pass."""


class Running:
    """A process. Its standard error is read line by line; its standard output, which may be long, is a file."""

    def __init__(self, process: subprocess.Popen[str] | warm.Command, out: Path | None) -> None:
        self.said: list[str] = []
        self._process = process
        self._out = out

    @property
    def pid(self) -> int:
        return self._process.pid

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line of standard error that *pattern* is found in."""
        for line in _pipe(self._process.stderr):
            self.said.append(line.rstrip("\n"))
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"it ended without saying {pattern!r}: {self.said}")

    def prints(self) -> str:
        """Wait for a line of standard output, where that is a pipe."""
        return _pipe(self._process.stdout).readline()

    def stop_reading(self) -> None:
        """Close the other end of its standard output, where that is a pipe."""
        _pipe(self._process.stdout).close()

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """What Ctrl-C sends."""
        self._process.send_signal(number)

    def ends(self) -> int:
        """Wait for the end; the exit status."""
        self.said += [line.rstrip("\n") for line in _pipe(self._process.stderr)]
        return self._process.wait(PATIENCE)

    @property
    def printed(self) -> list[str]:
        """The lines of standard output so far."""
        if self._out is None:
            return _pipe(self._process.stdout).read().splitlines()
        return self._out.read_text().splitlines()


@contextmanager
def relay(
    *arguments: str, folder: Path, piped: bool = False, under: Sequence[str] = (), **environ: str
) -> Generator[Running]:
    """Run `relay` with *arguments* in *folder*, and see that it is gone afterwards; by the command *under*, if any.

    Its console prints every record, unless *environ* says another level.
    """
    kept = {name: value for name, value in os.environ.items() if name == VARIABLE or not name.startswith("RELAY_")}
    out = folder / f"{arguments[0]}.out"
    with (
        out.open("wb") as file,
        _started(
            [*under, str(SCRIPT), *arguments],
            folder=folder,
            environ={**kept, "RELAY_LOG_LEVEL": "debug", **environ},
            stdout=subprocess.PIPE if piped else file.fileno(),
        ) as process,
    ):
        try:
            yield Running(process, None if piped else out)
        finally:
            process.kill()


def _started(
    command: Sequence[str], *, folder: Path, environ: dict[str, str], stdout: int
) -> subprocess.Popen[str] | warm.Command:
    if command[0] == str(SCRIPT):
        return warm.start(command[1:], folder=folder, environ=environ, stdout=stdout, stderr=subprocess.PIPE)
    return subprocess.Popen(command, cwd=folder, env=environ, stdout=stdout, stderr=subprocess.PIPE, text=True)


def _pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None
    return end
