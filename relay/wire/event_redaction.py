"""Events and raw exchanges without secrets, from whatever source: the last step before they leave."""

from typing import Any, Final

from msgspec.structs import replace

from relay.events import Done, Event, Exchange, Failed, Log, Progress, Retrying
from relay.wire.redactor import Redactor

__all__ = ["redact_event", "redact_exchange"]

_TEXTS: Final[dict[type[Event], tuple[str, ...]]] = {
    Progress: ("raw_status", "raw_percent"),
    Retrying: ("message",),
    Log: ("line",),
    Failed: ("message",),
    Done: (),
}
"""The fields that hold words from outside; those of a result have a way of their own."""


def redact_event(event: Event, redactor: Redactor) -> Event:
    """*event*, with no secret in it. The links of a result have to work: what signs them stays."""
    if (texts := _TEXTS.get(type(event))) is None:
        return event
    changed: dict[str, Any] = {}
    for name in texts:
        text: str | None = getattr(event, name)
        if text and (redacted := redactor(text, short=False)) != text:
            changed[name] = redacted
    if isinstance(event, Done):
        urls = tuple(map(redactor.link, event.urls))
        changed |= {"urls": urls} if urls != event.urls else {}
        value = redactor.value(event.result)
        changed |= {"result": value} if value != event.result else {}
    return replace(event, **changed) if changed else event


def redact_exchange(exchange: Exchange, redactor: Redactor) -> Exchange:
    """*exchange*, with no secret in its address, its request and its response."""
    url, request, response = map(redactor, (exchange.url, exchange.request, exchange.response))
    return replace(exchange, url=url, request=request, response=response)
