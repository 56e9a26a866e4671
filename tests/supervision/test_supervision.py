"""A task that lasts as long as the relay does: when it dies, the operator hears of it, and it is started again."""

import asyncio
from collections.abc import Callable

import pytest

from relay.supervision.supervisor import LONGEST_WAIT, STEADY, Supervisor
from relay.testing import ManualClock


class Panic(BaseException):
    """As pyo3's PanicException, which is no Exception."""


class Dies:
    """Work that dies with *error* each time it is started, after *lasting* seconds; notes when it was started."""

    def __init__(self, clock: ManualClock, error: Callable[[], BaseException], lasting: float = 0.0) -> None:
        self.started: list[float] = []
        self._clock = clock
        self._error = error
        self._lasting = lasting

    async def __call__(self) -> None:
        self.started.append(self._clock.monotonic())
        await self._clock.sleep(self._lasting)
        raise self._error()


def cancels_itself() -> BaseException:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return asyncio.CancelledError()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (lambda: ValueError("two\nlines"), "ValueError: two"),
        (lambda: Panic("index out of bounds"), "Panic: index out of bounds"),
        (asyncio.CancelledError, "a cancellation without a request"),
        (cancels_itself, "a cancellation without a request"),
        (GeneratorExit, "GeneratorExit"),
    ],
    ids=["error", "panic", "cancelled error", "own cancellation", "generator exit"],
)
async def test_whatever_a_task_dies_of_is_a_notice_and_it_is_started_again_later_each_time(
    clock: ManualClock, notices: list[str], error: Callable[[], BaseException], cause: str
) -> None:
    supervisor, work = Supervisor(clock, notices.append), Dies(clock, error)

    kept = supervisor.start("the poller of sora", work)
    await clock.advance(100.0)
    kept.cancel()
    await asyncio.wait([kept])

    assert work.started == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0]
    assert notices == [
        f"the poller of sora broke off with {cause}; it is started again in {wait} s"
        for wait in (1, 2, 4, 8, 16, 32, 60)
    ]
    assert kept.cancelled()


async def test_it_is_a_problem_from_its_death_until_it_has_run_for_as_long_as_it_waited(clock: ManualClock) -> None:
    supervisor, works = Supervisor(clock, lambda _: None), asyncio.Event()

    async def work() -> None:
        if not works.is_set():
            raise OSError("no")
        await asyncio.Event().wait()

    kept, problems = supervisor.start("the doorman", work), list[list[str]]()
    for seconds in (0.0, 1.0, 1.0, 1.0, 1.5, 0.5):
        works.set() if clock.monotonic() == 2.0 else None
        await clock.advance(seconds)
        problems.append(supervisor.problems())
    kept.cancel()
    await asyncio.wait([kept])

    broken = ["the doorman broke off with OSError: no"]
    assert problems == [broken, broken, broken, broken, broken, []]


async def test_one_that_ended_while_it_was_a_problem_is_none_any_more(clock: ManualClock) -> None:
    supervisor = Supervisor(clock, lambda _: None)
    kept = supervisor.start("the doorman", Dies(clock, RuntimeError))
    await clock.advance(0.0)
    before = supervisor.problems()
    kept.cancel()
    await asyncio.wait([kept])

    assert (before, supervisor.problems()) == (["the doorman broke off with RuntimeError"], [])


async def test_one_that_ran_steadily_is_started_again_as_soon_as_at_first(
    clock: ManualClock, notices: list[str]
) -> None:
    supervisor, work = Supervisor(clock, notices.append), Dies(clock, RuntimeError, lasting=STEADY)
    kept = supervisor.start("the doorman", work)
    await clock.advance(3 * STEADY + 2)
    kept.cancel()
    await asyncio.wait([kept])

    assert work.started == [0.0, STEADY + 1, 2 * STEADY + 2]
    assert LONGEST_WAIT > 1


async def test_work_that_returns_is_over(clock: ManualClock, notices: list[str]) -> None:
    async def work() -> None:
        await clock.sleep(1.0)

    kept = Supervisor(clock, notices.append).start("the listener", work)
    await clock.advance(100.0)

    assert (kept.done(), kept.exception(), notices) == (True, None, [])


async def test_a_cancellation_of_it_reaches_the_work_and_nothing_is_started_again(
    clock: ManualClock, notices: list[str]
) -> None:
    cleaned = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    before = asyncio.all_tasks()
    kept = Supervisor(clock, notices.append).start("the listener", work)
    await clock.advance(0.0)
    kept.cancel()
    await asyncio.wait([kept])

    assert (cleaned.is_set(), kept.cancelled(), notices) == (True, True, [])
    assert asyncio.all_tasks() == before


async def test_a_notify_that_raises_stops_no_supervision(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: str) -> None:
        raise Panic

    supervisor, work = Supervisor(clock, broken), Dies(clock, RuntimeError)
    kept = supervisor.start("the listener", work)
    await clock.advance(1.0)
    kept.cancel()
    await asyncio.wait([kept])

    assert work.started == [0.0, 1.0]
    assert "the listener broke off with RuntimeError; it is started again in 1 s" in caplog.text


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_and_an_exit_are_no_deaths_and_end_the_loop(
    interruption: type[BaseException], clock: ManualClock, notices: list[str]
) -> None:
    async def main() -> None:
        Supervisor(clock, notices.append).start("the listener", Dies(clock, interruption))
        await asyncio.Event().wait()

    with pytest.raises(interruption):
        asyncio.run(main())

    assert notices == []
