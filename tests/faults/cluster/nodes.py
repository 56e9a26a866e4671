"""The nodes of a soak: started, killed, stopped where they stand, and set to another time of day."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from relay.cli.loops import VARIABLE
from relay.clock import SystemClock
from tests.faults.cluster.history import Call, Draft
from tests.faults.cluster.node import Answered, Called, Command, NodeLine, Start, Started, Unknown
from tests.faults.process import ROOT, free_port

__all__ = ["Forker", "Node"]

LOOK: Final = 0.02
"""Seconds between two looks at what a node that starts has printed."""


class Forker:
    """The process that forks nodes. Entered, it runs."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.cluster.node"),
            env=kept | {"PYTHONPATH": str(ROOT), VARIABLE: "asyncio"},
            stdin=PIPE,
            stdout=PIPE,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def command(self, command: Command) -> int:
        """Have it obeyed, and return the number that comes back."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn:
            self._process.stdin.write(msgspec.json.encode(command) + b"\n")
            return int(await self._process.stdout.readline())


class Node:
    """A place for a node: its folder, its port and its way to the engine stay, its process comes and goes.

    *names* has the name of each of its processes among the nodes, in turn.
    """

    def __init__(self, forker: Forker, folder: Path, slot: str, toml: str, *, mutants: tuple[str, ...] = ()) -> None:
        self.slot = slot
        self.port = free_port()
        self.starts = 0
        self._forker = forker
        self._folder = folder / slot
        self._folder.mkdir()
        (self._folder / "relay.toml").write_text(toml)
        (self._folder / "clock").write_text("0")
        self._mutants = mutants
        self._pid = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        return self._pid != 0

    @property
    def name(self) -> str:
        """The name of its newest process among the nodes; "" if it has none yet."""
        log = self._log(self.starts)
        if not log.exists():
            return ""
        with log.open("rb") as lines:
            line = lines.readline()
        return msgspec.json.decode(line, type=Started).node if line.endswith(b"\n") else ""

    async def start(self) -> None:
        """Return when it serves, or has ended by itself."""
        self.starts += 1
        errors = self._folder / f"errors-{self.starts}"
        errors.touch()
        start = Start(
            folder=str(self._folder),
            port=self.port,
            log=str(self._log(self.starts)),
            errors=str(errors),
            clock=str(self._folder / "clock"),
            mutants=self._mutants,
        )
        self._pid = await self._forker.command(Command(start=start))
        while "serving on" not in errors.read_text():
            if _is_over(self._pid):
                await self._reap()
                return
            await SystemClock().sleep(LOOK)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._pid:
            os.kill(self._pid, number)

    async def kill(self) -> None:
        """`kill -9`, and the end."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            await self._reap()

    async def leave(self) -> None:
        """Ctrl-C, and the end in order."""
        if self._pid:
            os.kill(self._pid, signal.SIGCONT)
            os.kill(self._pid, signal.SIGTERM)
            await self._reap()

    def jump(self, seconds: float) -> None:
        """Set its time of day *seconds* ahead of the true one."""
        (self._folder / "clock").write_text(str(seconds))
        self.signal(signal.SIGUSR1)

    @property
    def complaints(self) -> list[str]:
        """What all its processes have printed."""
        return [
            f"{self.slot}.{number}: {line}"
            for number in range(1, self.starts + 1)
            for line in (self._folder / f"errors-{number}").read_text().splitlines()
        ]

    def calls(self) -> Iterator[Call]:
        """Each batch that its processes have sent, once for each epoch that it was sent in."""
        for number in range(1, self.starts + 1):
            yield from _calls(self._lines(number))

    def _log(self, number: int) -> Path:
        return self._folder / f"log-{number}"

    def _lines(self, number: int) -> Iterator[NodeLine]:
        log = self._log(number)
        decoder = msgspec.json.Decoder(NodeLine)
        if log.exists():
            # A node that is killed may leave the last line unfinished.
            whole = log.read_bytes().rpartition(b"\n")[0]
            yield from map(decoder.decode, whole.splitlines())

    async def _reap(self) -> None:
        pid, self._pid = self._pid, 0
        await self._forker.command(Command(end=pid))


def _calls(lines: Iterator[NodeLine]) -> Iterator[Call]:
    node = ""
    called: Called | None = None
    unanswered = 0
    for line in lines:
        match line:
            case Started():
                node = line.node
            case Called():
                if called is not None and (called.number, called.epoch) != (line.number, line.epoch):
                    yield _call(node, called, unanswered)
                    unanswered = 0
                called = line
            case Answered():
                if called is not None:
                    yield _call(node, called, unanswered, line.refusals)
                called, unanswered = None, 0
            case Unknown():
                unanswered += 1
    if called is not None:
        yield _call(node, called, unanswered)


def _call(node: str, called: Called, unanswered: int, refusals: list[str] | None = None) -> Call:
    words = refusals or [""] * len(called.drafts)
    drafts = [Draft(job, seq, body.encode(), word) for (job, seq, body), word in zip(called.drafts, words, strict=True)]
    return Call(
        node=node,
        number=called.number,
        epoch=called.epoch,
        drafts=drafts,
        outcome="unknown" if refusals is None else "answered",
        unanswered=unanswered,
    )


def _is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
