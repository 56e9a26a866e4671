"""One answer of an upstream, read whole."""

from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from relay.errors import UpstreamError
from relay.upstreams.reading.values import read_json

__all__ = ["NotYetError", "Reply"]

_NO_NEWS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT)
"""Statuses of answers that carry nothing."""

_WITHOUT_A_DOCUMENT: Final = (HTTPStatus.ACCEPTED, *_NO_NEWS)


class NotYetError(UpstreamError):
    """An answer that only reports that the work goes on: 202, 204 or 205 without a document."""


class Reply:
    """An answer, read whole; its status is 2xx or one that the request lists as an answer too.

    *poll_after* is in seconds, if the upstream named the time of the next request (Retry-After).
    """

    __slots__ = ("body", "headers", "poll_after", "status")

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes, *, poll_after: float | None = None
    ) -> None:
        self.status: int = status
        self.headers: Mapping[str, str] = headers
        self.body: bytes = body
        self.poll_after: float | None = poll_after

    @property
    def is_empty(self) -> bool:
        """Whether there is only the status: 204, 205, or 202 with nothing, an empty object or mere words."""
        if self.status in _NO_NEWS:
            return not self.body.strip()
        if self.status != HTTPStatus.ACCEPTED:
            return False
        with suppress(UpstreamError):
            document = read_json(self.body)
            return not isinstance(document, list) and (not isinstance(document, dict) or not document)
        return True

    def json(self) -> Any:
        """The body as JSON, read leniently (`relay.upstreams.reading.values.read_json`).

        Raises UpstreamError (malformed) for what is none, NotYetError where the answer `is_empty`.
        """
        if self.status in _WITHOUT_A_DOCUMENT and self.is_empty:
            raise NotYetError("malformed", "the answer is empty; JSON was expected", retry_after=self.poll_after)
        try:
            return read_json(self.body)
        except UpstreamError as error:
            problem = error.message
        raise UpstreamError("malformed", problem, retry_after=self.poll_after)

    def __repr__(self) -> str:
        return f"<Reply {self.status}, {len(self.body):,} bytes>"
