"""The sinks of the relay over HTTP: what each is doing, and another level for a limited time."""

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from aiohttp.web import Request, Response
from msgspec import Meta

from relay import AttachedSink, Position, Relay, UsageError
from relay.bus.subscription import name_of
from relay.config.tables import seconds_in
from relay.text import bounded
from web.access.use_log import USE_LOG
from web.app_keys import RELAY
from web.bodies import read_json
from web.middleware.problems import RequestError

__all__ = ["change_sink", "list_sinks"]

FOR: Final = 600.0
NAME_LIMIT: Final = 200


class NewLevel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"seconds": "for"}):
    """The least level of the records that a sink receives, and for how long, in seconds or as text such as "10m"."""

    level: Literal["debug", "info", "warning", "error"]
    seconds: float | Annotated[str, Meta(max_length=32)] = FOR


async def list_sinks(request: Request) -> Response:
    """`GET /v1/sinks`: every sink, in the order in which they were added."""
    relay = request.app[RELAY]
    head = str(Position(relay.journal.epoch, relay.journal.head))
    return _json({"position": head, "sinks": [_shown(sink, relay) for sink in relay.sinks]})


async def change_sink(request: Request) -> Response:
    """`POST /v1/sinks/{name}`: give a sink another level for a limited time; 200 with its state.

    It has its configured level again after that, and after a restart. Raises RequestError for an unknown sink (404),
    and for a time that is none, or is longer than a day (400).
    """
    new = await read_json(request, NewLevel)
    relay = request.app[RELAY]
    sink = _named(relay, request.match_info["name"])
    seconds = seconds_in(new.seconds) if isinstance(new.seconds, str) else new.seconds
    if seconds is None:
        raise RequestError(HTTPStatus.BAD_REQUEST, 'give `for` in seconds, or as text such as "90s", "10m" or "1h"')
    try:
        sink.set_level(new.level, seconds)
    except UsageError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, str(error)) from None
    request.app[USE_LOG].used(request, f"gave the sink {sink.name} the level {new.level} for {seconds:g} s")
    return _json({**_shown(sink, relay), "for": seconds})


def _shown(sink: AttachedSink, relay: Relay) -> dict[str, Any]:
    """A sink's status. Its *kind* is that of the box, or the name of its class or function; a cursor is a position."""
    status, given = sink.status(), cast(object, sink.sink)
    kind = getattr(getattr(type(given), "settings", None), "kind", None) or name_of(given)
    fields = msgspec.to_builtins(status)
    cursor = str(Position(relay.journal.epoch, status.cursor))
    return {"name": fields.pop("name"), "kind": kind, **fields, "cursor": cursor}


def _json(body: object) -> Response:
    return Response(body=msgspec.json.encode(body), content_type="application/json", charset="utf-8")


def _named(relay: Relay, name: str) -> AttachedSink:
    for sink in relay.sinks:
        if sink.name == name:
            return sink
    named = bounded(name, NAME_LIMIT)
    raise RequestError(HTTPStatus.NOT_FOUND, f"no sink {named!r} is known here; GET /v1/sinks lists those that are")
