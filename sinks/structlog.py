"""A bridge to the structlog configuration of the program, whatever its processors make of it."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Self

import msgspec
import structlog
from msgspec import Meta, Struct

from relay.events import LEVELS, Level, Record
from relay.queue import Undeliverable
from sinks._in_thread import InThread

__all__ = ["StructlogSettings", "StructlogSink"]

_ANYWAY: Final = frozenset({"v", "level", "text", "event"})
"""Fields of a record that are the method and the event of its entry, or of no use in a log."""

_RESULT: Final = frozenset({"urls", "result"})


class StructlogSettings(Struct, frozen=True, kw_only=True):
    """Records as entries of structlog, with the configuration of the program."""

    kind: ClassVar[str] = "structlog"

    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "info"
    results: Annotated[bool, Meta(description="true or false")] = False


class StructlogSink(InThread):
    """Logs each record with structlog: the text is the event, and the fields of the record on the wire are keys.

    *logger* is `structlog.get_logger()` by default, so the program's own processors make the entry. They run in a
    thread, and may block. The addresses and the value of a result are left out unless *results* is true: a signed
    address is itself a secret, and logs are read by many.
    """

    settings: ClassVar[type[StructlogSettings]] = StructlogSettings

    @classmethod
    def from_settings(cls, settings: StructlogSettings) -> Self:
        """The bridge of one table of [[sinks]]."""
        return cls(results=settings.results)

    def __init__(self, logger: Any = None, *, results: bool = False, **options: Any) -> None:
        """*options* are those of `Queued`."""
        self._logger: Any = structlog.get_logger() if logger is None else logger
        self._without = _ANYWAY if results else _ANYWAY | _RESULT
        known: dict[str, Any] = {"name": "structlog", **options}
        super().__init__(self._log, **known)

    def _log(self, record: Record) -> None:
        # As on the wire, so that every renderer can encode it: a figure that is not finite is null there.
        fields = msgspec.json.decode(record.json, type=dict[str, Any])
        method: Callable[..., object] = getattr(self._logger, record.event.level)
        made = method(record.event.text, **{name: fields[name] for name in fields if name not in self._without})
        if inspect.iscoroutine(made):
            made.close()
            raise Undeliverable("the logger is asynchronous; give a plain one, which runs in a thread anyway")
