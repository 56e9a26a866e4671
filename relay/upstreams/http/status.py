"""What a status other than success means, and when to ask again."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from relay.errors import ErrorKind

__all__ = ["RETRY_AFTER", "kind_of", "retry_after"]

RETRY_AFTER: Final = (0.2, 60.0)
"""The shortest and the longest wait, in seconds, that a Retry-After can ask for."""


def kind_of(status: int) -> ErrorKind:
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


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, by Retry-After as seconds or as a date (RFC 9110, 10.2.3), within RETRY_AFTER."""
    if not value or not (value := value.strip()):
        return None
    try:
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            seconds = float(value)
        else:
            date = parsedate_to_datetime(value)
            seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, OverflowError):
        # A year of twenty digits is no ValueError.
        return None
    return min(max(seconds, RETRY_AFTER[0]), RETRY_AFTER[1])
