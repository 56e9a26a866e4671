"""The format, the level and the extent of a stream, as its client requests them."""

import secrets
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp.web import Request

from relay.events import LEVELS, Level
from web.middleware.problems import RequestError
from web.streaming.accept_header import MediaRange, best_offer, is_named, parse_accept
from web.streaming.wire import NDJSON, RETRY, SSE, Wire

__all__ = [
    "JSON",
    "names_sse",
    "negotiate_wire",
    "reconnect_delay",
    "requested_follow",
    "requested_level",
]

JSON: Final = "application/json"

KNOWN: Final = 64
"""How many short `Accept` headers are remembered: clients of one kind all send the same."""

SHORT: Final = 256


def negotiate_wire(request: Request) -> Wire | None:
    """The format that the client prefers ([spec] RFC 9110, 12.5.1); None for the state as JSON, which is no stream.

    EventSource accepts `text/event-stream`, and curl anything, which is the same here. A client that accepts JSON or
    anything, as axios does by default, receives JSON: it waits for the end of the response. A client receives JSON
    lines only if it names them. Raises RequestError if it accepts no format of the relay.
    """
    accept = tuple(request.headers.getall("Accept", ()))
    match _preferred(accept) if sum(map(len, accept)) <= SHORT else _preferred.__wrapped__(accept):
        case SSE.content_type:
            return SSE
        case NDJSON.content_type:
            return NDJSON
        case None:
            raise RequestError(
                HTTPStatus.NOT_ACCEPTABLE,
                "a stream is text/event-stream or application/x-ndjson; application/json gets the state once",
            )
        case _:
            return None


def names_sse(request: Request) -> bool:
    """Whether the client names SSE, as every EventSource does; it gives up for good on any status but 200."""
    return is_named(SSE.content_type, _accepted(request))


def requested_level(request: Request) -> Level:
    """The level of `?level=`; everything by default. Raises RequestError for an unknown level."""
    value = request.query.get("level", "debug")
    for level in LEVELS:
        if level == value:
            return level
    raise RequestError(HTTPStatus.BAD_REQUEST, f"level is one of {', '.join(LEVELS)}")


def requested_follow(request: Request) -> bool:
    """Whether the stream continues with new records, as it does without `?follow=false`."""
    value = request.query.get("follow", "true")
    if value not in ("true", "false"):
        raise RequestError(HTTPStatus.BAD_REQUEST, "follow is true, or false for the kept records alone")
    return value == "true"


def reconnect_delay() -> int:
    """Milliseconds until a refused client reconnects; random, so that not all reconnect at the same moment."""
    return RETRY + secrets.randbelow(4 * RETRY)


@lru_cache(KNOWN)
def _preferred(accept: tuple[str, ...]) -> str | None:
    accepted = parse_accept(accept)
    lines = [NDJSON.content_type] if is_named(NDJSON.content_type, accepted) else []
    return best_offer([SSE.content_type, *lines, JSON], accepted)


def _accepted(request: Request) -> list[MediaRange]:
    return parse_accept(request.headers.getall("Accept", ()))
