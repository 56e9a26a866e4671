"""How many bytes were written to a connection, and have not reached its client."""

import sys
from asyncio import Transport
from struct import Struct
from typing import Final

__all__ = ["unread"]

_INT: Final = Struct("i")


def unread(connection: Transport) -> int:
    """Bytes that wait for the client of *connection*: 0 once it has received everything.

    A transport of TLS has up to 64 KB below it, of which it says nothing. The kernel has some of them meanwhile, and
    these count. On other connections it delivers what it has, whatever becomes of the transport.
    """
    size = connection.get_write_buffer_size()
    if size or connection.get_extra_info("sslcontext") is None:
        return size
    sock = connection.get_extra_info("socket")
    return 0 if sock is None else _in_the_kernel(sock.fileno())


def _in_the_kernel(fd: int) -> int:
    if sys.platform == "win32" or fd < 0:
        return 0
    import fcntl
    import termios

    try:
        return int(_INT.unpack(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(_INT.size)))[0])
    except OSError:  # it was closed
        return 0
