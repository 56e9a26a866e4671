"""Which secrets a configuration has, and what masks them in everything that leaves the process."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from relay.config.settings import JournalSettings, Settings
from relay.secret import NO_SECRET, Secret
from relay.wire.addresses import secret_parts
from relay.wire.redactor import Redactor

__all__ = ["redactor_of", "secrets_in"]


def redactor_of(settings: Settings) -> Redactor:
    """What masks the secrets of *settings*, and whatever the patterns of [redact] match."""
    return Redactor(_hidden_in(settings), settings.redact.patterns)


def _hidden_in(settings: Settings) -> Iterator[str]:
    """The texts that nothing may show. Settings of a sink may have a method `hidden`, which names them for it."""
    yield from secret_parts(settings.journal.reveal())
    whole: list[object] = [replace(settings, sinks=(), journal=JournalSettings())]
    for sink in settings.sinks:
        if callable(hidden := getattr(sink.settings, "hidden", None)):
            yield from cast("Iterable[str]", hidden())
        else:
            whole.append(sink)
    yield from (secret.reveal() for secret in secrets_in(whole))


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
