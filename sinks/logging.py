"""A bridge to the standard library's logging, for programs whose logs go elsewhere."""

import logging
import logging.config
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from msgspec import Meta, Struct

from relay.errors import UsageError
from relay.events import LEVELS, Level, Record
from relay.wire.log_record import LOGGER, log_record
from sinks._in_thread import InThread

__all__ = ["LoggingSettings", "LoggingSink"]

NOTICES = "relay"
"""The logger of the operator's notices, which may be about this very sink."""


class LoggingSettings(Struct, frozen=True, kw_only=True):
    """Records as log records of the standard library, with the text as message."""

    kind: ClassVar[str] = "logging"

    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "info"
    logger: Annotated[str, Meta(min_length=1, max_length=200, description="the name of a logger")] = LOGGER
    config: Annotated[str, Meta(description="the path of a TOML file for logging.config.dictConfig")] | None = None


class LoggingSink(InThread):
    """Logs each record with the standard library: its text is the message; `job`, `seq` and `type` are attributes.

    A record is logged with the level and the time that it has, by *logger*, whose handlers run in a thread: they may
    block. One that raises is tried again, with the same record. The logger `relay` is refused: it has the operator's
    notices, and one about a handler that fails would go to that handler.
    """

    settings: ClassVar[type[LoggingSettings]] = LoggingSettings

    @classmethod
    def from_settings(cls, settings: LoggingSettings) -> Self:
        """The bridge of one table of [[sinks]], with the handlers of its file `config`. Raises UsageError."""
        if settings.config is not None:
            _configure(Path(settings.config))
        return cls(settings.logger)

    def __init__(self, logger: str | logging.Logger = LOGGER, **options: Any) -> None:
        """*options* are those of `Queued`. Raises UsageError for the logger of the notices."""
        found = logging.getLogger(logger) if isinstance(logger, str) else logger
        if found.name == NOTICES:
            raise UsageError(f"the logger {NOTICES!r} has the relay's own notices; use {LOGGER!r}, or one of your own")
        self._logger = found
        known: dict[str, Any] = {"name": "logging", **options}
        super().__init__(self._log, **known)

    def __repr__(self) -> str:
        return f"LoggingSink({self._logger.name!r})"

    def _log(self, record: Record) -> None:
        log = log_record(record, self._logger.name)
        if self._logger.isEnabledFor(log.levelno):
            self._logger.handle(log)


def _configure(path: Path) -> None:
    """Apply the file at *path*. Other loggers stay as they are, unless it says otherwise."""
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **document})
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise UsageError(f"{path} cannot configure logging: {error}") from None
