"""The laws of a sink, as a function that checks one."""

import asyncio
import inspect
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any, Final, cast

from relay import Record, UsageError
from relay.bus.subscription import name_of
from relay.testing.conformance.broken_law import BrokenLawError, NotExercisedError
from relay.testing.conformance.fast_forward_loop import HasteningLoop
from relay.testing.conformance.leftovers import of_the_executor
from relay.testing.conformance.sink_bench import Asked, Bench
from relay.testing.conformance.sink_calls import CALL_LAWS
from relay.testing.conformance.sink_content import CONTENT_LAWS
from relay.testing.conformance.sink_delivery import DELIVERY_LAWS
from relay.testing.conformance.sink_life import LIFE_LAWS
from relay.testing.conformance.sink_pressure import PRESSURE_LAWS
from relay.testing.conformance.sink_report import SinkReport

__all__ = ["SINK_LAWS", "check_sink"]

_LONGEST_LAW: Final = 86_400.0
_LAST_MOMENT: Final = 1.0

_LAWS: Final = (*DELIVERY_LAWS, *LIFE_LAWS, *PRESSURE_LAWS, *CONTENT_LAWS)

SINK_LAWS: Final = tuple(law.__name__ for law in (*CALL_LAWS, *_LAWS))
"""The names of all laws, in the order in which they are tried."""


def check_sink(
    sink: object,
    *,
    output: Callable[[], bytes] | None = None,
    far_end: Any = None,
    writes: Callable[[Record], bool] | None = None,
    canary: str | None = None,
    target: str | None = None,
    waive: Collection[str] = (),
    hasten: bool = True,
    patience: float = 10.0,
) -> SinkReport:
    """Hold a sink to every law that can be tried with what is given; return which were kept, and which not exercised.

    *sink* is a sink, or a class or function without arguments that makes one: then each law has a fresh one. It is
    bound, entered, called and left as a relay would.

    - *output* returns the bytes written so far: lines or JSON documents, in which records are found by their `job` and
      `seq`, or by a mark in their text. *writes* says which records the sink is to write, if that is not all of them.
    - *far_end* makes trouble by its methods `down`, `frozen`, `half_closed` and `cancelling`, as far as it has them,
      and ends it by `back`; its `written` is the *output* if none is given. One that is an async context manager is
      entered first. `ScriptedFarEnd` is one that needs no server.
    - *canary* is the secret that the sink was made with, and *target* the text that its repr has to name.
    - *waive* names laws that are not tried.

    Raises AssertionError for the first broken law, with its name, the outcome and the way out; UsageError for a law in
    *waive* that there is not.

    It runs an event loop of its own, on which waiting costs no time; with *hasten* false time is real there, for a far
    end in another process. *patience* is how many real seconds a thread of the sink may take to end. Inside a running
    loop it tries the laws of a call alone. A wait inside an extension module or for a disk is not seen.
    """
    _check_waived(waive)
    make, name = _maker(sink)
    written = output or getattr(far_end, "written", None)
    asked = Asked(
        make=make,
        name=name,
        output=cast("Callable[[], bytes] | None", written),
        far_end=far_end,
        writes=writes or _all,
        canary=canary,
        target=target,
        hasten=hasten,
        patience=patience,
    )
    check = _Check(asked, waive)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        check.run()
    else:
        check.calls()
        check.skip_rest("it was called inside a running event loop; call it from a test that is not async")
    return check.report()


class _Check:
    def __init__(self, asked: Asked, waive: Collection[str]) -> None:
        self._bench = Bench(asked)
        self._waive = waive
        self._kept: list[str] = []
        self._not_exercised: dict[str, str] = {}

    def report(self) -> SinkReport:
        order = {name: place for place, name in enumerate(SINK_LAWS)}
        missing = dict(sorted(self._not_exercised.items(), key=lambda item: order[item[0]]))
        return SinkReport(sink=self._bench.name, kept=tuple(self._kept), not_exercised=missing)

    def run(self) -> None:
        """Try all laws on a loop of their own."""
        loop = HasteningLoop(_threads_beyond()) if self._bench.asked.hasten else asyncio.SelectorEventLoop()
        loop.set_exception_handler(self._unhandled)
        with _closing(loop):
            loop.run_until_complete(self._all())

    def calls(self) -> None:
        """Try the laws of a call, without entering the sink."""
        for law in CALL_LAWS:
            self._one(law.__name__, lambda law=law: law(self._bench.made()))  # type: ignore[misc]

    def skip_rest(self, reason: str) -> None:
        """List what has not been tried."""
        self._not_exercised |= {law.__name__: reason for law in _LAWS}

    async def _all(self) -> None:
        with self._bench.listening():
            async with _entered(self._bench.asked.far_end):
                for law in CALL_LAWS:
                    await self._one_of(law.__name__, partial(self._entered_call, law))
                for entire in _LAWS:
                    await self._one_of(entire.__name__, partial(entire, self._bench))

    async def _entered_call(self, law: Callable[[Any], None]) -> None:
        if law is CALL_LAWS[0]:
            law(self._bench.made())
            return
        async with self._bench.opened() as trial:
            law(trial)

    async def _one_of(self, name: str, law: Callable[[], Any]) -> None:
        if name in self._waive:
            self._not_exercised[name] = "it was waived"
            return
        await self._bench.peace()
        try:
            async with asyncio.timeout(_LONGEST_LAW):
                await law()
        except TimeoutError as error:
            raise BrokenLawError(f"{self._bench.name} breaks the law {name!r}: it never came to an end") from error
        except NotExercisedError as missing:
            self._not_exercised[name] = str(missing)
        except BrokenLawError as broken:
            raise self._named(name, broken) from broken.__cause__
        else:
            self._kept.append(name)

    def _one(self, name: str, law: Callable[[], None]) -> None:
        if name in self._waive:
            self._not_exercised[name] = "it was waived"
            return
        try:
            law()
        except BrokenLawError as broken:
            raise self._named(name, broken) from broken.__cause__
        self._kept.append(name)

    def _named(self, law: str, broken: BrokenLawError) -> BrokenLawError:
        canary = self._bench.asked.canary
        sentence = f"{self._bench.name} breaks the law {law!r}: {broken}"
        return BrokenLawError(sentence.replace(canary, "***") if canary else sentence)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep an error that nobody awaited: the loop would print it with a traceback."""
        error = context.get("exception")
        trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
        self._bench.log.append(f"{context.get('message')}\n{trace}")


def _check_waived(waive: Collection[str]) -> None:
    for name in [waive] if isinstance(waive, str) else waive:
        if name not in SINK_LAWS:
            near = get_close_matches(name, SINK_LAWS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "relay.testing.SINK_LAWS has their names"
            raise UsageError(f"no law is called {name!r}; {hint}")
    if isinstance(waive, str):
        raise UsageError(f"waive is a collection of laws: write waive=[{waive!r}]")


def _maker(sink: Any) -> tuple[Callable[[], Any], str]:
    """How to make what *sink* is or makes, and what to call it until it is made."""
    called = sink
    while isinstance(called, partial):
        called = called.func
    if inspect.isclass(called) or _takes_nothing(sink):
        return sink, name_of(sink)
    return lambda: sink, name_of(sink)


def _takes_nothing(called: Any) -> bool:
    """Whether *called* makes a sink: it can be called without a record, and cannot be called with one."""
    try:
        signature = inspect.signature(called)
        signature.bind()
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(None)
    except TypeError:
        return True
    return False


def _threads_beyond() -> Callable[[], bool]:
    """A function that returns whether a thread runs that did not before: it may be at work, so time is not skipped."""
    before = set(threading.enumerate())
    return lambda: any(not of_the_executor(thread) for thread in set(threading.enumerate()) - before)


@asynccontextmanager
async def _entered(far_end: Any) -> AsyncGenerator[None]:
    if hasattr(far_end, "__aenter__") and hasattr(far_end, "__aexit__"):
        async with far_end:
            yield
    else:
        yield


@contextmanager
def _closing(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Close *loop* at the end, also over tasks that ignore their cancellation."""
    try:
        yield
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_LAST_MOMENT))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _all(_: Record) -> bool:
    return True
