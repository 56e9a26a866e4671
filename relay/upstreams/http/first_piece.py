"""Waits for the first piece of an answer in place of aiohttp's protocol, which has the connection before and after."""

import asyncio

from aiohttp.client_proto import ResponseHandler

from relay.upstreams.http.whole_answer import WholeAnswer, whole_answer

__all__ = ["FirstPiece"]


class FirstPiece(asyncio.Protocol):
    """The protocol of a connection from a request to the first piece of its answer.

    If that piece is a whole answer, `answer` is it. Whatever else comes is handed to aiohttp's protocol as it came, and
    `answer` is None: a piece of an answer, the end of the connection, an error of it.
    """

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
