"""What the operator is to know about the relay itself, and how an error is put into one line."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    import asyncio

__all__ = ["INTERRUPTIONS", "Notify", "apart", "describe", "guarded", "interrupts", "notice", "redacted", "shown"]

Notify: TypeAlias = Callable[[str], None]
"""Receives a notice about the relay itself, for its operator: one line, about no job."""

INTERRUPTIONS: Final = (KeyboardInterrupt, SystemExit)
"""Exceptions that are no failure of the code that raises them, and are never held back."""

LONGEST: Final = 500


def notice(text: str) -> None:
    """Notify the operator through the standard `relay` logger, which goes to stderr unless it is configured."""
    logging.getLogger("relay").warning(text)


def guarded(notify: Notify) -> Notify:
    """*notify* with its failures isolated: an exception is dropped, and the text goes to the logger instead.

    Guarding twice does nothing more.
    """
    return notify if isinstance(notify, _Guarded) else _Guarded(notify)


def redacted(notify: Notify, redact: Callable[[str], str]) -> Notify:
    """*notify* with texts that went through *redact*: the error of a client's library may quote a URL's password."""
    return lambda text: notify(redact(text))


class _Guarded:
    def __init__(self, notify: Notify) -> None:
        self._notify = notify

    def __call__(self, text: str) -> None:
        try:
            self._notify(text)
        except INTERRUPTIONS:
            raise
        except BaseException as error:
            with suppress(Exception):
                notice(text)
                notice(f"notify failed on that: {describe(error)}")


def apart(act: Callable[[], object], what: str, notify: Notify = notice) -> None:
    """Call *act*, one of several like it: an exception is a notice that *what* failed, and the others go on."""
    try:
        act()
    except INTERRUPTIONS:
        raise
    except BaseException as error:
        notify(f"{what} failed: {describe(error)}")


def describe(error: BaseException) -> str:
    """An error in one line of at most LONGEST characters, also where its own text cannot be had."""
    name, words = type(error).__name__, _had(lambda: str(error))
    return _bounded(f"{name}: {words}".splitlines()[0] if words else name)


def shown(error: BaseException) -> str:
    """An error as it is written in code, in one line of at most LONGEST characters."""
    return _bounded(_had(lambda: repr(error)) or type(error).__name__)


def _had(text: Callable[[], str]) -> str:
    try:
        return text()
    except INTERRUPTIONS:
        raise
    except BaseException:
        return ""


def _bounded(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def interrupts(error: BaseException, task: "asyncio.Task[Any] | None") -> bool:
    """Whether *error*, which came out of an await in *task*, interrupts *task* rather than being a failure.

    That is Ctrl-C, an exit, a cancellation of *task* itself, and the end of a coroutine that is closed from outside. A
    CancelledError without a cancellation of *task* is a failure like any other.
    """
    import asyncio  # a command that only prints comes by here, and runs no event loop

    match error:
        case KeyboardInterrupt() | SystemExit():
            return True
        case asyncio.CancelledError():
            return task is not None and task.cancelling() > 0
        case GeneratorExit():
            return _current() is not task
        case _:
            return False


def _current() -> "asyncio.Task[Any] | None":
    import asyncio

    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
