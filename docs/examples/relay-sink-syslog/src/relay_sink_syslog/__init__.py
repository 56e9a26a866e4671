"""Records as syslog messages."""

import socket
from typing import Annotated, ClassVar, Final, Self

from msgspec import Meta, Struct

from relay.events import LEVELS, Level, Record

__all__ = ["SyslogSettings", "SyslogSink"]

_USER: Final = 1 << 3
"""The facility of programs that are no part of the system (RFC 5424, 6.2.1)."""

_SEVERITIES: Final[dict[Level, int]] = {"debug": 7, "info": 6, "warning": 4, "error": 3}

LONGEST: Final = 2_048
"""The most bytes of a message that every receiver should accept (RFC 5424, 6.1)."""


class SyslogSettings(Struct, frozen=True, kw_only=True):
    """Records as datagrams to a syslog server."""

    kind: ClassVar[str] = "syslog"

    host: Annotated[str, Meta(min_length=1, description="an IP address")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535, description="a port number from 1 to 65535")] = 514
    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "info"


class SyslogSink:
    """Sends each record as one datagram, and never waits: one that the network does not accept at once is counted.

    UDP promises nothing, so *missed* counts only the messages that were lost on this machine.
    """

    settings: ClassVar[type[SyslogSettings]] = SyslogSettings

    @classmethod
    def from_settings(cls, settings: SyslogSettings) -> Self:
        """The sink of one table of [[sinks]]."""
        return cls(settings.host, settings.port)

    def __init__(self, host: str = "127.0.0.1", port: int = 514) -> None:
        self.missed = 0
        self._address = host, port
        self._socket: socket.socket | None = None

    def __repr__(self) -> str:
        host, port = self._address
        return f"SyslogSink({host!r}, {port})"

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __call__(self, record: Record) -> None:
        message = encode(record)
        try:
            if self._socket is None:
                raise OSError("the sink is not entered")
            self._socket.sendto(message, self._address)
        except OSError:
            self.missed += 1


def encode(record: Record) -> bytes:
    """*record* as one message, cut to LONGEST bytes: its time, its job as the process, and its text."""
    priority = _USER + _SEVERITIES[record.event.level]
    at = record.at.isoformat().replace("+00:00", "Z")
    # `event.text` is inert: it holds no control character and no line end.
    line = f"<{priority}>1 {at} - relay {record.job} {record.event.type} - {record.event.text}".encode()
    return line if len(line) <= LONGEST else line[: LONGEST - 3].decode(errors="ignore").encode() + b"..."
