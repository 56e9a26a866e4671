"""A relay in a process of its own, to be killed, stopped where it stands, or ended in order."""

import asyncio
import os
import re
import secrets
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.cli.loops import VARIABLE
from tests.faults.watched import HOLDS

__all__ = ["ROOT", "SCRIPT", "KilledRelay", "free_port"]

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = Path(sys.executable).parent / "relay"


class KilledRelay:
    """`relay serve` in *folder*, always on the same port; *ready* from the moment it says so until it is to die.

    With *holds*, a file, the longest times that it holds its event loop are noted there.
    """

    def __init__(self, folder: Path, environ: dict[str, str], holds: Path | None = None) -> None:
        self.ready = asyncio.Event()
        self.said: list[str] = []
        self._folder = folder
        self._port = free_port()
        kept = {name: value for name, value in os.environ.items() if name == VARIABLE or not name.startswith("RELAY_")}
        self._environ = kept | environ | ({HOLDS: str(holds), VARIABLE: "asyncio"} if holds is not None else {})
        self._command = [str(SCRIPT)] if holds is None else [sys.executable, "-m", "tests.faults.watched"]
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._dying = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def runs(self) -> bool:
        return self._process is not None

    async def start(self) -> None:
        """Return when it serves."""
        self._dying = False
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            *("serve", "--port", str(self._port)),
            cwd=self._folder,
            env=self._environ | {"PYTHONPATH": str(ROOT)},
            stdout=DEVNULL,
            stderr=PIPE,
        )
        began = len(self.said)
        self._reading = asyncio.create_task(self._read(self._process))
        await self.says("serving on", began)
        self.said = [line for line in self.said if "serving on" not in line]
        self.ready.set()

    async def says(self, pattern: str, after: int) -> None:
        """Return when a line that matches *pattern* is on its standard error, behind the first *after* lines."""
        while not any(re.search(pattern, line) for line in self.said[after:]):
            if self._reading is None or self._reading.done():
                raise AssertionError(f"it ended without saying {pattern!r}: {self.said[after:]}")
            self._news.clear()
            news = asyncio.create_task(self._news.wait())
            await asyncio.wait([news, self._reading], return_when=asyncio.FIRST_COMPLETED)
            news.cancel()

    def strike(self) -> None:
        """`kill -9`, at once. No client that loses it from now on takes it for ready."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it stands, as a machine that is suspended does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """`kill -9`, unless that was done, and wait for the end."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        return await self._end(signal.SIGINT)

    def _signal(self, number: signal.Signals) -> Process:
        assert self._process is not None
        # Once: sending a second signal to a process that has just died would take the news of it from asyncio.
        if not self._dying:
            self._dying = True
            self.ready.clear()
            self._process.send_signal(number)
        return self._process

    async def _end(self, number: signal.Signals) -> int:
        process = self._signal(number)
        assert self._reading is not None
        await self._reading
        status = await process.wait()
        self._process = None
        return status

    async def _read(self, process: Process) -> None:
        assert process.stderr is not None
        while line := (await process.stderr.readline()).decode():
            self.said.append(line.rstrip())
            self._news.set()

    async def close(self) -> None:
        """Leave no process behind, whatever went wrong."""
        if self._process is not None:
            await self.kill()


def free_port() -> int:
    """A port that no outgoing connection is given: one that reaches for a dead server there may reach itself.

    Not by the seed, so that two tests of one seed at the same time do not take each other's while it is free.
    """
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
