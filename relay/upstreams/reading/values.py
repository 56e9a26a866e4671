"""JSON and figures as upstreams really send them, read without guessing."""

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self, cast

from relay.errors import UpstreamError
from relay.events import ProgressSource
from relay.text import bounded, late_pattern

__all__ = [
    "DEPTH_LIMIT",
    "Figure",
    "as_sent",
    "check_depth",
    "identifier",
    "is_html",
    "is_something",
    "read_count",
    "read_date",
    "read_fraction",
    "read_json",
    "read_number",
    "read_percent",
    "read_seconds",
    "whole_percent",
]

DEPTH_LIMIT: Final = 32
"""How deep the arrays and objects of an answer may nest."""

_RAW_LIMIT: Final = 64

_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_OTHERS: Final = bytes(set(range(256)) - set(b'{}[]"'))

_HTML = re.compile(rb"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_FIGURE: Final = r"\s*([+-]?(?:[0-9]{1,15}(?:[.,][0-9]{0,18})?|[.,][0-9]{1,18}))\s*"
_NUMBER: Final = re.compile(_FIGURE)
_SIGN: Final = r"(?:[%\u066a\uff05]|percent|pct)"
_PERCENT: Final = late_pattern(rf"[^0-9%.,+-]*(?:{_FIGURE}{_SIGN}|{_SIGN}{_FIGURE})[^0-9%]*", re.IGNORECASE)
"""A percentage and nothing else that is a figure: `42%`, `%42`, `about 42 percent done`."""

_CLOCK: Final = late_pattern(r"\s*(?:([0-9]{1,4}):)?([0-9]{1,2}):([0-9]{2}(?:[.,][0-9]{1,9})?)\s*")
_UNITS: Final = late_pattern(
    r"\s*(?:([0-9]{1,5})\s?h(?:ours?|rs?)?)?\s*(?:([0-9]{1,6})\s?m(?:in(?:ute)?s?)?)?\s*"
    r"(?:([0-9]{1,9}(?:[.,][0-9]{1,9})?)\s?s(?:ec(?:ond)?s?)?)?\s*",
    re.IGNORECASE,
)
_OF: Final = late_pattern(rf"[^0-9/.,+-]*{_FIGURE}(?:/|of){_FIGURE}[^0-9/]*")
_NO_ERROR: Final = frozenset(
    {
        *("", "0", "200", "null", "none", "nil", "undefined", "false", "n/a"),
        *("ok", "success", "succeed", "succeeded", "no error"),
    }
)
"""Texts where an error would be that say that there is none, in lower case."""

_LAST_SECOND: Final = 1e11
"""Beyond that (the year 5138) a time is in milliseconds, as JavaScript writes it."""


class Figure(float):
    """A number too large for its type, or none at all (`NaN`): JSON forbids the latter, and upstreams send it.

    *wire* is how it was written.
    """

    wire: str

    def __new__(cls, wire: str) -> Self:
        figure = super().__new__(cls, wire)
        figure.wire = wire
        return figure


_HALF_A_PAIR: Final = late_pattern(
    r"\\u(?:d[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f][0-9a-f]{2})", re.IGNORECASE
)
"""Half of a surrogate pair, which is no character: nothing could store it, or send it on."""


def _number(wire: str) -> float:
    number = float(wire)
    return number if math.isfinite(number) else Figure(wire)


def _integer(wire: str) -> float:
    # Python refuses to read integers of more than 4,300 digits; nothing here needs more than 18.
    return int(wire) if len(wire) <= 18 else Figure(wire)


# One bad figure must not cost the answer about every other job: a strict parser would refuse the whole of it.
_decoder = json.JSONDecoder(parse_float=_number, parse_int=_integer, parse_constant=Figure)


def read_json(body: bytes, depth: int = DEPTH_LIMIT) -> Any:
    """*body* as JSON. `NaN`, `Infinity`, `1e999` and overlong integers come as `Figure`; bad UTF-8 is
    replaced, and so is half of a surrogate pair.

    Raises UpstreamError (malformed) where it is no JSON, or nests deeper than *depth*, which is less than DEPTH_LIMIT
    where *body* is a part of an answer.
    """
    try:
        text = body.decode("utf-8-sig", "replace")
        if "\\ud" in text or "\\uD" in text:
            text = _HALF_A_PAIR.sub(r"\\ufffd", text)
        value, problem = _decoder.decode(text), None
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
    if body.count(b"{") + body.count(b"[") <= depth:
        return
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

    A figure beyond the bounds is clamped, and less than all is never 100. A text is read as well: `42%`, `42/100`, or a
    figure, with a decimal point or comma; over 1 that is percent. Anything else is no figure.
    """
    if isinstance(wire, str) and (figure := read_number(wire)) is not None:
        return whole_percent(figure * 100 if figure <= 1 else figure), "parsed", as_sent(wire)
    return _progress(wire, 1)


def read_percent(wire: object) -> tuple[int | None, ProgressSource | None, str | None]:
    """A figure of 0..100 as `read_fraction` has one of 0..1."""
    return _progress(wire, 100)


def _progress(wire: object, whole: float) -> tuple[int | None, ProgressSource | None, str | None]:
    if isinstance(wire, str):
        percent = _percent_in(wire)
        return (None, None, as_sent(wire)) if percent is None else (whole_percent(percent), "parsed", as_sent(wire))
    figure = read_number(wire)
    if figure is None:
        return None, None, None if wire is None else as_sent(wire)
    percent = figure if whole == 100 else figure * 100
    return whole_percent(percent), "reported", None if 0 <= figure <= whole else as_sent(wire)


def whole_percent(percent: float) -> int:
    """A figure of 0..100 as whole percent: clamped, rounded, and 100 for all of it only."""
    rounded = round(min(100.0, max(0.0, percent)))
    return 99 if rounded == 100 and percent < 100 else rounded


def _percent_in(text: str) -> float | None:
    """The percent that a *text* such as `57,5 %`, `21/50` or `42` names, None where it names none."""
    if match := _PERCENT.fullmatch(text):
        return _float(match[1] or match[2])
    if match := _OF.fullmatch(text):
        part, whole = _float(match[1]), _float(match[2])
        return part / whole * 100 if whole > 0 else None
    return read_number(text)


def _float(text: str) -> float:
    return float(text.replace(",", "."))


def read_number(wire: object) -> float | None:
    """A finite number, also where it is sent as text, with a decimal point or comma; None for anything else."""
    if isinstance(wire, str):
        number = _float(match[1]) if (match := _NUMBER.fullmatch(wire)) else math.nan
        return number if math.isfinite(number) else None
    if isinstance(wire, int | float) and not isinstance(wire, bool) and math.isfinite(wire):
        return wire
    return None


def read_count(wire: object) -> int | None:
    """A whole number from 0 on, or None for anything else."""
    number = read_number(wire)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def read_seconds(wire: object) -> float | None:
    """A time in seconds from 0 on, also as `90s`, `1m 30s` or `0:01:30`; None for anything else."""
    if isinstance(wire, str) and (match := _CLOCK.fullmatch(wire) or _UNITS.fullmatch(wire)) and match.lastindex:
        hours, minutes, seconds = (_float(part) if part else 0.0 for part in match.groups())
        return hours * 3_600 + minutes * 60 + seconds
    number = read_number(wire)
    return float(number) if number is not None and number >= 0 else None


def read_date(wire: object) -> datetime | None:
    """A time as seconds or milliseconds since 1970, or as text; None for anything else.

    A text is in ISO 8601 or as HTTP has dates (RFC 9110, 5.6.7), and in UTC where it names no zone.
    """
    stamp = read_number(wire)
    try:
        if stamp is None and isinstance(wire, str):
            date = _date(wire.strip())
            return date if date.tzinfo else date.replace(tzinfo=UTC)
        if stamp is None or stamp <= 0:
            return None
        return datetime.fromtimestamp(stamp / 1000 if stamp > _LAST_SECOND else stamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _date(text: str) -> datetime:
    """Raises ValueError or OverflowError for what is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)


def identifier(value: object) -> str | None:
    """An id as text, None where *value* is none: some APIs write them as numbers, longer than any number here."""
    match value:
        case str():
            return value or None
        case Figure():
            return value.wire
        case int() if not isinstance(value, bool):
            return str(value)
        case _:
            return None


def is_something(value: object) -> bool:
    """Whether *value*, found at the place of an error, is one.

    Null, false, 0, 200 and what is empty do not, nor do texts that say so ("None", "success"), nor an object or a list
    of nothing else.
    """
    match value:
        case str():
            return value.strip().casefold() not in _NO_ERROR
        case dict():
            return any(map(is_something, cast("dict[str, object]", value).values()))
        case list():
            return any(map(is_something, cast("list[object]", value)))
        case _:
            return value not in (None, False, 0, 200)


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
