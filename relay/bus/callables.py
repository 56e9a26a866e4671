"""What a sink has to be: a plain callable, which has done its work when it returns."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, cast

from relay.errors import UsageError

__all__ = ["is_asynchronous", "is_coroutine_function", "never_awaited", "refuse_no_sink"]

_WAY_OUT: Final = (
    "put it behind a queue: sinks.Queued(work) awaits work(record) (docs/how-to/write-a-sink.md, With slow work)"
)


def is_asynchronous(called: object) -> bool:
    """Whether calling *called* does no more than make a coroutine or a generator, which nobody would run."""
    return is_coroutine_function(called) or _is_one_of(
        (inspect.isasyncgenfunction, inspect.isgeneratorfunction), called
    )


def is_coroutine_function(called: object) -> bool:
    """Whether what *called* returns is to be awaited."""
    return _is_one_of((inspect.iscoroutinefunction,), called)


def _is_one_of(kinds: Iterable[Callable[[object], bool]], called: object) -> bool:
    while isinstance(called, partial):
        called = cast("partial[object]", called).func
    candidates = [called] if inspect.isroutine(called) else [called, getattr(type(called), "__call__", None)]  # noqa: B004
    return any(kind(candidate) for kind in kinds for candidate in candidates)


def refuse_no_sink(sink: object, name: str) -> None:
    """Raise UsageError where *sink* cannot be called with a record, or what it returns would have to be awaited."""
    if not callable(sink):
        raise UsageError(f"{name} is no sink: a sink is called with one record")
    if is_asynchronous(sink):
        raise UsageError(f"{name} is asynchronous, and a sink is never awaited: {_WAY_OUT}")


def never_awaited(result: object, name: str) -> None:
    """Raise UsageError where a sink has returned something to be awaited or run; a coroutine is closed."""
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
    elif not (inspect.isawaitable(result) or inspect.isasyncgen(result)):
        return
    raise UsageError(f"{name} returned an awaitable, and a sink is never awaited: {_WAY_OUT}")
