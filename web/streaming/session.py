"""One client being served: how its connection begins, and how it leaves aiohttp."""

from collections.abc import Mapping
from contextlib import suppress

from aiohttp.web import Request, StreamResponse

from web.access.guard import GUARD
from web.app_keys import OPTIONS, RELAY
from web.streaming.connections import HandlerConnection, framed
from web.streaming.delivery import Delivery
from web.streaming.keys import REACTOR, STREAMS, WAITS
from web.streaming.sockets import tune, write_now
from web.streaming.takeover import StreamHead, can_be_taken_over, detach, take_over

__all__ = ["StreamSession", "serve_stream"]


class StreamSession(Delivery):
    """One stream, from the request of a client or from a bare descriptor to its end."""

    __slots__ = ()

    def may_be_taken_over(self, request: Request) -> bool:
        """Whether the relay is to take over this stream's connection from aiohttp, once it is up to date.

        Jobs that have ended are served by aiohttp, which keeps the connection open for the next request.
        """
        if not self._app[OPTIONS].take_over or self._exchanges is not None:
            return False
        live = self._selection.jobs is None or not all(job.ended for job in self._selection.jobs)
        return live and can_be_taken_over(request)

    async def run(self, request: Request, response: StreamResponse, *, follow: bool, take: bool) -> None:
        """Serve until the jobs end, the relay closes the stream, the client leaves, or, with *take*, the takeover.

        Without *follow*, serve until the client has caught up. After a takeover the stream continues by itself: the
        handler has to return *response*, and is done.
        """
        connection = self._connection = HandlerConnection(request, response, self, self._app[WAITS])
        self.chunked = connection.chunked
        if request.transport is not None:
            tune(request.transport)
        if self._app[GUARD].has_ended(request, self.access):
            self.withdraw()
        self._app[STREAMS].add(self)
        stop_debug = None
        if self._exchanges is not None:
            stop_debug = self._app[RELAY].bus.subscribe_exchanges(self._exchanges)
        try:
            over = await self._catch_up(follow=follow)
            while not over:
                if take and self._leave_aiohttp(request):
                    return self._join_group()
                self._join_group()
                await connection.news.wait()
                connection.news.clear()
                over = await self._catch_up()
        finally:
            if stop_debug is not None:
                stop_debug()
            if self._connection is connection:
                self.end()

    def serve_on(self, fd: int, head: bytes, *, chunked: bool) -> bool:
        """Serve on the bare descriptor *fd*, which is non-blocking and tuned, with *head* before the stream.

        The first page is written with *head* at once, without a turn, and a task writes those behind it in
        their turn: the caller bounds how many streams it begins at a time. Returns False if the descriptor cannot be
        adopted; it remains the caller's then, nothing was written, and the stream has not been opened.
        """
        self.chunked: bool = chunked
        if not self._app[REACTOR].adopt(fd, self):
            return False
        self._app[STREAMS].add(self)
        try:
            up_to_date = self._begin(head)
        except ConnectionError:
            self.cut()
            return True
        if up_to_date:
            self._join_group()
            self.forget_connection()
        else:
            self.wake()
        return True

    def _begin(self, head: bytes) -> bool:
        """Write *head*, and the first page if it is the only one. Returns whether the client is up to date then."""
        content = self._content
        if content is None or self.access_ended or self.closing:
            self._write_first(head)
            return False
        self._write_first(head + framed(self._first_page(content), chunked=self.chunked))
        if self.slow or content.ended:
            return False
        if content.is_at_end:
            return True
        if more := content.next_page():
            self.connection.write(framed(more, chunked=self.chunked))
        return not more and not content.ended

    def _write_first(self, data: bytes) -> None:
        """Write the first bytes on the descriptor, with a connection only if some are left. Raises ConnectionError."""
        if (accepted := write_now(self.fd, data)) != len(data):
            self.keep(memoryview(data)[accepted:])

    @property
    def has_descriptor(self) -> bool:
        """Whether the stream is served on a bare descriptor, until it ends."""
        return self.fd >= 0

    def _leave_aiohttp(self, request: Request) -> bool:
        """Continue without aiohttp, if the connection is as expected. Returns whether the handler has to return."""
        if detach(request, self, self._app[REACTOR]):
            self._connection = None
            return True
        taken = take_over(request, self, self._app[WAITS])
        self._connection = taken or self._connection
        return taken is not None


async def serve_stream(
    request: Request, session: StreamSession, headers: Mapping[str, str], *, follow: bool = True
) -> StreamResponse:
    """The response with these *headers* on which *session* is served; without *follow*, only what there is already."""
    response = StreamHead(headers=headers)
    if take := follow and session.may_be_taken_over(request):
        response.force_close()
    with suppress(ConnectionError):  # the client has left; no job depends on a connection
        await response.prepare(request)
        await session.run(request, response, follow=follow, take=take)
    return response
