"""Tables of a configuration as typed data. An error names the key and the expected value."""

import math
import re
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeAlias, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from relay.errors import ConfigError
from relay.hints import unknown
from relay.secret import Secret, find_reference, is_reference

__all__ = ["FromEnvironment", "ReadSecret", "TextOrSecret", "read_table", "seconds_in"]

T = TypeVar("T", bound=Struct)

ReadSecret = Callable[[str], Secret]
"""Turns a reference (`env:NAME`, `file:PATH`) into the secret it names."""

TextOrSecret: TypeAlias = Secret | str
"""A value that is a secret if it is written as a reference to one, and otherwise the text that it is."""

_REFERENCE: Final = '"env:NAME" or "file:PATH"'
_TEXT_OR_REFERENCE: Final = Meta(description=f"text, or {_REFERENCE}")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WITH_UNIT: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s?(ms|s|m|h|d)")


class FromEnvironment(Struct, frozen=True):
    """A value that comes from an environment variable, as text: it takes the place of the table's own."""

    variable: str
    text: str


def read_table(kind: type[T], table: object, where: str, read_secret: ReadSecret) -> T:
    """*table* as a *kind*; *where* is what messages call it.

    A float is a duration. Raises ConfigError for an unknown or missing key, and for a value that is not what it should.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table{_instead_of(table)}")
    # A key may be a word of Python, such as `from`: the field then has another name.
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in cast("dict[str, object]", table).items():
        if key not in known:
            raise ConfigError(f"{where} has an unknown key {key!r}; {unknown(key, known)}")
        values[known[key].name] = _read_value(known[key].type, value, f"{where} {key}", read_secret)
    for key, field in known.items():
        if field.required and field.name not in values:
            raise ConfigError(f"{where} needs the key {key!r}: {_expected(field.type)}")
    return kind(**values)


def _read_value(annotation: Any, value: object, name: str, read_secret: ReadSecret) -> object:
    from_environment = isinstance(value, FromEnvironment)
    if isinstance(value, FromEnvironment):
        name, value = value.variable, value.text
    annotation = _given(annotation)
    kind = _without_meta(annotation)
    if kind is Secret or (kind == TextOrSecret and (isinstance(value, Secret) or is_reference(value))):
        return _secret(value, name, read_secret)
    if kind == TextOrSecret:
        annotation = Annotated[(str, *getattr(annotation, "__metadata__", ()), _TEXT_OR_REFERENCE)]
        if isinstance(value, str) and (within := find_reference(value)) is not None:
            raise ConfigError(f"{name} has {within} as a part of it, which is sent as it stands; write it alone")
    if get_args(kind)[1:] == (TextOrSecret,):
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be {_expected(annotation)}{_instead_of(value)}")
        table = cast("dict[str, object]", value)
        return {key: _read_value(TextOrSecret, inner, f"{name}.{key}", read_secret) for key, inner in table.items()}
    if isinstance(kind, type) and issubclass(kind, Struct):
        return read_table(kind, value, name, read_secret)
    if kind is float and isinstance(value, str):
        value = _seconds(value, plain=from_environment)
    try:
        converted: object = msgspec.convert(value, annotation, strict=not from_environment)
    except msgspec.ValidationError:
        converted = None
    # NaN passes every bound, since it compares with nothing.
    if converted is None or (isinstance(converted, float) and not math.isfinite(converted)):
        raise ConfigError(f"{name} must be {_expected(annotation)}{_instead_of(value)}")
    return converted


def _secret(value: object, name: str, read_secret: ReadSecret) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be {_REFERENCE}{_instead_of(value)}")
    try:
        return read_secret(value)
    except ConfigError as error:
        raise ConfigError(f"{name} {error}") from None


def _seconds(text: str, *, plain: bool) -> float | str:
    """The seconds that *text* spells, or *text* itself where it spells none."""
    if (seconds := seconds_in(text)) is not None:
        return seconds
    if plain:
        try:
            return float(text)
        except ValueError:
            pass
    return text


def seconds_in(text: str) -> float | None:
    """The seconds that *text* spells with a unit, as in "500ms", "90s", "25m", "1h" or "7d"; None if it spells none."""
    match = _WITH_UNIT.fullmatch(text.strip())
    return float(match[1]) * _UNITS[match[2]] if match else None


def _given(annotation: Any) -> Any:
    """*annotation* without its None: TOML has no word for it, so what is given is the other."""
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        given, *others = (kind for kind in get_args(annotation) if kind is not NoneType)
        for kind in others:
            given = given | kind
        return given
    return annotation


def _without_meta(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _expected(annotation: Any) -> str:
    if annotation is Secret:
        return _REFERENCE
    described = (meta.description for meta in getattr(annotation, "__metadata__", ()) if isinstance(meta, Meta))
    return next(filter(None, described), f"of type {getattr(annotation, '__name__', annotation)}")


def _instead_of(value: object) -> str:
    """The value that was found; text is not repeated, since it may be a secret in the wrong place."""
    match value:
        case str():
            return ""
        case bool():
            return f", not {str(value).lower()}"
        case int() | float():
            return f", not {value}"[:40]
        case dict():
            return ", not a table"
        case list():
            return ", not a list"
        case _:
            return f", not a {type(value).__name__}"
