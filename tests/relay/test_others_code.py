"""Whatever a sink, an adapter or a notify lets out, the stories of all other jobs and sinks go on."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import pytest

from relay import Pace, Record, Relay, Sink
from relay.bus import Bus
from relay.bus.subscription import QUARANTINE_AFTER, Subscription, name_of
from relay.errors import UpstreamError, UsageError
from relay.events import Accepted, Cancelled, Done, Exchange, Failed, Log
from relay.jobs import Job
from relay.jobs.observations import Answer, Observation, Result
from relay.journal import MemoryJournal
from relay.notices import describe, guarded, shown
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, Items, OneStep, TwoStep, an_exchange

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))


class Panic(BaseException):
    """As pyo3's PanicException, which is no Exception."""


class Unspeakable(BaseException):
    """Has no text, no representation, and objects to being asked for them."""

    def __str__(self) -> str:
        raise ValueError("not even its text")

    __repr__ = __str__


KINDS: list[Callable[[], BaseException]] = [
    lambda: Panic("index out of bounds"),
    asyncio.CancelledError,
    GeneratorExit,
    StopIteration,
    Unspeakable,
    lambda: BaseExceptionGroup("several", [Panic("one"), ValueError("two")]),
    lambda: ValueError("x" * 1_000_000),
]
NAMES = ["panic", "cancelled error", "generator exit", "stop iteration", "unspeakable", "group", "huge"]
EVERY_KIND = pytest.mark.parametrize("error", KINDS, ids=NAMES)


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(auto=True)


async def story_of(relay: Relay, job: Job) -> None:
    """Return when *job* has ended."""
    over = asyncio.Event()
    with relay.bus.subscribe(lambda record: over.set() if record.terminal else None, [job]):
        if not job.ended:
            await over.wait()


class Adapter(TwoStep):
    """Does its work, and fails on task `bad` wherever *fails* says, with *error*."""

    def __init__(self, fails: str, error: Callable[[], BaseException]) -> None:
        super().__init__(lambda _: {})
        self._fails = fails
        self._error = error
        self.rounds = 0
        self.looks = 0

    def _may_fail(self, what: str) -> None:
        if what == self._fails:
            raise self._error()

    async def observe(self, tasks: Sequence[str]) -> Answer:
        self.rounds += 1
        if self.rounds == 1:
            self._may_fail("observe")
        return Answer(listed=0, tasks={} if self.rounds > 1 else dict.fromkeys(tasks, RUNNING))

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        self.looks += 1
        if self.looks == 1:
            self._may_fail("fetch_result")
        return Answer(listed=len(tasks), tasks=dict.fromkeys(tasks, FINISHED))

    async def submit(self, input: Mapping[str, Any]) -> str:
        self._may_fail("submit")
        return await super().submit(input)

    async def cancel(self, task: str) -> None:
        self._may_fail("cancel")
        await super().cancel(task)

    def token_version(self) -> object:
        self._may_fail("token_version")
        return "token"


class Lists(OneStep):
    """Asks *answer* about one task after the other, for a list of all."""

    def __init__(self, answer: Callable[[str], Awaitable[Observation]], _: ManualClock) -> None:
        super().__init__(lambda _: {})
        self._answer = answer

    async def observe(self, tasks: Sequence[str]) -> Answer:
        return Answer(listed=len(tasks), tasks={task: await self._answer(task) for task in tasks})


@EVERY_KIND
@pytest.mark.parametrize("fails", ["observe", "fetch_result", "token_version"])
async def test_whatever_an_adapter_lets_out_while_it_is_polled_each_job_ends_as_it_should(
    clock: ManualClock, notices: list[str], fails: str, error: Callable[[], BaseException]
) -> None:
    async with Relay([Adapter(fails, error)], clock=clock, notify=notices.append) as relay:
        jobs = [relay.follow("scripted", task) for task in ("a", "b")]
        for job in jobs:
            await story_of(relay, job)
        assert relay.problems() == []

    assert [type(job.state.terminal) for job in jobs] == [Done, Done]
    expected = 0 if fails == "token_version" else 1
    assert [text.partition(":")[0] for text in notices] == ["the adapter of upstream scripted failed"] * expected
    assert all(len(text) < 1_000 for text in notices)


@EVERY_KIND
async def test_a_job_whose_own_poll_is_cancelled_or_panics_is_asked_about_again_and_holds_up_no_other(
    clock: ManualClock, notices: list[str], error: Callable[[], BaseException]
) -> None:
    asked: list[str] = []

    async def answer(task: str) -> Observation:
        asked.append(task)
        if asked.count(task) == 1 and task == "bad":
            raise error()
        return FINISHED if asked.count(task) > 1 else RUNNING

    async with Relay([Items(answer, clock)], clock=clock, notify=notices.append) as relay:
        jobs = [relay.follow("scripted", task) for task in ("bad", "good")]
        for job in jobs:
            await story_of(relay, job)

    assert [type(job.state.terminal) for job in jobs] == [Done, Done]
    assert [text.partition(":")[0] for text in notices] == ["the adapter of upstream scripted failed"]


@pytest.mark.parametrize("make", [Items, Lists])
async def test_a_poll_that_never_returns_is_given_up_and_every_job_is_polled_again(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, make: Callable[[Any, ManualClock], OneStep]
) -> None:
    monkeypatch.setattr(Pace, "patience", 0.0)  # What answers at once is not held up by that.
    asked: list[str] = []

    async def answer(task: str) -> Observation:
        asked.append(task)
        if asked.count(task) == 1 and task == "bad":
            await asyncio.Event().wait()
        return FINISHED

    async with Relay([make(answer, clock)], clock=clock) as relay:
        jobs = [relay.follow("scripted", task) for task in ("bad", "good")]
        for job in jobs:
            await story_of(relay, job)

    assert [type(job.state.terminal) for job in jobs] == [Done, Done]


async def test_an_adapter_that_cancels_the_task_that_polls_wedges_no_job(
    clock: ManualClock, notices: list[str]
) -> None:
    asked: list[str] = []

    async def answer(task: str) -> Observation:
        asked.append(task)
        if len(asked) == 1:
            current = asyncio.current_task()
            assert current is not None
            current.cancel()
            await asyncio.sleep(0)
        return FINISHED

    async with Relay([Items(answer, clock)], clock=clock, notify=notices.append) as relay:
        await story_of(relay, job := relay.follow("scripted", "t"))

    assert (type(job.state.terminal), asked) == (Done, ["t", "t"])


@EVERY_KIND
async def test_a_submit_that_panics_fails_its_job_and_is_a_notice(
    clock: ManualClock, notices: list[str], error: Callable[[], BaseException]
) -> None:
    async with Relay([Adapter("submit", error)], clock=clock, notify=notices.append) as relay:
        await story_of(relay, job := relay.submit("scripted", {}))

    # A coroutine makes a StopIteration a RuntimeError by itself.
    name = {"StopIteration": "RuntimeError"}.get(type(error()).__name__, type(error()).__name__)
    assert job.state.terminal == Failed(kind="internal", message=f"the adapter failed with {name}")
    assert [text.partition(":")[0] for text in notices] == ["the adapter of upstream scripted failed to submit"]


@EVERY_KIND
async def test_a_cancel_that_panics_is_an_upstream_error_and_the_job_goes_on(
    clock: ManualClock, notices: list[str], error: Callable[[], BaseException]
) -> None:
    async with Relay([Adapter("cancel", error)], clock=ManualClock(), notify=notices.append) as relay:
        job = relay.follow("scripted", "t")
        with pytest.raises(UpstreamError, match="the adapter failed with"):
            await relay.cancel(job.id)
        assert not job.ended
    assert [text.partition(":")[0] for text in notices] == ["the adapter of upstream scripted failed"]


@EVERY_KIND
def test_a_sink_that_panics_costs_the_others_nothing_and_is_set_aside_when_it_goes_on(
    notices: list[str], error: Callable[[], BaseException]
) -> None:
    bus, job, seen = Bus(MemoryJournal(), clock=ManualClock(), notify=notices.append), Job("a"), list[int]()

    def panics(_: Record) -> None:
        raise error()

    broken = bus.subscribe(panics)
    bus.subscribe(lambda record: seen.append(record.seq))
    for number in range(QUARANTINE_AFTER + 2):
        bus.publish(job, Log(line=f"{number}"))

    assert seen == list(range(1, QUARANTINE_AFTER + 3))
    assert (broken.failures, broken.lost, broken.quarantined) == (QUARANTINE_AFTER, QUARANTINE_AFTER + 2, True)
    assert len(notices) == 2
    assert all(len(text) < 1_000 for text in notices)


@EVERY_KIND
async def test_a_sink_that_panics_stops_no_poller(
    clock: ManualClock, notices: list[str], error: Callable[[], BaseException]
) -> None:
    def panics(_: Record) -> None:
        raise error()

    async with Relay([OneStep(_two_rounds())], sinks=[panics], clock=clock, notify=notices.append) as relay:
        await story_of(relay, job := relay.follow("scripted", "t"))
        assert relay.problems() == []
    assert isinstance(job.state.terminal, Done)


def _two_rounds() -> Callable[[Sequence[str]], Mapping[str, Observation]]:
    rounds = iter([RUNNING, FINISHED])
    return lambda tasks: dict.fromkeys(tasks, next(rounds))


EXCHANGE = an_exchange(ManualClock().now())


@EVERY_KIND
def test_a_listener_of_exchanges_that_panics_costs_the_others_nothing(
    notices: list[str], error: Callable[[], BaseException]
) -> None:
    bus, received = Bus(MemoryJournal(), clock=ManualClock(), notify=notices.append), list[Exchange]()

    def panics(_: Exchange) -> None:
        raise error()

    bus.subscribe_exchanges(panics)
    bus.subscribe_exchanges(received.append)
    bus.publish_exchange(EXCHANGE)

    assert received == [EXCHANGE]
    assert len(notices) == 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_out_of_a_listener_passes_on_once_every_other_has_its_exchange(
    interruption: type[BaseException],
) -> None:
    bus, received = Bus(MemoryJournal(), clock=ManualClock()), list[Exchange]()

    def interrupted(_: Exchange) -> None:
        raise interruption

    bus.subscribe_exchanges(interrupted)
    bus.subscribe_exchanges(received.append)
    with pytest.raises(interruption):
        bus.publish_exchange(EXCHANGE)

    assert received == [EXCHANGE]


def test_a_listener_that_another_removes_in_the_middle_of_an_exchange_gets_nothing_of_it() -> None:
    bus, received, leave = Bus(MemoryJournal(), clock=ManualClock()), list[Exchange](), list[Callable[[], None]]()
    bus.subscribe_exchanges(lambda _: leave[0]())
    leave.append(bus.subscribe_exchanges(received.append))

    bus.publish_exchange(EXCHANGE)
    leave[0]()

    assert received == []


@EVERY_KIND
async def test_a_notify_that_raises_hurts_nobody_and_the_text_goes_to_the_logger(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, error: Callable[[], BaseException]
) -> None:
    def broken(_: str) -> None:
        raise error()

    def fails(_: Record) -> None:
        raise ValueError("no")

    async with Relay([OneStep(_two_rounds())], sinks=[fails], clock=clock, notify=broken) as relay:
        await story_of(relay, job := relay.follow("scripted", "t"))

    assert isinstance(job.state.terminal, Done)
    assert "failed on " in caplog.text
    assert "ValueError: no" in caplog.text


def test_an_error_is_put_into_one_bounded_line_whatever_it_says_of_itself() -> None:
    assert describe(ValueError("two\nlines")) == "ValueError: two"
    assert describe(Unspeakable()) == shown(Unspeakable()) == "Unspeakable"
    assert shown(KeyError("status")) == "KeyError('status')"
    assert (len(describe(ValueError("x" * 9_999))), len(shown(ValueError("x" * 9_999)))) == (500, 500)


def test_guarding_a_notify_twice_does_nothing_more() -> None:
    once = guarded(print)
    assert guarded(once) is once


async def coroutine_function(_: Record) -> None: ...


async def asynchronous_generator(_: Record) -> AsyncIterator[None]:
    yield


def generator_function(_: Record) -> Iterator[None]:
    yield


async def takes_more(_more: int, _: Record) -> None: ...


class AsyncCall:
    async def __call__(self, _: Record) -> None: ...

    async def method(self, _: Record) -> None: ...


@pytest.mark.parametrize(
    "sink",
    [
        coroutine_function,
        asynchronous_generator,
        generator_function,
        AsyncCall(),
        AsyncCall().method,
        functools.partial(takes_more, 1),
        functools.partial(functools.partial(takes_more), 1),
        functools.partial(AsyncCall()),
    ],
    ids=lambda sink: name_of(sink),
)
def test_the_bus_refuses_a_sink_that_would_have_to_be_awaited_with_what_to_do(sink: Any) -> None:
    sentence = (
        r"asynchronous, and a sink is never awaited: put it behind a queue: sinks.Queued\(work\) .*write-a-sink.md"
    )
    with pytest.raises(UsageError, match=sentence):
        Bus(MemoryJournal()).subscribe(sink)
    with pytest.raises(UsageError, match=sentence):
        Bus(MemoryJournal()).subscribe_exchanges(sink)


@pytest.mark.parametrize("sink", [asynchronous_generator, generator_function], ids=lambda sink: name_of(sink))
def test_a_relay_refuses_a_generator_function(sink: Any) -> None:
    with pytest.raises(UsageError, match="is asynchronous, and a sink is never awaited"):
        Relay([], sinks=[sink])


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(UsageError, match="int is no sink: a sink is called with one record"):
        Relay([], sinks=[3])


def returns_a_coroutine(record: Record) -> Coroutine[Any, Any, None]:
    return coroutine_function(record)


def returns_a_generator(record: Record) -> Iterator[None]:
    return generator_function(record)


@pytest.mark.parametrize("sink", [returns_a_coroutine, returns_a_generator])
def test_a_sink_that_returns_what_would_have_to_be_run_fails_with_what_to_do(sink: Sink, notices: list[str]) -> None:
    bus = Bus(MemoryJournal(), clock=ManualClock(), notify=notices.append)
    subscription = bus.subscribe(sink)
    bus.publish(Job("a"), Log(line="one"))

    assert subscription.failures == 1
    assert "returned an awaitable, and a sink is never awaited: put it behind a queue" in notices[0]


async def test_a_sink_that_returns_a_running_task_fails_and_the_task_goes_on(notices: list[str]) -> None:
    bus, tasks = Bus(MemoryJournal(), clock=ManualClock(), notify=notices.append), list[asyncio.Task[None]]()

    def starts(record: Record) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(coroutine_function(record)))
        return tasks[-1]

    subscription = bus.subscribe(starts)
    bus.publish(Job("a"), Log(line="one"))
    await asyncio.wait(tasks)

    assert subscription.failures == 1
    assert not tasks[0].cancelled()


def test_a_sink_may_return_anything_else(notices: list[str]) -> None:
    bus, given = Bus(MemoryJournal(), clock=ManualClock(), notify=notices.append), [0, "x", object(), [1], {}]
    for value in given:
        bus.subscribe(lambda _, value=value: value)  # type: ignore[misc]
    bus.publish(Job("a"), Log(line="one"))

    assert notices == []


async def test_nobody_publishes_for_a_job_that_the_relay_does_not_have() -> None:
    async with Relay([OneStep(lambda _: {})], clock=ManualClock()) as relay:
        known = relay.follow("scripted", "t")
        for stranger in (Job("mine"), Job(known.id)):
            with pytest.raises(UsageError, match=f"{stranger.id} is no job of this relay: take one from relay.follow"):
                relay.bus.publish(stranger, Accepted(upstream="scripted"))
        relay.bus.publish(known, Log(line="its own"))

        assert [record.job for record in relay.journal.read(0)] == [known.id, known.id]


async def test_a_sink_that_leaves_adds_another_and_panics_all_in_one_record_costs_the_others_nothing(
    notices: list[str],
) -> None:
    bus, job = Bus(MemoryJournal(), clock=ManualClock(), notify=notices.append), Job("a")
    first, newcomer, last = list[int](), list[int](), list[int]()
    own: list[Subscription] = []

    def hostile(record: Record) -> None:
        if record.seq == 2:
            own[0].close()
            bus.subscribe(lambda record: newcomer.append(record.seq), [job], after=0)
            raise Panic("and away")

    bus.subscribe(lambda record: first.append(record.seq))
    own.append(bus.subscribe(hostile))
    bus.subscribe(lambda record: last.append(record.seq), [job])
    for number in range(4):
        bus.publish(job, Log(line=f"{number}"))

    assert first == last == newcomer == [1, 2, 3, 4]
    assert len(notices) == 1


async def test_a_cancelled_job_is_cancelled_though_a_sink_panics_on_every_record(notices: list[str]) -> None:
    def panics(_: Record) -> None:
        raise Panic

    upstream = TwoStep(lambda _: {})
    async with Relay([upstream], sinks=[panics], clock=ManualClock(), notify=notices.append) as relay:
        job = await relay.cancel(relay.follow("scripted", "t").id)
    assert job.state.terminal == Cancelled(by="caller", message=None)


def panic_for_real() -> None:
    """A panic of Rust code that nobody here wrote: rpds does not expect that two keys cannot be compared."""
    rpds = pytest.importorskip("rpds")

    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise ValueError("not comparable")

    rpds.HashTrieMap({Key(): 1}).insert(Key(), 2)


async def test_a_real_panic_of_rust_code_in_a_sink_and_in_an_adapter_stops_no_story(
    clock: ManualClock, notices: list[str]
) -> None:
    rounds = iter([True, False, False])

    def script(tasks: Sequence[str]) -> Mapping[str, Observation]:
        if next(rounds, False):
            panic_for_real()
        return dict.fromkeys(tasks, FINISHED)

    def sink(_: Record) -> None:
        panic_for_real()

    async with Relay([OneStep(script)], sinks=[sink], clock=clock, notify=notices.append) as relay:
        await story_of(relay, job := relay.follow("scripted", "t"))

    assert isinstance(job.state.terminal, Done)
    assert any("failed on" in text and "PanicException" in text for text in notices)
    assert any(text.startswith("the adapter of upstream scripted failed: PanicException") for text in notices)
