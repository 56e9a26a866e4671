"""How a job ends that has succeeded: with what fits into a record, and a warning about what does not. Pure."""

from typing import Final

from relay.events import Done, Event, Failed, Log
from relay.jobs.observations import Result
from relay.text import TEXT_LIMIT, encoded_length

__all__ = ["URLS_LIMIT", "URLS_ROOM", "URL_LIMIT", "outcome"]

URLS_LIMIT: Final = 512
"""The most files of one job."""

URL_LIMIT: Final = TEXT_LIMIT
"""The most characters of one address: a longer one would be cut, and lead nowhere."""

URLS_ROOM: Final = 176 * 1024
"""The most bytes of all addresses as JSON. A record has 256 KiB: 64 KiB are the value's, and 16 KiB for the rest."""

_KINDS_ROOM: Final = 8 * 1024
_LIMITS: Final = f"{URLS_LIMIT} addresses of {URL_LIMIT:,} characters, {URLS_ROOM // 1024} KiB in all"


def outcome(result: Result) -> tuple[Event, ...]:
    """The events that a *result* ends its job with: `done`, after a warning where some addresses are left out.

    A result that is nothing at all is `failed` (malformed), unless it is *fileless*; so is one none of whose addresses
    is within the limits.
    """
    chosen = _fitting(result.urls)
    if not chosen and result.value is None and not result.fileless:
        return (Failed(kind="malformed", message=_nothing_in(result)),)
    kinds = result.media_types
    if len(kinds) == len(result.urls):
        kinds = tuple(kinds[number] for number in chosen)
    done = Done(
        urls=tuple(result.urls[number] for number in chosen),
        media_types=kinds if encoded_length(kinds) <= _KINDS_ROOM else (),
        expires=result.expires,
        result=result.value,
    )
    missing = len(result.urls) - len(chosen)
    if not missing:
        return (done,)
    line = f"{missing} of the result's {len(result.urls)} addresses left out: the limits are {_LIMITS}"
    return (Log(line=line, severity="warning"), done)


def _fitting(urls: tuple[str, ...]) -> list[int]:
    """Which of *urls* fit into a record, in their order."""
    chosen: list[int] = []
    room = URLS_ROOM
    for number, url in enumerate(urls):
        if len(chosen) == URLS_LIMIT:
            break
        if len(url) > URL_LIMIT or (length := encoded_length(url) + 1) > room:
            continue
        room -= length
        chosen.append(number)
    return chosen


def _nothing_in(result: Result) -> str:
    if result.urls:
        return f"the result is over the limits of {_LIMITS}"
    return "the upstream says it is finished, but names no file"
