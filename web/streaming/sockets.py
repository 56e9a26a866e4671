"""What the kernel is told about the connection of a stream."""

import asyncio
import socket
from typing import Final

__all__ = ["tune"]

UNACKNOWLEDGED_MS: Final = 12_000
"""How long what was sent may stay unacknowledged: with a heartbeat every 15 s, a dead peer is found within 27 s."""

UNSENT_BYTES: Final = 16_384
"""How much may wait unsent in the kernel. Measured on loopback: without it a stalled client hides 2.8 MB of events
there, with it 20 KB, at no cost in CPU."""

# Linux has both; elsewhere a dead peer is found when the kernel's own time is over.
_OPTIONS: Final = tuple(
    (getattr(socket, name), value)
    for name, value in (("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS), ("TCP_NOTSENT_LOWAT", UNSENT_BYTES))
    if hasattr(socket, name)
)


def tune(transport: asyncio.Transport) -> None:
    """Let the kernel notice a peer that is gone, and let us notice one that does not read."""
    # Then "drained" means that the kernel has taken everything, and anything less is a client to wait for. TLS counts
    # otherwise: its transport is full at the limit, so that with 0 it is never anything else.
    tls = transport.get_extra_info("sslcontext") is not None
    transport.set_write_buffer_limits(high=1 if tls else 0, low=0)
    sock = transport.get_extra_info("socket")
    # The address of a Unix socket is no tuple. To ask the socket for its family costs as much as one of the options.
    if sock is not None and isinstance(transport.get_extra_info("peername"), tuple):
        for option, value in _OPTIONS:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
