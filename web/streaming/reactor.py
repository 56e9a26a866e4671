"""Streams on bare descriptors: one epoll for all of them, which the event loop watches.

An event loop keeps a transport, a socket and buffers for each connection, 1.3 KB, and a stream that is up to date needs
none of them: its records are written with `os.write`, and the epoll reports that a client has left, or can accept more.
"""

import asyncio
import os
import select
from typing import Final, Protocol

from relay.notices import apart
from web.request_failures import RequestFailures
from web.streaming.connections import ServedStream
from web.streaming.patience import ClientWaits

__all__ = ["WATCHED", "BareStream", "Reactor"]

EVENTS: Final = 256
"""How many events are handled in one turn of the loop; the others wait for the next one."""

WATCHED: Final = getattr(select, "EPOLLIN", 0)
"""The event of a connection whose client has sent something, or has left. Errors are always reported."""


class BareStream(ServedStream, Protocol):
    """A stream on a bare descriptor. It has a `BareConnection` only while there is something to keep for it."""

    fd: int
    """The descriptor; -1 without one."""

    chunked: bool

    def leave_group(self) -> None:
        """Nothing may be written any more together with other streams. Idempotent."""

    def cut(self) -> None:
        """Abort the connection."""

    def happened(self, events: int) -> None:
        """Called with the *events* that the epoll reports of the descriptor."""

    def forget_connection(self) -> None:
        """There is nothing to keep any more."""


class Reactor:
    """The bare descriptors of one application's streams. They are closed here, and nowhere else.

    No event of a closed descriptor reaches the stream that has its number next: a descriptor leaves the epoll before it
    is closed, and the events of one turn are assigned to streams before any of them is handled.
    """

    def __init__(self, failures: RequestFailures, waits: ClientWaits) -> None:
        self.failures = failures
        self.waits = waits
        self._streams: list[BareStream | None] = []  # by descriptor: these are small numbers, with few holes
        self._count = 0
        self._epoll: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = not hasattr(select, "epoll")

    def __len__(self) -> int:
        """The number of open descriptors, also of streams that have ended and have bytes left to write."""
        return self._count

    def adopt(self, fd: int, stream: BareStream) -> bool:
        """Watch *fd* for *stream*, and own it from now on. It has to be non-blocking.

        Returns False where that is not possible: without epoll, on a loop that watches no descriptors, and after
        `close`. The descriptor remains the caller's then.
        """
        epoll = self._epoll or self._open()
        if epoll is None:
            return False
        try:
            epoll.register(fd, WATCHED)
        except OSError:
            return False
        if fd >= len(self._streams):
            self._streams.extend([None] * (fd + 1 - len(self._streams)))
        self._streams[fd] = stream
        self._count += 1
        stream.fd = fd
        return True

    def is_ready(self) -> bool:
        """Whether descriptors can be adopted on the running event loop. The one that this needs is open then."""
        return (self._epoll or self._open()) is not None

    def watch(self, fd: int, events: int) -> None:
        """Report these *events* of the descriptor *fd* from now on."""
        if self._epoll is not None:
            self._epoll.modify(fd, events)

    def release(self, stream: BareStream) -> None:
        """Close the descriptor of *stream*, which leaves its group before that. Idempotent."""
        stream.leave_group()
        stream.forget_connection()
        fd, stream.fd = stream.fd, -1
        if fd < 0:
            return
        self._streams[fd] = None
        self._count -= 1
        if self._epoll is not None:
            # Closing is not enough: the connection may be open elsewhere, and would be reported under a number that
            # belongs to another stream by then.
            self._epoll.unregister(fd)
        os.close(fd)

    def close(self) -> None:
        """Close all descriptors that are left, with whatever was still to be written, and watch no more. Idempotent."""
        self._closed = True
        for stream in [stream for stream in self._streams if stream is not None]:
            apart(stream.cut, "the end of a stream")
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(epoll.fileno())
            epoll.close()

    def _open(self) -> "select.epoll | None":
        if self._closed:
            return None
        loop = asyncio.get_running_loop()
        try:
            epoll = select.epoll()
        except OSError:  # out of descriptors
            return None
        try:
            loop.add_reader(epoll.fileno(), self._dispatch)
        except NotImplementedError:
            epoll.close()
            self._closed = True
            return None
        self._loop, self._epoll = loop, epoll
        return epoll

    def _dispatch(self) -> None:
        epoll = self._epoll
        if epoll is None:
            return
        found = [(self._streams[fd], fd, events) for fd, events in epoll.poll(0, EVENTS)]
        for stream, fd, events in found:
            if stream is None or stream.fd != fd:
                continue
            try:
                stream.happened(events)
            except Exception as error:
                self.failures.failed("a stream's connection failed", error)
                stream.cut()
