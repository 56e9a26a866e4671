"""The connection of a stream on a bare descriptor, while there is something to keep for it."""

import asyncio
import os
import select
from typing import Final

from web.streaming.connections import IGNORED_BYTES, framed, served_alone
from web.streaming.reactor import WATCHED, BareStream, Reactor
from web.streaming.sockets import acknowledged, write_now

__all__ = ["BareConnection"]

EPOLLOUT: Final = getattr(select, "EPOLLOUT", 0)
READ_AT_ONCE: Final = 64 * 1024


class BareConnection:
    """Keeps the bytes that the kernel has not accepted yet, and the task that serves the stream.

    It exists while there is one of the two, or a client that sends more than its request; see `BareStream`.
    """

    __slots__ = ("_awaited", "_closing", "_ignored", "_reactor", "_rest", "_stream", "_task")

    def __init__(self, reactor: Reactor, stream: BareStream) -> None:
        self._reactor = reactor
        self._stream = stream
        self._rest: memoryview | bytes = b""
        self._ignored = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._awaited: asyncio.Future[None] | None = None

    @property
    def chunked(self) -> bool:
        return self._stream.chunked

    @property
    def fd(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._stream.fd

    @property
    def unsent(self) -> int:
        """The number of bytes that the kernel has not accepted yet."""
        return len(self._rest)

    def write(self, data: bytes, /) -> None:
        if self._rest:
            self._rest = bytes(self._rest) + data
            return
        if (accepted := write_now(self._stream.fd, data)) != len(data):
            self.keep(memoryview(data)[accepted:])

    def keep(self, rest: memoryview | bytes) -> None:
        """Write *rest* before anything else, once the kernel accepts more, and mark the stream as slow."""
        self._rest = rest
        self._stream.slow = True
        self._reactor.watch(self._stream.fd, WATCHED | EPOLLOUT)

    async def send(self, data: bytes) -> None:
        self._check_open()
        self.write(framed(data, chunked=self.chunked))
        await self.drained()

    async def drained(self) -> None:
        self._check_open()
        if self._rest:
            await self._reactor.waits.while_reading(self._accepted, self._read_so_far)

    async def _accepted(self) -> None:
        """Return once the kernel has accepted the rest."""
        if not self._rest:
            return
        self._awaited = asyncio.get_running_loop().create_future()
        try:
            await self._awaited
        finally:
            self._awaited = None

    def _read_so_far(self) -> tuple[int, int]:
        return len(self._rest), acknowledged(self._stream.fd)

    def wake(self) -> None:
        if self._task is None and not self._closing and self._stream.fd >= 0:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def finish(self, data: bytes = b"") -> bool:
        stream = self._stream
        if self._task is not None or self._closing or stream.slow or stream.fd < 0:
            return False
        try:
            self.write(framed(data, chunked=self.chunked, last=True))
        except ConnectionError:
            self._rest = b""
        if self._rest:
            stream.end()
            self._task = asyncio.get_running_loop().create_task(self._write_out())
        else:
            self._end()
        return True

    def cut(self) -> None:
        """Abort the connection; the bytes that the kernel has not accepted are lost."""
        if self._task is None:
            return self._end()
        self._reactor.release(self._stream)
        self._task.add_done_callback(lambda _: self._end())
        self._task.cancel()
        return None

    def happened(self, events: int) -> None:
        """Called with the *events* that the epoll reports of the descriptor."""
        if self._rest and not self._write_rest():
            return self.cut()
        if events & ~EPOLLOUT:
            sent = self._received()
            if sent is None or self._ignored > IGNORED_BYTES:
                return self.cut()
            if not sent and not self._rest:
                return self.cut()
            if not sent:
                self._close_once_written()
        return self._forget_if_idle()

    def _write_rest(self) -> bool:
        """Write as much of the rest as the kernel accepts. Returns False if the connection is over."""
        try:
            self._rest = self._rest[os.write(self._stream.fd, self._rest) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        if self._rest:
            return True
        if self._closing:
            return False
        self._rest = b""
        self._reactor.watch(self._stream.fd, WATCHED)
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)
        return True

    def _received(self) -> bytes | None:
        """Bytes that the client has sent, which are ignored; none at their end. None if the connection is lost."""
        try:
            data = os.read(self._stream.fd, READ_AT_ONCE)
        except BlockingIOError:
            return b"?"
        except OSError:
            return None
        self._ignored += len(data)
        return data

    def _close_once_written(self) -> None:
        """As a transport does when its client sends nothing more: it may still read the bytes that are on their way."""
        self._closing = True
        self._reactor.watch(self._stream.fd, EPOLLOUT)

    def _end(self) -> None:
        self._reactor.release(self._stream)
        self._stream.end()

    def _check_open(self) -> None:
        if self._closing or self._stream.fd < 0:
            raise ConnectionError("the client has left")

    def _forget_if_idle(self) -> None:
        if not self._rest and self._task is None and not self._ignored:
            self._stream.forget_connection()

    async def _write_out(self) -> None:
        """Close a stream that has ended once the kernel has accepted the rest, or the client reads nothing."""
        try:
            await self.drained()
        except ConnectionError:
            pass
        finally:
            self._task = None
            self._end()

    async def _serve(self) -> None:
        stream, over = self._stream, True
        try:
            with served_alone(self._reactor.failures):
                over = await stream.serve()
                if over:
                    self.write(framed(b"", chunked=self.chunked, last=True))
                    await self.drained()
        finally:
            self._task = None
            if over:
                self._end()
            else:
                self._forget_if_idle()
