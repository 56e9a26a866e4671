"""Requests with places to fill in: `{task}`, `{input.prompt}`. A value is put in, and nothing is ever evaluated."""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

from msgspec import Struct

from relay.errors import UpstreamError, UsageError
from relay.hints import unknown
from relay.secret import find_reference
from relay.upstreams.per_task import segment

__all__ = ["BodyTemplate", "PathTemplate", "QueryTemplate", "Values", "check_no_secret"]

Values = Mapping[str, Any]
"""What each placeholder stands for, by the part of its name before the first dot."""

_WORD: Final = r"[A-Za-z0-9_-]{1,64}"
_PLACE: Final = re.compile(rf"\{{(?P<plus>\+?)(?P<name>{_WORD}(?:\.{_WORD}){{0,8}})(?P<optional>\??)\}}")
_PIECES: Final = re.compile(r"\{\{|\}\}|\{[^{}]*\}?|\}|[^{}]+")
_DEPTH: Final = 32
_BASE: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
"""What may stand in a path as it is (RFC 3986, 3.3)."""

_MISSING: Final = object()


class _Place(Struct, frozen=True):
    """One placeholder: *whole* paths keep their slashes, and what is *optional* may have no value."""

    name: str
    whole: bool
    optional: bool

    @property
    def root(self) -> str:
        return self.name.partition(".")[0]

    def value(self, values: Values) -> object:
        """The value that it stands for, `_MISSING` for none. Raises UsageError if there must be one."""
        found: Any = values
        way = self.name.split(".")
        for part in way:
            found = cast(Values, found).get(part, _MISSING) if isinstance(found, Mapping) else _MISSING
        if (found is _MISSING or found is None) and not self.optional:
            raise UsageError(f"the {way[0]} needs the key {'.'.join(way[1:])!r}")
        return cast(object, _MISSING if found is None else found)


_Pieces = tuple[str | _Place, ...]


class PathTemplate:
    """A path below the base URL. A value stays one segment of it, or, as `{+name}`, whole segments.

    Raises UsageError for a path that leads elsewhere, in words that follow a key's name.
    """

    def __init__(self, text: str, known: Collection[str]) -> None:
        self._pieces = _parsed(text, known)
        self.places: tuple[_Place, ...] = tuple(_places(self._pieces))
        literal = "".join(piece if isinstance(piece, str) else "x" for piece in self._pieces)
        if any(place.optional for place in self.places):
            raise UsageError("has a placeholder that may be empty; that is for query and body")
        if not _BASE.fullmatch(literal) or "//" in text:
            raise UsageError("is a path below base_url, without spaces, '?', '#' and '//'; parameters go into query")
        if any(part in (".", "..") for part in literal.split("/")):
            raise UsageError("has a segment '.' or '..', which leads elsewhere")

    def filled(self, values: Values) -> str:
        """The path. Raises UpstreamError (not-found) for a task id, UsageError for an input, that no path can hold."""
        return "".join(piece if isinstance(piece, str) else _in_path(piece, values) for piece in self._pieces)


class QueryTemplate:
    """The parameters of a URL. One whose value is missing is left out, where it is a placeholder that may be."""

    def __init__(self, table: Mapping[str, object], known: Collection[str]) -> None:
        self._parameters = {key: _parsed(_text(value), known) for key, value in table.items()}
        self.places: tuple[_Place, ...] = tuple(
            place for pieces in self._parameters.values() for place in _places(pieces)
        )

    def filled(self, values: Values) -> str:
        """The query with its question mark, empty without parameters. Raises UsageError."""
        parameters = [
            (key, _in_text(pieces, values)) for key, pieces in self._parameters.items() if _has_value(pieces, values)
        ]
        return f"?{urlencode(parameters, quote_via=quote, safe='')}" if parameters else ""


class BodyTemplate:
    """A body. A text that is one placeholder becomes its value, of whatever type; within other text it becomes text.

    Raises UsageError for what JSON cannot hold.
    """

    def __init__(self, body: object, known: Collection[str]) -> None:
        self._body = _parsed_body(body, known, _DEPTH)
        self.places: tuple[_Place, ...] = tuple(_places_within(self._body))

    def filled(self, values: Values) -> Any:
        """The JSON body, None for no body. Raises UsageError if a value is missing."""
        filled = _filled(self._body, values)
        return None if filled is _MISSING else filled


def check_no_secret(text: str) -> None:
    """Raise UsageError where *text* refers to a secret, which would be sent as the reference stands."""
    if (reference := find_reference(text)) is not None:
        raise UsageError(
            f'has "{reference}", and takes no secret: that text itself would be sent. A declaration sends one secret,'
            " in one header: use token, auth_header and auth_scheme; a secret in a query or a body needs an adapter"
        )


def _parsed(text: str, known: Collection[str]) -> _Pieces:
    """*text* in pieces; `{{` and `}}` are braces.

    Raises UsageError for what is in braces and no placeholder, and for a secret.
    """
    check_no_secret(text)
    pieces: list[str | _Place] = []
    for piece in _PIECES.findall(text):
        if piece in ("{{", "}}"):
            pieces.append(piece[0])
        elif piece[0] not in "{}":
            pieces.append(piece)
        elif match := _PLACE.fullmatch(piece):
            pieces.append(_checked(_Place(match["name"], bool(match["plus"]), bool(match["optional"])), piece, known))
        else:
            raise UsageError(f"has {piece!r}, which is no placeholder; a brace itself is written twice")
    return tuple(pieces)


def _checked(place: _Place, written: str, known: Collection[str]) -> _Place:
    if place.root not in known:
        hint = unknown(place.root, sorted(known)) if known else "there is nothing to put in here"
        raise UsageError(f"has the unknown placeholder {written}; {hint}")
    if place.root != "input" and place.root != place.name:
        raise UsageError(f"has the unknown placeholder {written}; {{{place.root}}} has no parts")
    return place


def _places(pieces: _Pieces) -> Iterator[_Place]:
    return (piece for piece in pieces if isinstance(piece, _Place))


def _in_path(place: _Place, values: Values) -> str:
    text = _plain(place, values)
    try:
        return "/".join(map(segment, text.split("/"))) if place.whole else segment(text)
    except UpstreamError:
        if place.root != "input":
            raise
    raise UsageError(f"the key {place.name.partition('.')[2]!r} of the input cannot be part of an address")


def _in_text(pieces: _Pieces, values: Values) -> str:
    return "".join(piece if isinstance(piece, str) else _plain(piece, values) for piece in pieces)


def _plain(place: _Place, values: Values) -> str:
    """What *place* stands for, as text. Raises UsageError where that is no single value."""
    value = place.value(values)
    if value is _MISSING:
        return ""
    if isinstance(value, dict | list):
        raise UsageError(f"the {place.name!r} of the request must be a single value, to stand within a text")
    return _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _has_value(pieces: _Pieces, values: Values) -> bool:
    return any(isinstance(piece, str) or piece.value(values) is not _MISSING for piece in pieces) or not pieces


def _parsed_body(body: object, known: Collection[str], depth: int) -> object:
    if depth == 0:
        raise UsageError(f"nests deeper than {_DEPTH} levels")
    match body:
        case str():
            return _parsed(body, known)
        case dict():
            items = cast("dict[str, object]", body).items()
            return {key: _parsed_body(value, known, depth - 1) for key, value in items}
        case list():
            return [_parsed_body(value, known, depth - 1) for value in cast("list[object]", body)]
        case float() if not math.isfinite(body):
            raise UsageError("holds a number that JSON does not have")
        case bool() | int() | float() | None:
            return body
        case _:
            raise UsageError(f"holds a {type(body).__name__}, which JSON does not have; write it as text")


def _places_within(body: object) -> Iterator[_Place]:
    match body:
        case tuple():
            yield from _places(cast(_Pieces, body))
        case dict():
            for value in cast("dict[str, object]", body).values():
                yield from _places_within(value)
        case list():
            for value in cast("list[object]", body):
                yield from _places_within(value)
        case _:
            pass


def _filled(body: object, values: Values) -> Any:
    match body:
        case tuple():
            pieces = cast(_Pieces, body)
            only = pieces[0] if len(pieces) == 1 else None
            return only.value(values) if isinstance(only, _Place) else _in_text(pieces, values)
        case dict():
            items = cast("dict[str, object]", body).items()
            filled = {key: _filled(value, values) for key, value in items}
            return {key: value for key, value in filled.items() if value is not _MISSING}
        case list():
            parts = (_filled(value, values) for value in cast("list[object]", body))
            return [part for part in parts if part is not _MISSING]
        case _:
            return body
