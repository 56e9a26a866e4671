"""Text and JSON values from outside, made safe to keep and safe to print: bounded, valid, and inert."""

import json
import math
import re
from functools import lru_cache
from typing import Any, Final, cast

from relay.notices import INTERRUPTIONS

__all__ = [
    "CUT",
    "LINE_LIMIT",
    "TEXT_LIMIT",
    "VALUE_LIMIT",
    "bounded",
    "brief",
    "duration",
    "encoded_length",
    "in_passing",
    "inert",
    "kept",
    "late_pattern",
    "well_formed",
    "within_columns",
]

TEXT_LIMIT: Final = 8_192
"""The most characters any text field of an event holds; a longer text ends in a marker."""

LINE_LIMIT: Final = 1_000
"""The most characters the human line of an event holds."""

_SEARCHES: Final = ("search", "match", "fullmatch", "finditer", "findall", "sub", "subn", "split")


class _LatePattern:
    def __init__(self, pattern: str, flags: int) -> None:
        self._pattern = pattern
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        if name not in _SEARCHES:
            raise AttributeError(name)
        compiled = re.compile(self._pattern, self._flags)
        self.__dict__.update((method, getattr(compiled, method)) for method in _SEARCHES)
        return self.__dict__[name]


def late_pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """*pattern*, compiled when it is first searched for; it has the methods that search, and nothing else.

    It is for what a start of the relay has no use for: to compile one pattern takes up to a millisecond.
    """
    return cast("re.Pattern[str]", _LatePattern(pattern, flags))


# C0 and C1 controls move a terminal's cursor, set its title or its clipboard; U+2028 and U+2029 break lines for some
# readers; the bidi and zero-width characters make a line read differently from what it says (Unicode TR 36, 2.4-2.5);
# U+E0000-E007F are invisible tags; a lone surrogate cannot be encoded at all.
_ACTIVE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def inert(text: str) -> str:
    r"""*text* as one line that only prints: every character that acts is shown as its escape (``\n``, ``\x1b``)."""
    if text.isascii() and text.isprintable():
        return text
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


CUT: Final = " characters in all]"
"""How a text ends that was cut."""


_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PAIR: Final = re.compile("([\ud800-\udbff])([\udc00-\udfff])")


def bounded(text: str, limit: int = TEXT_LIMIT) -> str:
    """*text* as valid Unicode of at most *limit* characters; a cut is marked with how much is missing."""
    text = well_formed(text)
    if len(text) <= limit:
        return text
    marker = f"... [{len(text):,}{CUT}"
    return text[: max(0, limit - len(marker))] + marker


def within_columns(line: str, columns: int) -> str:
    """As much of *line* as fits. The width of a character beyond ASCII is not known: it is two columns at most."""
    used = 0
    for place, character in enumerate(line):
        used += 1 if character.isascii() else 2
        if used > columns:
            return line[:place]
    return line


def well_formed(text: str) -> str:
    """*text* with surrogate pairs joined and lone ones replaced: JSON permits both, UTF-8 neither (RFC 8259, 8.2)."""
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    # A codec does the same and calls an error handler for each surrogate: a microsecond, of a body that may have
    # millions.
    return _SURROGATE.sub("\ufffd", _PAIR.sub(_joined, text))


def _joined(pair: re.Match[str]) -> str:
    return chr(0x10000 + ((ord(pair[1]) - 0xD800) << 10) + ord(pair[2]) - 0xDC00)


_UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
_ALL_SECONDS_BELOW: Final = 120.0
_BRIEF_BELOW: Final = 180.0


def duration(seconds: float) -> str:
    """*seconds* as people say them: `2.5 seconds`, `90 seconds`, `25 minutes`, `1 hour 30 minutes`.

    Below two minutes that is in seconds, with up to three digits; from there on in whole seconds, and in the two
    largest units at most.
    """
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < _ALL_SECONDS_BELOW and seconds != 60:
        return _counted(f"{seconds:.3g}" if abs(seconds) < 100 else f"{seconds:.0f}", "second")
    return _in_units(round(seconds))


@lru_cache(maxsize=1_024)
def _in_units(seconds: int) -> str:
    """Whole *seconds* in days to seconds. Cached: each progress of a job names the time left, and 1.5 us make that."""
    left, parts = seconds, list[str]()
    for unit, length in _UNITS:
        count, left = divmod(left, length)
        if count:
            parts.append(_counted(f"{count:,}", unit))
        if parts and (not count or len(parts) == 2):
            break
    return " ".join(parts)


def in_passing(seconds: float, digits: int = 0) -> str:
    """*seconds* in a line that is read in passing: `64 s` below three minutes, a `duration` from there on."""
    if seconds < _BRIEF_BELOW:
        return f"{seconds:.{digits}f} s" if digits else f"{seconds:.0f} s"
    return duration(seconds)


def _counted(count: str, unit: str) -> str:
    return f"{count} {unit}" if count == "1" else f"{count} {unit}s"


VALUE_LIMIT: Final = 64 * 1024
"""The most bytes of a value, as JSON in ASCII."""

BRIEF_LIMIT: Final = 200
"""The most characters that `brief` returns."""

INLINE_LIMIT: Final = 1_024
"""How many characters of inline data are kept in a value that is over VALUE_LIMIT."""

_DEPTH: Final = 64
_INTEGERS: Final = range(-(2**63), 2**64)
"""What a JSON encoder writes as an integer."""

_DATA: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200},", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_SHORTEST_BASE64: Final = 256


def kept(value: object, limit: int = VALUE_LIMIT) -> Any:
    """*value* as JSON can hold it, of at most *limit* bytes encoded. It is a copy, and never an error.

    A number that JSON does not have becomes null, or text where it is an integer; surrogates are replaced; a
    value that is not JSON at all becomes text. Where the whole is too long, inline data (data: addresses, base64) is
    replaced by its type and size; where that is not enough, the value becomes its JSON text, cut, with a marker at
    its end.
    """
    plain = _plain(value, _DEPTH)
    if encoded_length(plain) <= limit:
        return plain
    lean = _without_data(plain)
    if encoded_length(lean) <= limit:
        return lean
    return _cut(lean if isinstance(lean, str) else _encoded(lean), limit)


def brief(value: object) -> str:
    """*value* in a few words: a text as it is, anything else as JSON, inline data by its type and size."""
    lean = _without_data(value, longest=0)
    return bounded(lean if isinstance(lean, str) else json.dumps(lean, ensure_ascii=False), BRIEF_LIMIT)


def encoded_length(value: object) -> int:
    """How many bytes *value* has as JSON in ASCII, encoded as in `relay.wire.record_json.ascii_json`."""
    text = _encoded(value)
    return len(text) + 5 * text.count("\x7f")


def _encoded(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _plain(value: object, depth: int) -> Any:
    if depth == 0:
        return "[nested too deep]"
    match value:
        case str():
            return well_formed(str.__str__(value))
        case None | bool():
            return value
        case int():
            # The number itself: to look for one of another class, a range goes through all that it holds.
            return plain if (plain := int(value)) in _INTEGERS else _in_words(plain)
        case float():
            # A subclass that remembers how it was written is plain here as well.
            return float(value) if math.isfinite(value) else None
        case dict():
            items = cast("dict[object, object]", value).items()
            return {_in_words(key): _plain(part, depth - 1) for key, part in items}
        case list() | tuple():
            return [_plain(part, depth - 1) for part in cast("list[object]", value)]
        case _:
            return _in_words(value)


def _in_words(value: object) -> str:
    """*value* as text; where it has none, since its class raises or an integer has too many digits, what it is."""
    try:
        return well_formed(str.__str__(value) if isinstance(value, str) else str(value))
    except INTERRUPTIONS:
        raise
    except BaseException:
        return f"[{type(value).__name__} that cannot be shown]"


def _without_data(value: object, longest: int = INLINE_LIMIT) -> Any:
    match value:
        case str():
            return _described(value) if len(value) > longest else value
        case dict():
            return {key: _without_data(part, longest) for key, part in cast("dict[str, object]", value).items()}
        case list():
            return [_without_data(part, longest) for part in cast("list[object]", value)]
        case _:
            return value


def _described(text: str) -> str:
    """Inline data by its type and size; any other text as it is."""
    if match := _DATA.match(text):
        kind, data = match[1] or "text/plain", len(text) - match.end()
        size = data * 3 // 4 if "base64" in match[0].lower() else data
        return f"[{kind} of {size:,} bytes, left out]"
    if len(text) >= _SHORTEST_BASE64 and _BASE64.fullmatch(text):
        return f"[base64 of {len(text) * 3 // 4:,} bytes, left out]"
    return text


def _cut(text: str, limit: int) -> str:
    marker = f"... [{len(text):,}{CUT}"
    room = limit - len(marker)
    fits, over = 0, min(len(text), limit) + 1
    while over - fits > 1:
        middle = (fits + over) // 2
        if encoded_length(text[:middle]) <= room:
            fits = middle
        else:
            over = middle
    return text[:fits] + marker
