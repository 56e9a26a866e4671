"""Sockets of streams: their options, writes that never wait, and how much a client has read."""

import asyncio
import os
import socket
import sys
from struct import Struct
from typing import Final

__all__ = ["acknowledged", "read_so_far", "tune", "tune_socket", "write_now"]

UNACKNOWLEDGED_MS: Final = 12_000
"""How long sent data may stay unacknowledged: with a heartbeat every 15 s, a dead peer is detected within 27 s."""

UNSENT_BYTES: Final = 16_384
"""How many bytes may wait unsent in the kernel. Measured on loopback: without this option the kernel buffers 2.8 MB of
events for a stalled client, with it 20 KB, at no cost in CPU."""

# Linux has both options; elsewhere a dead peer is detected after the kernel's own timeout.
_OPTIONS: Final = tuple(
    (getattr(socket, name), value)
    for name, value in (("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS), ("TCP_NOTSENT_LOWAT", UNSENT_BYTES))
    if hasattr(socket, name)
)

_ACKNOWLEDGED: Final = Struct("120xQ")
"""[spec] linux/tcp.h: `tcpi_bytes_acked` in the `tcp_info` of a connection, since Linux 4.1."""


def tune(transport: asyncio.Transport) -> None:
    """Let the kernel detect a dead peer, and let the relay detect a peer that does not read."""
    # "Drained" then means that the kernel has accepted all data; otherwise the relay waits for the client. A TLS
    # transport is full at its limit, so that it would always be full with a limit of 0.
    tls = transport.get_extra_info("sslcontext") is not None
    transport.set_write_buffer_limits(high=1 if tls else 0, low=0)
    sock = transport.get_extra_info("socket")
    # The address of a Unix socket is no tuple. Reading the socket's family costs as much as setting an option.
    if sock is not None and isinstance(transport.get_extra_info("peername"), tuple):
        for option, value in _OPTIONS:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def tune_socket(sock: socket.socket) -> None:
    """Set on a TCP socket what `tune` sets, and what event loops and aiohttp set on theirs.

    On Linux the connections that a listening socket accepts inherit all of it.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _OPTIONS:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def write_now(fd: int, data: bytes) -> int:
    """How many bytes of *data* the kernel has accepted for the connection *fd*, without waiting.

    Raises ConnectionError if the client has left.
    """
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise ConnectionError("the client has left") from error


def read_so_far(transport: asyncio.Transport) -> tuple[int, int]:
    """Another value each time after the client of *transport* has read something, while nothing is written.

    A transport of TLS has up to 64 KB below it, of which it says nothing.
    """
    sock = transport.get_extra_info("socket")
    return transport.get_write_buffer_size(), 0 if sock is None else acknowledged(sock.fileno())


def acknowledged(fd: int) -> int:
    """How many bytes the client of the TCP connection *fd* has acknowledged; 0 where the kernel does not say."""
    if sys.platform != "linux" or fd < 0:
        return 0
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)
    except OSError:  # it was closed
        return 0
    try:
        said = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
    except OSError:  # a unix socket
        return 0
    finally:
        sock.detach()
    return int(_ACKNOWLEDGED.unpack(said)[0]) if len(said) == _ACKNOWLEDGED.size else 0
