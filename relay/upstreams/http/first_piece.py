"""Waits for the first piece of an answer in place of aiohttp's protocol, which has the connection before and after."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from aiohttp.client_proto import ResponseHandler

from relay.upstreams.http.whole_answer import WholeAnswer, whole_answer

__all__ = ["FirstPiece", "FirstPieces", "first_pieces"]

PIECE: Final = 256 * 1024
"""The most bytes that are read at once, as in asyncio."""


class FirstPiece(asyncio.Protocol):
    """The protocol of a connection from a request to the first piece of its answer.

    If that piece is a whole answer, `answer` is it. Whatever else comes is handed to aiohttp's protocol as it came, and
    `answer` is None: a piece of an answer, the end of the connection, an error of it.
    """

    __slots__ = ("_handler", "_limit", "_transport", "answer")

    def __init__(self, handler: ResponseHandler, transport: asyncio.Transport, limit: int) -> None:
        """*limit* is the most bytes of the body of a whole answer."""
        self.answer: asyncio.Future[WholeAnswer | None] = asyncio.get_running_loop().create_future()
        self._handler = handler
        self._transport = transport
        self._limit = limit
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if (answer := whole_answer(data, self._limit)) is not None and not self.answer.done():
            self._transport.set_protocol(self._handler)
            self.answer.set_result(answer)
        else:
            self._hand_over()
            self._handler.data_received(data)

    def eof_received(self) -> None:
        self._hand_over()
        self._handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hand_over()
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def _hand_over(self) -> None:
        self._transport.set_protocol(self._handler)
        if not self.answer.done():
            self._handler.set_response_params(read_until_eof=True)
            self.answer.set_result(None)


class _Buffered(FirstPiece, asyncio.BufferedProtocol):
    """A `FirstPiece` that is read into *room*, which all of them may share: nothing stays there."""

    __slots__ = ("_room",)

    def __init__(self, room: memoryview, handler: ResponseHandler, transport: asyncio.Transport, limit: int) -> None:
        self._room = room
        super().__init__(handler, transport, limit)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._room[:nbytes]))


FirstPieces: TypeAlias = Callable[[ResponseHandler, asyncio.Transport, int], FirstPiece]


def first_pieces() -> FirstPieces:
    """Makes a `FirstPiece` for each request, on the loop that is running now.

    To read an answer of some hundred bytes, asyncio allocates PIECE bytes and gives nearly all of them back: three
    system calls, and a page for the kernel to clear. Here it reads into one buffer. Other loops have one already.
    """
    if isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        return partial(_Buffered, memoryview(bytearray(PIECE)))
    return FirstPiece
