"""JSON and figures as upstreams really send them, read without guessing."""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any, Final, Self

from relay.errors import UpstreamError
from relay.events import ProgressSource
from relay.text import bounded

__all__ = [
    "DEPTH_LIMIT",
    "Figure",
    "as_sent",
    "check_depth",
    "is_html",
    "read_count",
    "read_date",
    "read_fraction",
    "read_json",
    "read_percent",
    "read_seconds",
]

DEPTH_LIMIT: Final = 32
"""How deep the arrays and objects of an answer may nest."""

_RAW_LIMIT: Final = 64

_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_OTHERS: Final = bytes(set(range(256)) - set(b'{}[]"'))

_HTML = re.compile(rb"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_PERCENT = re.compile(r"\s*(-?[0-9]{1,9}(?:\.[0-9]{1,18})?)\s*%\s*")


class Figure(float):
    """A number too large for its type, or none at all (`NaN`): JSON forbids the latter, and upstreams send it.

    *wire* is how it was written.
    """

    wire: str

    def __new__(cls, wire: str) -> Self:
        figure = super().__new__(cls, wire)
        figure.wire = wire
        return figure


def _number(wire: str) -> float:
    number = float(wire)
    return number if math.isfinite(number) else Figure(wire)


def _integer(wire: str) -> float:
    # Python refuses to read integers of more than 4,300 digits; nothing here needs more than 18.
    return int(wire) if len(wire) <= 18 else Figure(wire)


# One bad figure must not cost the answer about every other job: a strict parser would refuse the whole of it.
_decoder = json.JSONDecoder(parse_float=_number, parse_int=_integer, parse_constant=Figure)


def read_json(body: bytes, depth: int = DEPTH_LIMIT) -> Any:
    """*body* as JSON. `NaN`, `Infinity`, `1e999` and overlong integers come as `Figure`; bad UTF-8 is replaced.

    Raises UpstreamError (malformed) where it is no JSON, or nests deeper than *depth*, which is less than DEPTH_LIMIT
    where *body* is a part of an answer.
    """
    try:
        value, problem = _decoder.decode(body.decode("utf-8-sig", "replace")), None
    except RecursionError:
        value, problem = None, _TOO_DEEP
    except ValueError:
        value, problem = None, _not_json(body)
    if problem:
        raise UpstreamError("malformed", problem)
    check_depth(body, depth)
    return value


def check_depth(body: bytes, depth: int = DEPTH_LIMIT) -> None:
    """Raise UpstreamError (malformed) where *body*, which is JSON, nests deeper than *depth*."""
    if b"\\" in body:
        body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    # Of the rest, brackets and quotes are kept; between two quotes is a text, and hardly any holds a bracket.
    marks = body.translate(_BRACKETS, _OTHERS).replace(b'""', b"")
    marks = b"".join(marks.split(b'"')[::2])
    for _ in range(depth):
        # Each turn takes the innermost level away.
        marks = marks.replace(b"[]", b"")
        if not marks:
            return
    raise UpstreamError("malformed", _TOO_DEEP)


def is_html(body: bytes) -> bool:
    """Whether *body* is a page for people, by how it begins: servers send those under any content type."""
    return _HTML.match(body) is not None


def read_fraction(wire: object) -> tuple[int | None, ProgressSource | None, str | None]:
    """A figure of 0..1 as whole percent, rounded; where it comes from; its wire text, where it was not used as it was.

    What is over or under is clamped, a text such as `42%` is taken at its word, and anything else is no figure.
    """
    if isinstance(wire, int | float) and not isinstance(wire, bool) and math.isfinite(wire):
        return round(min(1, max(0, wire)) * 100), "reported", None if 0 <= wire <= 1 else as_sent(wire)
    if isinstance(wire, str) and (match := _PERCENT.fullmatch(wire)):
        return round(min(100, max(0, float(match[1])))), "parsed", as_sent(wire)
    return None, None, None if wire is None else as_sent(wire)


def read_percent(wire: object) -> tuple[int | None, ProgressSource | None, str | None]:
    """A figure of 0..100 as `read_fraction` has one of 0..1."""
    if isinstance(wire, int | float) and not isinstance(wire, bool) and math.isfinite(wire):
        return round(min(100, max(0, wire))), "reported", None if 0 <= wire <= 100 else as_sent(wire)
    return read_fraction(wire)


def read_count(wire: object) -> int | None:
    """A whole number from 0 on, or None for anything else."""
    return wire if isinstance(wire, int) and not isinstance(wire, bool) and wire >= 0 else None


def read_seconds(wire: object) -> float | None:
    """A finite number from 0 on, or None for anything else."""
    if isinstance(wire, int | float) and not isinstance(wire, bool) and math.isfinite(wire) and wire >= 0:
        return float(wire)
    return None


def read_date(wire: object) -> datetime | None:
    """A time as seconds since 1970, or as text in ISO 8601, UTC where it names no zone; None for anything else."""
    stamp = read_seconds(wire)
    try:
        if isinstance(wire, str):
            date = datetime.fromisoformat(wire)
            return date if date.tzinfo else date.replace(tzinfo=UTC)
        return datetime.fromtimestamp(stamp, UTC) if stamp else None
    except (ValueError, OverflowError, OSError):
        return None


def as_sent(wire: object) -> str:
    """How *wire* was written, a text without its quotes, and cut where it is long."""
    match wire:
        case str():
            text = wire
        case Figure():
            text = wire.wire
        case _:
            text = json.dumps(wire)
    return bounded(text, _RAW_LIMIT)


_TOO_DEEP: Final = f"the answer nests deeper than {DEPTH_LIMIT} levels"


def _not_json(body: bytes) -> str:
    if not body.strip():
        return "the answer is empty; JSON was expected"
    return f"the answer is {'an HTML page' if is_html(body) else 'not JSON'}; JSON was expected"
