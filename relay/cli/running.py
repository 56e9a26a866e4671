"""Running on an event loop until the work is done or a signal ends it."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from relay.cli import say
from relay.cli.loops import LoopName, loop_factory
from relay.cli.terminal import has_terminal
from relay.events import Record
from relay.notices import apart
from relay.supervision.supervisor import stop as stop_tasks

if TYPE_CHECKING:
    from relay import Bus, Job

__all__ = ["ended", "first_of", "reopening", "run"]

LAST_MOMENT: Final = 3.0
"""Seconds that what was cancelled at the very end has to clean up."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_HANGUP: Final[signal.Signals | None] = getattr(signal, "SIGHUP", None)
"""The signal of a terminal that is closed; Windows has none."""


def run(work: Callable[[asyncio.Event], Coroutine[Any, Any, int]], loop: LoopName = "asyncio") -> int:
    """Run *work* to its end on an event loop of the kind *loop*, and return its exit status.

    The first Ctrl-C, SIGTERM or SIGHUP sets the event that *work* is given: it is to end in order. Another Ctrl-C or
    SIGTERM ends the process at once; another SIGHUP does not, as a terminal that is closed sends more than one. A
    SIGHUP that was ignored at the start, as under nohup, stays ignored. See `reopening` for a SIGHUP that ends nothing.
    Raises UsageError where that loop is not installed.
    """
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        return runner.run(_run(work))


async def _run(work: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    stop = asyncio.Event()
    with _woken_by_signals(), _signals(stop):
        status = await work(stop)
        await _end_with(status)
        return status


async def _end_with(status: int) -> None:
    """End what still runs. What refuses to be cancelled would hold up the end for ever, so the process ends over it."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if late := await stop_tasks(others, LAST_MOMENT):
        say(f"the relay ends, though this does not: {', '.join(late)}")
        logging.shutdown()
        os._exit(status)


@contextmanager
def _woken_by_signals() -> Generator[None]:
    """Let a signal wake the loop, also where it comes while another thread runs, or as the loop begins to wait.

    Python calls a handler between two instructions of its main thread, and asyncio's loop has none while it waits.
    uvloop, and the loop of Windows, see to it themselves.
    """
    loop = asyncio.get_running_loop()
    woken, waking = socket.socketpair()
    with woken, waking:
        for end in (woken, waking):
            end.setblocking(False)
        before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
            yield
            return

        def drain() -> None:
            with suppress(BlockingIOError):
                woken.recv(4_096)

        loop.add_reader(woken, drain)
        try:
            yield
        finally:
            loop.remove_reader(woken)
            signal.set_wakeup_fd(-1)


@contextmanager
def _signals(stop: asyncio.Event) -> Generator[None]:
    loop = asyncio.get_running_loop()

    def begin_to_stop(_number: int, _frame: FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if _HANGUP is not None:
            signal.signal(_HANGUP, signal.SIG_IGN)
        loop.call_soon_threadsafe(stop.set)

    hangups = [] if _HANGUP is None or signal.getsignal(_HANGUP) is signal.SIG_IGN else [_HANGUP]
    before = {number: signal.signal(number, begin_to_stop) for number in [*_SIGNALS, *hangups]}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def reopening(
    sinks: Callable[[], Iterable[object]], reload: Callable[[], object] | None = None, *, ends: bool = True
) -> Generator[None]:
    """Let SIGHUP call `reopen` of each of *sinks* that has it, as a rotation of log files by another program expects.

    It calls *reload* too, which reads a configuration again. It is as before if there is neither, unless it *ends*
    nothing then, and if it is the terminal of this process that was closed; a SIGHUP that was ignored at the start
    stays ignored.
    """
    before = signal.getsignal(_HANGUP) if _HANGUP is not None else None
    if _HANGUP is None or not callable(before):
        yield
        return
    loop, in_a_terminal = asyncio.get_running_loop(), has_terminal()

    def reopen(number: int, frame: FrameType | None) -> None:
        reopens = [one for sink in sinks() if callable(one := getattr(sink, "reopen", None))]
        if (ends and not (reopens or reload)) or (in_a_terminal and not has_terminal()):
            before(number, frame)
        for one in reopens:
            loop.call_soon_threadsafe(apart, one, "opening the file of a sink again")
        if reload is not None:
            loop.call_soon_threadsafe(apart, reload, "reading [access] again")

    signal.signal(_HANGUP, reopen)
    try:
        yield
    finally:
        if signal.getsignal(_HANGUP) is reopen:  # it is ignored once the command is ending
            signal.signal(_HANGUP, before)


async def first_of(*events: asyncio.Event) -> None:
    """Return when one of *events* is set."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def ended(bus: "Bus", jobs: "Iterable[Job]") -> Generator[asyncio.Event]:
    """An event that is set when all *jobs* have ended."""
    running = {job.id: job for job in jobs}
    reached = asyncio.Event()

    def hear(record: Record) -> None:
        if record.terminal:
            running.pop(record.job, None)
        if not running:
            reached.set()

    with bus.subscribe(hear, list(running.values()), after=0):
        yield reached
