"""Outputs to try a sink on: real pipes, real terminals, and one that takes nothing until it is told to."""

import io
import os
import pty
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import pytest

from sinks._pretty import _local_time

PATIENCE = 30.0
"""Seconds until a test that waits for an event gives up. A safety net: what is waited for comes by itself."""


class Gate(io.StringIO):
    """Stands still in its first write until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self._opened.wait(PATIENCE)
        return super().write(text)


class Pipe:
    """A real pipe: `out` to write to, and its other end."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.out: TextIO = os.fdopen(writer, "w", encoding="utf-8")

    def read_lines(self, last: str) -> list[str]:
        """The lines up to the one that ends in *last*."""
        data = b""
        while not data.endswith(f"{last}\n".encode()):
            data += os.read(self.reader, 1 << 16)
        return data.decode().splitlines()

    def stop_reading(self) -> None:
        os.close(self.reader)
        self.reader = -1


@contextmanager
def a_pipe() -> Iterator[Pipe]:
    with _ends(Pipe(*os.pipe())) as pipe:
        yield pipe


@contextmanager
def a_terminal() -> Iterator[Pipe]:
    with _ends(Pipe(*pty.openpty())) as terminal:
        yield terminal


@contextmanager
def _ends(pipe: Pipe) -> Iterator[Pipe]:
    try:
        yield pipe
    finally:
        if pipe.reader >= 0:
            os.close(pipe.reader)
        with suppress(OSError):
            pipe.out.close()


@contextmanager
def plain_environment(monkeypatch: pytest.MonkeyPatch, zone: str) -> Iterator[None]:
    """No wishes about colours, a terminal that knows them, and the time of *zone*."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        _local_time.cache_clear()  # it knows the times of the zone before
        yield
    time.tzset()
    _local_time.cache_clear()


def noted_syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each file that is synced, from now on, as it is synced."""
    synced: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return synced
