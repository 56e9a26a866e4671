"""A record as the standard library's logging has it."""

import logging
from typing import Final

from relay.events import Record

__all__ = ["LOGGER", "log_record"]

LOGGER: Final = "relay.records"
"""The name that log records carry: not the logger of the operator's notices, so that no handler answers itself."""

_NUMBERS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def log_record(record: Record, name: str = LOGGER) -> logging.LogRecord:
    """*record* as a log record of the logger *name*: its text as the message; `job`, `seq` and `type` beside it."""
    log = logging.LogRecord(
        name, _NUMBERS[record.event.level], pathname="", lineno=0, msg=record.event.text, args=None, exc_info=None
    )
    log.created = record.at.timestamp()
    log.msecs = record.at.microsecond // 1000
    log.job, log.seq, log.type = record.job, record.seq, record.event.type
    return log
