"""The short way to a stream: a plain request for one is answered from its peeked head, and aiohttp never sees it.

All checks are those of aiohttp's way, called here one after the other. Whatever they refuse, and whatever is not
decided at once, is left to aiohttp with nothing counted and nothing consumed.
"""

import os
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from email.utils import formatdate
from typing import Any, Final

from aiohttp.http import SERVER_SOFTWARE
from aiohttp.web import AppKey, Application

from relay import RelayError
from web.app_keys import OPTIONS
from web.middleware.access_check import RULES, Rule, allowed_at_once
from web.middleware.cors import listed_origin, set_cors_headers
from web.middleware.origin_check import check_host_and_origin
from web.middleware.problems import RequestError
from web.middleware.request_checks import check_form
from web.page import set_security_headers
from web.peeked_request import PeekedRequest, PeekedRequests
from web.request_failures import FAILURES
from web.streaming.handlers import OpenedStream, open_at_once, stream_all, stream_headers, stream_job
from web.streaming.keys import REACTOR
from web.streaming.sockets import tune_socket
from web.streaming.takeover import StreamHead

__all__ = ["STREAM_LANE", "StreamLane"]

_OF_A_JOB: Final = re.compile(r"/v1/jobs/([A-Za-z0-9_-]{1,200})/events")
"""A path that is the same for every router: nothing in it is decoded, or normalised."""

_OF_ALL: Final = "/v1/events"

KNOWN_HEADS: Final = 64


class StreamLane:
    """Opens streams of *app*, which was just created, without aiohttp's server."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._as_created = self._hooks()
        self._rules = {
            handler: rule
            for route, rule in app[RULES].items()
            if (handler := route.handler) in (stream_job, stream_all) and route.method == "GET"
        }
        self._heads: dict[tuple[str, str | None], bytes] = {}
        self._date: tuple[int, bytes] = 0, b""

    def can_serve(self) -> bool:
        """Whether streams can be served on the running event loop, and are not to stay with aiohttp.

        False as well if middlewares or signals were added to the application since it was created.
        """
        untouched = self._hooks() == self._as_created
        return self._app[OPTIONS].take_over and untouched and self._app[REACTOR].is_ready()

    def open(self, requests: PeekedRequests, data: bytes, sock: socket.socket, peername: Any) -> bool:
        """Serve the stream that *data* requests, which was peeked at on *sock*, and own its descriptor.

        Returns False if it requests none, or aiohttp has to decide; nothing has been read from *sock* then.
        """
        request = requests.read(data, peername)
        if request is None or (opened := self._opened(request)) is None:
            return False
        if isinstance(peername, tuple):  # the address of a unix socket is none
            tune_socket(sock)
        session, head = opened.session, self._head(request, opened)
        try:
            if not session.serve_on(sock.fileno(), head, chunked=True):
                return False
        except Exception as error:
            self._app[FAILURES].failed("a stream could not be opened", error)
            if not session.has_descriptor:
                return False
            session.cut()
        fd = sock.detach()
        if session.has_descriptor:  # the client may have left meanwhile
            with suppress(OSError):
                os.read(fd, len(data))
        return True

    def _opened(self, request: PeekedRequest) -> OpenedStream | None:
        if (found := self._route(request)) is None:
            return None
        rule, ids = found
        try:
            check_form(request)
            check_host_and_origin(request)
            return open_at_once(request, ids) if allowed_at_once(request, rule) else None
        except (RequestError, RelayError):
            return None
        except Exception as error:
            self._app[FAILURES].failed("a stream could not be opened at once", error)
            return None

    def _route(self, request: PeekedRequest) -> tuple[Rule, Sequence[str] | None] | None:
        """The rule of the stream that *request* is for, and the ids that it names."""
        path = request.rel_url.raw_path
        if path == _OF_ALL:
            return self._rules[stream_all], request.query.getall("job", None)
        if (named := _OF_A_JOB.fullmatch(path)) is not None:
            return self._rules[stream_job], [named[1]]
        return None

    def _head(self, request: PeekedRequest, opened: OpenedStream) -> bytes:
        """The head of the response, as aiohttp would write it."""
        kind = opened.wire.content_type, listed_origin(request)
        if (head := self._heads.get(kind)) is None:
            head = self._made(request, opened)
            if len(self._heads) < KNOWN_HEADS:
                self._heads[kind] = head
        now = int(time.time())
        if self._date[0] != now:
            self._date = now, b"Date: %b\r\n\r\n" % formatdate(now, usegmt=True).encode()
        return head + self._date[1]

    def _made(self, request: PeekedRequest, opened: OpenedStream) -> bytes:
        response = StreamHead(headers=stream_headers(request, opened.wire))
        set_security_headers(response)
        set_cors_headers(request, response)
        fields = [
            *response.headers.items(),
            ("Transfer-Encoding", "chunked"),
            ("Server", SERVER_SOFTWARE),
            ("Connection", "close"),
        ]
        return "".join(["HTTP/1.1 200 OK\r\n", *(f"{name}: {value}\r\n" for name, value in fields)]).encode()

    def _hooks(self) -> tuple[object, ...]:
        return *self._app.middlewares, *self._app.on_response_prepare


STREAM_LANE: Final = AppKey("stream_lane", StreamLane)
