"""Accepts connections in bulk, and offers each to the short way before aiohttp has to make anything for it."""

import asyncio
import errno
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from web.peeked_request import HEAD_LIMIT
from web.request_failures import RequestFailures

__all__ = ["BulkAccept", "can_peek"]

AT_ONCE: Final = 128
"""How many connections are accepted in one turn of the loop."""

SLICE: Final = 0.002
"""Seconds of one turn of the loop in which streams are opened; the connections that are left wait for the next one."""

MOST_WAITING: Final = 1_024
"""How many connections may wait here for the head of their request; further ones wait with aiohttp."""

HEAD_WITHIN: Final = 1.0
"""Seconds after which a connection without a request is left to aiohttp, whose idle timeout begins then."""

AGAIN_AFTER: Final = 1.0
"""Seconds until connections are accepted again after there was no descriptor left for one, as with asyncio."""

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Open = Callable[[bytes, socket.socket, Any], bool]
"""Opens the stream that the peeked bytes request, on the socket of the client with that address, and owns it then.

Returns False, and has read nothing, if it does not.
"""


def can_peek(listener: socket.socket) -> bool:
    """Whether connections of *listener* can be looked at here."""
    families = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None))
    return hasattr(select, "epoll") and listener.family in families


class _Waiting(NamedTuple):
    sock: socket.socket
    peername: Any
    until: float


class BulkAccept:
    """Accepts the connections of *listener*, and has *opens* called with the first bytes of each.

    Each that is not opened there becomes a *connection* of the event loop, with all its bytes.
    """

    def __init__(
        self,
        listener: socket.socket,
        opens: Open,
        connection: Callable[[], asyncio.Protocol],
        failures: RequestFailures,
    ) -> None:
        self._listener = listener
        self._opens = opens
        self._connection = connection
        self._failures = failures
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, _Waiting] = {}
        self._handed_over: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._epoll = select.epoll()
        listener.setblocking(False)

    def __len__(self) -> int:
        """The number of connections whose request is waited for here."""
        return len(self._waiting)

    def start(self) -> None:
        """Accept from now on. Raises NotImplementedError on an event loop that watches no descriptors."""
        self._loop.add_reader(self._epoll.fileno(), self._look_at_waiting)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    async def close(self) -> None:
        """Accept no more, and close what waits here. The listener is closed as well."""
        self._loop.remove_reader(self._listener.fileno())
        self._loop.remove_reader(self._epoll.fileno())
        for timer in (self._timer, self._again):
            if timer is not None:
                timer.cancel()
        self._listener.close()
        for one in self._waiting.values():
            one.sock.close()
        self._waiting.clear()
        self._epoll.close()
        if self._handed_over:
            await asyncio.wait(self._handed_over)

    def _accept(self) -> None:
        ends = time.monotonic() + SLICE
        for _ in range(AT_ONCE):
            try:
                sock, peername = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                return self._pause(error)
            sock.setblocking(False)
            if not self._look(sock, peername):
                self._wait(sock, peername)
            if time.monotonic() >= ends:
                return

    def _look_at_waiting(self) -> None:
        ends = time.monotonic() + SLICE
        for fd, _ in self._epoll.poll(0, AT_ONCE):
            if (one := self._stop_waiting(fd)) is not None and not self._look(one.sock, one.peername):
                self._hand_over(one.sock)
            if time.monotonic() >= ends:
                return

    def _look(self, sock: socket.socket, peername: Any) -> bool:
        """Decide about the connection by its first bytes. Returns False if there are none yet."""
        try:
            data = sock.recv(HEAD_LIMIT, socket.MSG_PEEK)
            if not data:
                sock.close()
                return True
            if self._opens(data, sock, peername):
                return True
        except BlockingIOError:
            return False
        except OSError:
            sock.close()
            return True
        except Exception as error:
            self._failures.failed("a connection could not be accepted", error)
            sock.close()
            return True
        self._hand_over(sock)
        return True

    def _wait(self, sock: socket.socket, peername: Any) -> None:
        if len(self._waiting) >= MOST_WAITING or not self._watch(sock):
            self._hand_over(sock)
            return
        self._waiting[sock.fileno()] = _Waiting(sock, peername, self._loop.time() + HEAD_WITHIN)
        if self._timer is None:
            self._timer = self._loop.call_later(HEAD_WITHIN, self._stop_waiting_long)

    def _watch(self, sock: socket.socket) -> bool:
        try:
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        except OSError:  # the user watches as many descriptors as the system lets him
            return False
        return True

    def _stop_waiting(self, fd: int) -> _Waiting | None:
        one = self._waiting.pop(fd, None)
        self._epoll.unregister(fd)
        return one

    def _stop_waiting_long(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting:
            fd, oldest = next(iter(self._waiting.items()))
            if oldest.until > now:
                self._timer = self._loop.call_at(oldest.until, self._stop_waiting_long)
                return
            self._stop_waiting(fd)
            self._hand_over(oldest.sock)

    def _hand_over(self, sock: socket.socket) -> None:
        """Let the event loop serve *sock*, from which nothing has been read."""
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._connection, sock))
        self._handed_over.add(task)
        task.add_done_callback(partial(self._connected, sock))

    def _connected(self, sock: socket.socket, task: asyncio.Task[Any]) -> None:
        self._handed_over.discard(task)
        if task.cancelled():
            sock.close()
        elif (error := task.exception()) is not None:
            sock.close()
            if not isinstance(error, OSError):  # the client has left
                self._failures.failed("a connection could not be accepted", error)

    def _pause(self, error: OSError) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._again = self._loop.call_later(AGAIN_AFTER, self._resume)
        if error.errno not in _EXHAUSTED:
            return self._failures.failed("a connection could not be accepted", error)
        return self._loop.call_exception_handler(
            {"message": "socket.accept() out of system resource", "exception": error, "socket": self._listener}
        )

    def _resume(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener.fileno(), self._accept)
