"""A coroutine that may have nothing to wait for, run without a task."""

from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["WaitsError", "at_once"]

T = TypeVar("T")


class WaitsError(Exception):
    """The coroutine waits for something."""


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of *coroutine*, which is given up at its first wait. Raises WaitsError then.

    It has no task: it may not use `asyncio.timeout`.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise WaitsError
