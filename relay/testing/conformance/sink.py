"""The laws of a sink, as a function that checks one."""

import asyncio
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import CodeType, FrameType
from typing import Any, Final, cast

from relay import Record, Sink, UsageError
from relay.bus.callables import is_asynchronous, never_awaited
from relay.bus.subscription import name_of
from relay.notices import INTERRUPTIONS, apart
from relay.testing.conformance.samples import hostile_records, sample_records

__all__ = ["check_sink"]

_WAY_OUT: Final = "hand the record to a queue, and let a task or thread of its own do the rest"
_NEVER_AWAITED: Final = f"and a sink is never awaited: {_WAY_OUT}"


def check_sink(sink: Sink) -> None:
    """Hand *sink* every type of event, harmless and hostile, in order, and something that is no record in between.

    Raises AssertionError with a sentence for a sink that raises on a record, that has to be awaited, or that waits: it
    is caught as it begins to sleep, to use the network, or to wait for a thread. A wait inside an extension module
    or for a disk is not seen, and the sink's use of the records is not checked: write tests of your own for that.

    It needs no test runner. Without a running event loop it runs one, and enters and leaves a sink that is an async
    context manager. Inside a running loop it does neither: enter the sink before.
    """
    if not callable(sink):
        raise AssertionError(f"{name_of(sink)} is no sink: a sink is called with one record")
    if is_asynchronous(sink):
        raise AssertionError(f"{name_of(sink)} is a coroutine function, {_NEVER_AWAITED}")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_enter_and_check(sink))
    else:
        _check(sink)


async def _enter_and_check(sink: Sink) -> None:
    async with AsyncExitStack() as stack:
        if hasattr(sink, "__aenter__") and hasattr(sink, "__aexit__"):
            await stack.enter_async_context(cast("AbstractAsyncContextManager[object]", sink))
        _check(sink)


def _check(sink: Sink) -> None:
    for record in sample_records():
        _hand_over(sink, record, "a sink takes every record")
    # The sink may do anything with this; the next record is like any other.
    apart(lambda: sink(cast(Record, object())), "a sink", notify=lambda _: None)
    for record in hostile_records():
        _hand_over(sink, record, "a sink takes every record, also after an error and whatever the text")


def _hand_over(sink: Sink, record: Record, law: str) -> None:
    what = f"{record.event.type!r} record ({record.job} seq {record.seq})"
    watch = _Watch()
    try:
        result = watch.run(lambda: sink(record))
    except INTERRUPTIONS:
        raise
    except BaseException as error:
        if not watch.seen:
            raise AssertionError(f"{name_of(sink)} raised {error!r} on the {what}: {law}") from error
        result = None
    if watch.seen:
        raise AssertionError(f"{name_of(sink)} waits on the {what}, in {watch.seen[0]}; a sink must not: {_WAY_OUT}")
    try:
        never_awaited(result, name_of(sink))
    except UsageError:
        raise AssertionError(f"{name_of(sink)} returned an awaitable on the {what}, {_NEVER_AWAITED}") from None


class _Watch:
    """Runs a function and stops it where it begins to wait.

    It looks at what is called, not at how long that takes: a busy machine changes nothing.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []

    def run(self, function: Callable[[], object]) -> object:
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            return function()
        finally:
            sys.setprofile(before)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call" and frame.f_code in _WAITING_CODE and not _is_starting_a_thread(frame):
            self._stop(f"threading.{frame.f_code.co_qualname}")
        elif event == "c_call" and _waits(called):
            self._stop(f"{called.__module__}.{called.__qualname__}" if called.__module__ else called.__qualname__)

    def _stop(self, what: str) -> None:
        self.seen.append(what)
        raise RuntimeError(f"a sink may not wait, and {what} does")


_WAITING_CODE: Final[frozenset[CodeType]] = frozenset(
    function.__code__ for function in (threading.Condition.wait, threading.Thread.join)
)
_WAITING_CALLS: Final[tuple[object, ...]] = (time.sleep, select.select, os.waitpid)
_WAITING_METHODS: Final = frozenset({"accept", "connect", "recv", "recv_into", "recvfrom", "sendall"})


def _waits(called: Any) -> bool:
    owner: object = getattr(called, "__self__", None)
    if isinstance(owner, socket.socket):
        return called.__name__ in _WAITING_METHODS and owner.gettimeout() != 0
    return called in _WAITING_CALLS or called.__name__ == "getaddrinfo" or called.__qualname__.endswith("poll.poll")


def _is_starting_a_thread(frame: FrameType | None) -> bool:
    """`Thread.start` waits until the thread runs, which it does at once."""
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False
