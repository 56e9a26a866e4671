"""Standard error of a command: one line for each message, and no secret in any, nor in a traceback."""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from relay.text import inert

__all__ = ["diagnostics", "drop", "hide", "say", "say_traceback"]

_redactors: list[Callable[[str], str]] = []
"""The redactor of this command's configuration, once that is read."""


def hide(redact: Callable[[str], str]) -> None:
    """From now on, until the command ends, everything on standard error goes through *redact*."""
    _redactors[:] = [redact]


def say(message: str) -> None:
    """Print *message*, which is the command's own, as one line on stderr: standard output is for records.

    The reader may have gone.
    """
    for redact in _redactors:  # none before a configuration is read: there is no secret that it could hold
        message = redact(message)
    _print(f"relay: {inert(' '.join(message.split()))}")


def say_traceback(error: BaseException) -> None:
    """Print the traceback of *error*, line by line, with no secret in it and nothing that acts on a terminal."""
    lines = _redacted("".join(traceback.format_exception(error))).splitlines()
    _print("\n".join(map(inert, lines)))


@contextmanager
def diagnostics() -> Generator[None]:
    """Print the relay's notices, and whatever else is logged or goes wrong in this process, to its operator."""
    logger, handler = logging.getLogger(), _ToStderr(logging.WARNING)
    hooks = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = _in_a_thread, _unraisable
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        threading.excepthook, sys.unraisablehook = hooks
        _redactors.clear()


def drop(output: TextIO) -> None:
    """Let nothing more of *output* fail: Python flushes its buffer at the end, and a failure there is status 120."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), output.fileno())


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(_redacted(record.getMessage()))
        if record.exc_info and record.exc_info[1] is not None:
            say_traceback(record.exc_info[1])


def _in_a_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
        say(f"the thread {failure.thread.name if failure.thread is not None else ''} has failed")
        say_traceback(failure.exc_value)


def _unraisable(failure: Any) -> None:
    say(_redacted(failure.err_msg or "an exception was ignored"))
    if failure.exc_value is not None:
        say_traceback(failure.exc_value)


def _redacted(text: str) -> str:
    """*text* of somebody else's, without secrets: those that look like one, where no configuration is read."""
    if not _redactors:
        # Imported when there is something to say: help is printed at once.
        from relay.wire.redactor import Redactor

        return Redactor()(text)
    return _redactors[0](text)


def _print(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:
        drop(sys.stderr)
