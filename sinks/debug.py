"""For finding out what an upstream really said: every record, and every raw exchange with it."""

import asyncio
import json
import sys
from types import TracebackType
from typing import Self, TextIO

import msgspec

from relay.events import Exchange, Record
from sinks._writer import CLOSE_TIMEOUT, LineWriter

__all__ = ["DebugSink"]


class DebugSink:
    """Prints records and raw exchanges as JSON lines, in the order in which they happen.

    A record is printed as it is on the wire. An exchange has the `type` `exchange`, no seq, and its secrets masked by
    the adapter. *out* is standard error by default; it is never waited for, and lines it does not take in time are lost
    and counted as on the console. `async with` it, or close it: that writes what is left, within two seconds.
    """

    def __init__(self, out: TextIO | None = None, *, capacity: int = 10_000) -> None:
        self._writer = LineWriter(out if out is not None else sys.stderr, capacity)

    def __call__(self, record: Record) -> None:
        self._writer.write(record.json + b"\n")

    def exchange(self, exchange: Exchange) -> None:
        """Print one raw request and its answer."""
        # The standard library's JSON is ASCII, and takes the lone surrogates that a raw answer may hold.
        line = json.dumps(msgspec.to_builtins(exchange), separators=(",", ":"))
        self._writer.write(line.encode("ascii") + b"\n")

    @property
    def missed(self) -> int:
        """How many lines were lost so far because the output stood still."""
        return self._writer.missed

    def close(self) -> None:
        """Write what is left, as far as the output takes it within two seconds. Meanwhile the caller waits."""
        self._writer.close(CLOSE_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)
