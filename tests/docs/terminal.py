"""A terminal for the documentation's console blocks: commands are really run, and their output is compared."""

import os
import pty
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

__all__ = ["Terminal", "matches"]

SAFETY: Final = 60.0

TAIL: Final = 2_000
"""Seconds after which a command that has not printed what it should is given up. No test that passes waits for this."""

PORTS: Final = ("8080", "9090")
"""The ports of the documentation; what runs here uses free ones instead."""

# What differs from one run to the next, and by what it is replaced before two outputs are compared.
_VARIABLE: Final = (
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "(time)"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|\+00:00)"), "(date)"),
    (re.compile(r"\bjob_[0-9a-f]{4,16}\b"), "(job)"),
    (re.compile(r"\b(task|gen)_01[0-9a-z]{6,24}\b"), r"(\1)"),
    (re.compile(r"\b[0-9a-f]{8}-(\d+)"), r"(epoch)-\1"),
    (re.compile(r"answered in [0-9.]+ s"), "answered in (seconds)"),
    (re.compile(r'"seconds":[0-9.]+'), '"seconds":(seconds)'),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)

_IDS: Final = re.compile(r"\bjob_[0-9a-f]{4,16}\b|\b[0-9a-f]{8}(?=-\d)")
"""Ids and epochs, which a later command may name."""


def matches(want: str, got: str) -> bool:
    """Whether *got* is *want*: ids and times aside, and with `...` for anything, also over several lines."""
    pieces = [re.escape(piece) for piece in _constant(want).split("...")]
    return re.fullmatch(".*".join(pieces), _constant(got), re.DOTALL) is not None


def _constant(text: str) -> str:
    for pattern, name in _VARIABLE:
        text = pattern.sub(name, text)
    return text.strip()


class Terminal:
    """Runs commands in *folder*. One whose output is to end in a line `...` may go on until the terminal is closed.

    An id that the documentation has shown stands, in a later command, for the one that came in its place.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[tuple[subprocess.Popen[bytes], int]] = []
        self._known: dict[str, str] = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))

    def rewritten(self, text: str) -> str:
        """*text* with free ports and real ids in place of the documentation's."""
        return re.sub(r"\b(?:" + "|".join(self._known) + r")\b", lambda match: self._known[match[0]], text)

    def run(self, command: str, want: str) -> None:
        """Run *command* as a shell would, and see that its output is *want*; without one, that its exit status is 0.

        Raises AssertionError with what it has printed if it is not.
        """
        program = command.split()[0]
        if shutil.which(program, path=_path()) is None:
            pytest.skip(f"{program} is not installed")
        want = self.rewritten(want).rstrip()
        goes_on = want.endswith("\n...")
        if goes_on:
            want = want.removesuffix("\n...") + "..."
        process, screen = self._start(self.rewritten(command))
        until = time.monotonic() + SAFETY
        got = ""
        while not (goes_on and matches(want, got)):
            ready, _, _ = select.select([screen], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise AssertionError(f"{command!r} goes on; it has printed:\n{got[-TAIL:]}\ninstead of:\n{want}")
            chunk = _read(screen)
            if not chunk:
                status = process.wait(timeout=SAFETY)
                good = matches(want, got) if want else status == 0
                assert good, f"{command!r} ended with {status}; it has printed:\n{got[-TAIL:]}\ninstead of:\n{want}"
                break
            got += chunk.decode("utf-8", "replace").replace("\r\n", "\n")
        # The order of first appearance tells which is which.
        self._known.update(zip(dict.fromkeys(_IDS.findall(want)), dict.fromkeys(_IDS.findall(got)), strict=False))

    def close(self) -> None:
        """End what still runs."""
        for process, _ in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process, screen in self._running:
            os.close(screen)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _start(self, command: str) -> tuple[subprocess.Popen[bytes], int]:
        """Start *command* on a pseudo-terminal, since that is where a reader runs it."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=self._folder,
            env={
                **os.environ,
                "PATH": _path(),
                "NO_COLOR": "1",
                "COLUMNS": "200",
                "RELAY_SERVER_PORT": self._known[PORTS[0]],
            },
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._running.append((process, ours))
        return process, ours


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"


def _free_ports(count: int) -> list[str]:
    """Ports that are free now, and that no outgoing connection is given later: those come from 32,768 up."""
    free: list[str] = []
    while len(free) < count:
        port = random.randrange(20_000, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            free.append(str(port))
    return free
