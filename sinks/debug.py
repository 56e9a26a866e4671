"""Shows the raw responses of an upstream: prints every record, and every raw exchange."""

import json
import sys
from types import TracebackType
from typing import Annotated, ClassVar, Self, TextIO

import msgspec
from msgspec import Meta, Struct

from relay.events import LEVELS, Exchange, Level, Record
from sinks._writer import CLOSE_TIMEOUT, LineWriter, notices

__all__ = ["DebugSettings", "DebugSink"]


class DebugSettings(Struct, frozen=True, kw_only=True):
    """Records and raw exchanges, for debugging."""

    kind: ClassVar[str] = "debug"

    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "debug"


class DebugSink:
    """Prints records and raw exchanges as JSON lines, in the order in which they happen.

    A record is printed as it is on the wire. An exchange has the `type` `exchange`, no seq, and its secrets redacted
    by the adapter. *out* is standard error by default; the sink never waits for it, and lines that it does not accept
    in time are lost and counted as on the console. `async with` it, or close it: the remaining lines are written then,
    within two seconds.
    """

    settings: ClassVar[type[DebugSettings]] = DebugSettings

    @classmethod
    def from_settings(cls, _settings: DebugSettings) -> Self:
        """The sink of one table of [[sinks]], on standard error."""
        return cls()

    def __init__(self, out: TextIO | None = None, *, capacity: int = 10_000) -> None:
        self._writer = LineWriter(
            out if out is not None else sys.stderr, capacity, troubled=notices("the debug sink's output", watched=False)
        )

    def __call__(self, record: Record) -> None:
        self._writer.write(record.json + b"\n")

    def exchange(self, exchange: Exchange) -> None:
        """Print one raw request and its response."""
        # The standard library's JSON is ASCII, and accepts the lone surrogates that a raw response may hold.
        line = json.dumps(msgspec.to_builtins(exchange), separators=(",", ":"))
        self._writer.write(line.encode("ascii") + b"\n")

    @property
    def missed(self) -> int:
        """The number of lines lost so far because the output stood still or could not be written."""
        return self._writer.missed

    def close(self) -> None:
        """Write the remaining lines, as far as the output accepts them, for up to two seconds; blocks the caller."""
        self._writer.close(CLOSE_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._writer.aclose()
