"""What a status other than success means, and when to ask again."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from relay.errors import ErrorKind
from relay.pace import clamp_delay

__all__ = ["error_kind_for_status", "may_have_acted", "retry_after"]

_SECONDS: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:s|secs?|seconds?)?\s*(?:,|$)", re.IGNORECASE)
"""Some write the unit too, and proxies put two such headers into one."""


def error_kind_for_status(status: int) -> ErrorKind:
    """Why an answer of *status*, which is none of success, could not be used."""
    match status:
        case 401 | 403:
            return "auth"
        case 404 | 410:
            return "not-found"
        case 408:
            return "timeout"
        case 409 | 425:
            return "server"
        case 429:
            return "rate-limit"
        case _:
            return "server" if status >= 500 else "refused"


def may_have_acted(status: int) -> bool:
    """Whether an upstream that answers a request with *status* may have done what was requested, at least in part.

    A refusal (4xx) says that it has not, except where it was the server that ended the exchange (408, 499). A redirect
    may come after the work is done, unless it is to be repeated elsewhere with the same method (307, 308).
    """
    return status in (408, 499) or not (400 <= status < 500 or status in (307, 308))


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, by Retry-After as seconds or a date (RFC 9110, 10.2.3), within the bounds of `clamp_delay`."""
    if not value or not (value := value.strip()):
        return None
    try:
        if match := _SECONDS.match(value):
            seconds = float(match[1])
        else:
            date = parsedate_to_datetime(value)
            seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, OverflowError):
        # A year of twenty digits is no ValueError.
        return None
    return clamp_delay(seconds)
