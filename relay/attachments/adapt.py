"""Anything that can receive records, as a sink: a plain callable that has done its work when it returns."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, TextIO, cast

from relay.attachments.options import SinkOptions
from relay.bus.callables import is_coroutine_function, refuse_no_sink
from relay.bus.subscription import Sink, name_of
from relay.errors import UsageError
from relay.events import Record
from relay.queue import Queued, Work
from relay.wire.log_record import log_record

__all__ = ["adapted", "as_sink"]

TOGETHER: Final = (256, 0.05)
"""How many records, and for how many seconds, are handed to a thread at once."""


def adapted(options: SinkOptions) -> Any:
    """The sink of *options* in a form that can receive records; raises UsageError if there is none.

    A durable sink that has `work` need not be callable: the work is awaited instead.
    """
    if options.durable and callable(getattr(options.sink, "work", None)):
        return options.sink
    sink = as_sink(options.sink)
    if options.durable and not callable(getattr(sink, "work", None)):
        raise UsageError(
            f"sink {options.name} cannot be durable, since it has no `work` that is awaited: put it behind sinks.Queued"
        )
    return sink


def as_sink(sink: object) -> Sink:
    """*sink* as a callable of one record.

    A coroutine function comes behind a queue. A text file gets the JSON line of each record, and a `logging.Handler` a
    log record, in a thread, since they may block. Raises UsageError for anything else that cannot be called with a
    record.
    """
    name = name_of(sink)
    match sink:
        case logging.Handler():
            return Queued(_to_handler(sink), batch=TOGETHER, name=name)
        case _ if not callable(sink) and callable(getattr(sink, "write", None)):
            return Queued(_to_file(cast(TextIO, sink)), batch=TOGETHER, name=name)
        case _ if is_coroutine_function(sink):
            return Queued(cast("Work", sink), name=name)
        case _:
            refuse_no_sink(sink, name)
            return cast(Sink, sink)


def _to_handler(handler: logging.Handler) -> Work:
    def handle(records: Sequence[Record]) -> None:
        for record in records:
            log = log_record(record)
            if log.levelno >= handler.level:
                handler.handle(log)

    async def work(records: Sequence[Record]) -> None:
        await asyncio.to_thread(handle, records)

    return work


def _to_file(file: TextIO) -> Work:
    def write(lines: str) -> None:
        file.write(lines)
        file.flush()

    async def work(records: Sequence[Record]) -> None:
        if getattr(file, "closed", False):
            raise UsageError("the file is closed")
        await asyncio.to_thread(write, "".join(f"{record.json.decode('ascii')}\n" for record in records))

    return work
