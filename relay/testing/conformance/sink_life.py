"""The laws of a life: a sink is entered and left, again and again, and leaves nothing behind."""

import asyncio
import inspect
from typing import Any, Final

from relay.testing.conformance.broken_law import BrokenLawError, NotExercisedError
from relay.testing.conformance.leftovers import Leftovers
from relay.testing.conformance.sink_bench import Bench
from relay.testing.conformance.sink_trial import RECOVERED_WITHIN, turns

__all__ = ["LEAVE_WITHIN", "LIFE_LAWS"]

LEAVE_WITHIN: Final = 5.0
"""Seconds that the relay gives all sinks together to close."""

IDLE_WITHIN: Final = 0.5
"""Seconds of waiting, none of work, that leaving an idle sink may take."""

FEW: Final = 20
MANY: Final = 500


async def reentered(bench: Bench) -> None:
    """It is entered and left twice in a row, and works each time: the supervisor enters it again after a death."""
    trial = bench.made()
    trial.must_be_managed()
    for turn in ("first", "second"):
        await trial.enter()
        story = bench.story(bench.job(), FEW)
        trial.hand(*story)
        await trial.leave()
        if bench.asked.output is None:
            continue
        if lost := trial.missing(story):
            raise BrokenLawError(f"the {turn} time that it was entered, {len(lost)} of {FEW} records did not arrive")


async def closed_twice(bench: Bench) -> None:
    """Closing it twice, also while it closes, is no error."""
    trial = bench.made()
    close = getattr(trial.sink, "aclose", None) or getattr(trial.sink, "close", None)
    if not callable(close):
        raise NotExercisedError("the sink has neither close() nor aclose()")
    await trial.enter()
    trial.hand(*bench.story(bench.job(), FEW))
    closing = [_closed(close), _closed(close)]
    for error in await asyncio.gather(*closing, return_exceptions=True):
        if error is not None:
            raise BrokenLawError(f"closing it twice at a time raised {error!r}") from error
    if (error := await _error_of(_closed(close))) is not None:
        raise BrokenLawError(f"closing it again raised {error!r}") from error
    await trial.leave()


async def close_cancelled(bench: Bench) -> None:
    """A leave that is cancelled closes it all the same."""
    before = Leftovers.now()
    trial = bench.made()
    trial.must_be_managed()
    left = asyncio.Event()

    async def live() -> None:
        await trial.enter()
        trial.hand(*bench.story(bench.job(), FEW))
        left.set()
        await trial.sink.__aexit__(None, None, None)

    life = asyncio.create_task(live(), name="a life that is cancelled")
    await left.wait()
    await turns(1)
    if life.done():
        await life
        raise NotExercisedError("leaving the sink suspends nowhere, so it cannot be cancelled")
    life.cancel()
    await asyncio.wait([life], timeout=60.0)
    await bench.peace()
    if rest := await trial.nothing_left(before):
        raise BrokenLawError(f"its leave was cancelled, and {rest} is left; close in a `finally`")


async def enter_cancelled(bench: Bench) -> None:
    """An enter that is cancelled releases what it had."""
    before = Leftovers.now()
    trial = bench.made()
    trial.must_be_managed()
    life = asyncio.create_task(trial.sink.__aenter__(), name="an enter that is cancelled")
    await turns(1)
    if life.done():
        await life
        await trial.leave()
        raise NotExercisedError("entering the sink suspends nowhere, so it cannot be cancelled")
    life.cancel()
    await asyncio.wait([life], timeout=60.0)
    if life.done() and not life.cancelled() and life.exception() is None:
        await trial.leave()
    if rest := await trial.nothing_left(before):
        raise BrokenLawError(f"entering it was cancelled, and {rest} is left; release it where __aenter__ fails")


async def enter_failed(bench: Bench) -> None:
    """An enter that fails releases what it had: the relay does not leave what it could not enter."""
    bench.must_make("down")
    before = Leftovers.now()
    await bench.trouble("down")
    trial = bench.made()
    trial.must_be_managed()
    try:
        await trial.enter()
    except BrokenLawError:
        if rest := await trial.nothing_left(before):
            raise BrokenLawError(
                f"its far end was down, so entering it failed, and {rest} is left; release it where __aenter__ fails"
            ) from None
        return
    await bench.peace()
    await trial.leave()


async def idle(bench: Bench) -> None:
    """Leaving a sink that has nothing to do takes no time: closing wakes a worker that waits."""
    if not bench.asked.hasten:
        raise NotExercisedError("with hasten=False seconds are real, and a busy machine takes some by itself")
    trial = bench.made()
    trial.must_be_managed()
    await trial.enter()
    trial.hand(*bench.story(bench.job(), FEW))
    await turns()
    await trial.until(lambda: trial.at_rest, RECOVERED_WITHIN)
    loop: Any = asyncio.get_running_loop()
    skipped = loop.skipped
    await trial.leave()
    if (waited := loop.skipped - skipped) > IDLE_WITHIN:
        raise BrokenLawError(
            f"leaving it took {waited:.1f} s of waiting, with nothing to do; wake the worker that waits for records"
        )


async def leftovers(bench: Bench) -> None:
    """Once it was left, no task, thread, descriptor or signal handler of it is there."""
    before = Leftovers.now()
    async with bench.opened() as trial:
        trial.must_be_managed()
        trial.hand(*bench.story(bench.job(), FEW))
    if rest := await trial.nothing_left(before):
        raise BrokenLawError(f"it was left, and {rest} is still there")


async def frozen_leave(bench: Bench) -> None:
    """Leaving it is bounded, also while the far end answers nothing."""
    bench.must_make("frozen")
    trial = await bench.frozen(managed=True)
    trial.hand(*bench.story(bench.job(), FEW))
    await turns()
    try:
        await trial.leave()
    except BrokenLawError as broken:
        await bench.peace()
        raise BrokenLawError(f"while its far end is frozen, {broken}") from broken.__cause__
    await bench.peace()
    if trial.left_after is not None and trial.left_after > LEAVE_WITHIN:
        raise BrokenLawError(
            f"while its far end is frozen, leaving it took {trial.left_after:.1f} s;"
            f" the relay waits {LEAVE_WITHIN:g} s for all sinks"
        )


async def cancelled_send(bench: Bench) -> None:
    """A leave that cuts off a send leaves it in order: entered again, it works."""
    bench.must_make("frozen")
    bench.output()
    trial = await bench.frozen(managed=True)
    trial.hand(*bench.story(bench.job(), FEW))
    await turns()
    await trial.leave()
    await bench.peace()
    await trial.enter()
    story = bench.story(bench.job(), FEW)
    trial.hand(*story)
    await trial.leave()
    if lost := trial.missing(story):
        raise BrokenLawError(f"a send was cut off by its leave; entered again, it lost {len(lost)} of {FEW} records")


async def drains(bench: Bench) -> None:
    """All that it has accepted is delivered by the time it was left, or reported as not delivered."""
    async with bench.opened() as trial:
        trial.must_be_managed()
        trial.hand(*bench.story(bench.job(), MANY))
    lost = len(trial.missing())
    if lost > trial.reported() and f"{lost:,}" not in trial.spoken:
        raise BrokenLawError(
            f"{lost} of {MANY} records were accepted, and neither written nor counted as lost when it was left"
        )


LIFE_LAWS: Final = (
    *(reentered, leftovers, closed_twice, close_cancelled, enter_cancelled, enter_failed, idle, frozen_leave),
    *(cancelled_send, drains),
)


async def _closed(close: Any) -> None:
    if inspect.iscoroutinefunction(close):
        await close()
    else:
        # It may wait for an output, as its users know; on the loop that would hold up everything.
        await asyncio.to_thread(close)


async def _error_of(work: Any) -> BaseException | None:
    try:
        await work
    except Exception as error:
        return error
    return None
