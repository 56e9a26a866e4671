"""Sinks and upstreams are entered and left within bounds, each in a task of its own, whatever they do meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType

import pytest

from relay import Record, Relay
from relay.errors import UsageError
from relay.events import Log
from relay.testing import ManualClock
from tests.relay.scripted import OneStep


class Panic(BaseException):
    """As pyo3's PanicException, which is no Exception."""


class Managed:
    """A sink that notes what happens to it, and fails or hangs where *fails* says."""

    def __init__(self, life: list[str], *, enter: object = None, leave: object = None) -> None:
        self._life = life
        self._enter = enter
        self._leave = leave

    def __call__(self, record: Record) -> None:
        self._life.append(record.event.text)

    async def __aenter__(self) -> "Managed":
        self._life.append("enters")
        await _fail_or_hang(self._enter)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._life.append("leaves")
        await _fail_or_hang(self._leave)
        self._life.append("left")


async def _fail_or_hang(what: object) -> None:
    if isinstance(what, BaseException):
        raise what
    if what == "hangs":
        await asyncio.Event().wait()
    if what == "is stubborn":
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


class Broken(OneStep):
    """The same as an upstream."""

    def __init__(self, life: list[str], *, enter: object = None, leave: object = None) -> None:
        super().__init__(lambda _: {})
        self._managed = Managed(life, enter=enter, leave=leave)

    async def __aenter__(self) -> "Broken":
        await self._managed.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._managed.__aexit__(kind, error, trace)


AT_ONCE = 0.01
"""Seconds for what never ends: whether they are short or long makes no difference to it."""


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.mark.parametrize(
    ("enter", "sentence"),
    [
        (OSError("no route to host"), "could not be started, so the relay does not start: OSError: no route to host"),
        (Panic("at 3"), "could not be started, so the relay does not start: Panic: at 3"),
        (asyncio.CancelledError(), "could not be started, so the relay does not start: CancelledError"),
        ("hangs", "was not ready within 0.01 s, so the relay does not start"),
        ("is stubborn", "was not ready within 0.01 s, so the relay does not start"),
    ],
)
@pytest.mark.parametrize("what", ["sink Managed", "upstream scripted"])
async def test_one_that_cannot_be_entered_is_named_and_what_was_entered_before_is_left(
    enter: object, sentence: str, what: str, notices: list[str]
) -> None:
    first, second, before = list[str](), list[str](), asyncio.all_tasks()
    is_sink = what == "sink Managed"
    relay = Relay(
        [] if is_sink else [Broken(second, enter=enter)],
        sinks=[Managed(first), *([Managed(second, enter=enter)] if is_sink else [])],
        clock=ManualClock(),
        notify=notices.append,
        enter_within=AT_ONCE if isinstance(enter, str) else 60.0,
    )
    name = "sink Managed-2" if is_sink else what

    with pytest.raises(UsageError) as raised:
        async with relay:
            pass
    await asyncio.sleep(0)

    assert str(raised.value) == f"{name} {sentence}"
    assert first == ["enters", "leaves", "left"]
    assert second[0] == "enters"
    assert not relay.running
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("leave", "notice"),
    [
        (OSError("disk full"), "failed to close: OSError: disk full"),
        (Panic("at 3"), "failed to close: Panic: at 3"),
        (asyncio.CancelledError(), "failed to close: CancelledError"),
        ("hangs", "did not close within 0.01 s; its pending work may be lost"),
        ("is stubborn", "did not close within 0.01 s; its pending work may be lost"),
    ],
)
@pytest.mark.parametrize("what", ["sink Managed-2", "upstream scripted"])
async def test_one_that_cannot_be_left_is_a_notice_and_all_others_are_left(
    leave: object, notice: str, what: str, notices: list[str]
) -> None:
    first, second, third, before = list[str](), list[str](), list[str](), asyncio.all_tasks()
    is_sink = what.startswith("sink")
    relay = Relay(
        [OneStep(lambda _: {}) if is_sink else Broken(second, leave=leave)],
        sinks=[Managed(first), *([Managed(second, leave=leave)] if is_sink else []), Managed(third)],
        clock=ManualClock(),
        notify=notices.append,
        leave_within=AT_ONCE if isinstance(leave, str) else 60.0,
    )

    async with relay:
        pass

    assert notices == [f"{what} {notice}"]
    assert first == third == ["enters", "leaves", "left"]
    assert second[:2] == ["enters", "leaves"]
    assert not relay.running
    assert asyncio.all_tasks() == before


async def test_several_that_hang_take_no_longer_than_one(notices: list[str]) -> None:
    hanging = [Managed([], leave="hangs") for _ in range(3)]
    relay = Relay([], sinks=hanging, clock=ManualClock(), notify=notices.append, leave_within=AT_ONCE)
    async with relay:
        pass

    assert sorted(notices) == [
        f"sink {name} did not close within 0.01 s; its pending work may be lost"
        for name in ("Managed", "Managed-2", "Managed-3")
    ]


async def test_a_sink_has_every_record_before_it_is_left(notices: list[str]) -> None:
    life = list[str]()
    async with Relay([], sinks=[Managed(life)], clock=ManualClock()) as relay:
        relay.bus.publish(relay.registry.admit(), Log(line="said"))

    assert life == ["enters", "said", "leaves", "left"]


class Grouped:
    """A sink with a task group of its own, as structured concurrency has it: entered and left in one task."""

    def __init__(self) -> None:
        self.entered = 0
        self.failing = asyncio.Event()

    def __call__(self, record: Record) -> None: ...

    async def __aenter__(self) -> "Grouped":
        self.entered += 1
        self._group = await asyncio.TaskGroup().__aenter__()
        self._worker = self._group.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.cancel()
        await self._group.__aexit__(kind, error, trace)

    async def _work(self) -> None:
        await self.failing.wait()
        self.failing.clear()
        raise Panic("in the worker")


async def test_a_sink_with_a_task_group_is_entered_and_left_in_one_task_whichever_tasks_run_the_relay(
    notices: list[str],
) -> None:
    relay = Relay([], sinks=[Grouped()], clock=ManualClock(), notify=notices.append)
    await asyncio.create_task(relay.__aenter__())
    await asyncio.create_task(relay.__aexit__(None, None, None))

    assert notices == []


async def test_a_sink_whose_task_group_dies_is_a_notice_and_a_problem_and_is_entered_again(
    notices: list[str],
) -> None:
    clock, sink = ManualClock(), Grouped()
    async with Relay([], sinks=[sink], clock=clock, notify=notices.append) as relay:
        sink.failing.set()
        await clock.advance(0.0)
        wrong = relay.problems()
        await clock.advance(2.0)

        assert len(wrong) == 1
        assert wrong[0].startswith("sink Grouped broke off with BaseExceptionGroup: ")
        assert notices == [f"{wrong[0]}; it is started again in 1 s"]
        assert (sink.entered, relay.problems()) == (2, [])
    assert len(notices) == 1


async def test_a_sink_that_cannot_be_entered_again_does_not_hold_up_the_end(notices: list[str]) -> None:
    entered: list[bool] = []
    failing = asyncio.Event()

    @contextlib.asynccontextmanager
    async def once() -> AsyncIterator[None]:
        entered.append(True)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_raise_when(failing))
            yield
            task.cancel()

    class Once:
        def __init__(self, life: Callable[[], contextlib.AbstractAsyncContextManager[None]]) -> None:
            self._life = life()

        def __call__(self, record: Record) -> None: ...

        async def __aenter__(self) -> None:
            await self._life.__aenter__()

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> bool | None:
            return await self._life.__aexit__(kind, error, trace)

    clock, before = ManualClock(), asyncio.all_tasks()
    async with Relay([], sinks=[Once(once)], clock=clock, notify=notices.append):
        failing.set()
        await clock.advance(1.0)

    assert entered == [True]
    assert [text.partition(" broke off with ")[0] for text in notices] == ["sink " + Once.__qualname__] * 2
    assert asyncio.all_tasks() == before


async def _raise_when(event: asyncio.Event) -> None:
    await event.wait()
    raise ValueError("no")
