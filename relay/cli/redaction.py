"""Which secrets a configuration has, and what masks them in everything that leaves the process."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from msgspec import Struct

from relay.config.settings import Settings
from relay.secret import NO_SECRET, Secret
from relay.wire.redactor import Redactor

__all__ = ["redactor_of", "secrets_in"]


def redactor_of(settings: Settings) -> Redactor:
    """What masks the secrets of *settings*, and whatever the patterns of [redact] match."""
    return Redactor((secret.reveal() for secret in secrets_in(settings)), settings.redact.patterns)


def secrets_in(value: object) -> Iterator[Secret]:
    """Every secret in *value*: settings, or a part of them."""
    match value:
        case Secret():
            if value is not NO_SECRET:
                yield value
        case dict():
            for inner in cast("dict[str, Any]", value).values():
                yield from secrets_in(inner)
        case list() | tuple():
            for inner in cast("Sequence[Any]", value):
                yield from secrets_in(inner)
        case Struct():
            for key in value.__struct_fields__:
                yield from secrets_in(getattr(value, key))
        case _:
            pass
