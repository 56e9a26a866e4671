"""Whatever is wrong with one job's answer, or with one task, is that job's own: the others are polled as before."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from relay import Pace, Record, Relay
from relay.errors import UpstreamError
from relay.events import Done, Failed, Log, Progress, Retrying
from relay.jobs import Job
from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.journal import MemoryJournal, SqliteJournal
from relay.testing import ManualClock
from relay.wire.record_json import read_record
from tests.relay.scripted import RUNNING, Items, OneStep, TwoStep

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))
DOWN = UpstreamError("server", "the upstream answered 500")
REFUSED = UpstreamError("auth", "the upstream answered 403")
LIMITED = UpstreamError("rate-limit", "the upstream answered 429", retry_after=30.0)

LONG_URLS = tuple(f"https://cdn.example/{'長' * 4_000}/{number}.png" for number in range(12))
"""Each within its limit; as JSON in ASCII all of them are over that of a record."""


class Nowhere(tzinfo):
    """A zone without an offset from UTC, so that no time in it can be written down."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        raise ValueError("nobody knows what time it is here")

    def dst(self, _: datetime | None) -> None: ...

    def tzname(self, _: datetime | None) -> None: ...


UNKEEPABLE = Observation(
    status="succeeded", result=Result(urls=("https://a/b",), expires=datetime(2026, 1, 1, tzinfo=Nowhere()))
)
"""An end that no record can hold."""

Script = Callable[[str], Any]
Make = Callable[[Script, ManualClock], OneStep]


def singles(said: Script, clock: ManualClock) -> OneStep:
    async def answer(task: str) -> Any:
        told = said(task)
        if isinstance(told, BaseException) and not isinstance(told, UpstreamError):
            raise told
        return told

    return Items(answer, clock)


def one_list(said: Script, _: ManualClock) -> OneStep:
    def script(tasks: Sequence[str]) -> Any:
        return {task: said(task) for task in tasks}

    return OneStep(script)


KINDS = pytest.mark.parametrize("make", [singles, one_list])

Start = Callable[[OneStep, Pace], Awaitable[Relay]]


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
def records() -> list[Record]:
    return []


@pytest.fixture
async def start(clock: ManualClock, records: list[Record]) -> AsyncIterator[Start]:
    relays: list[Relay] = []

    async def enter(upstream: OneStep, pace: Pace) -> Relay:
        relays.append(
            Relay([upstream], sinks=[records.append], clock=clock, paces={"scripted": pace}, notify=lambda _: None)
        )
        return await relays[-1].__aenter__()

    yield enter
    for relay in relays:
        await relay.__aexit__(None, None, None)


def about(records: Sequence[Record], job: Job, kind: type) -> list[Any]:
    return [record.event for record in records if record.job == job.id and isinstance(record.event, kind)]


# An answer that cannot be published


@KINDS
async def test_a_result_over_the_limit_of_a_record_is_kept_as_far_as_it_fits_and_the_round_goes_on(
    start: Start, clock: ManualClock, make: Make
) -> None:
    huge = Observation(status="succeeded", result=Result(urls=LONG_URLS))
    relay = await start(make(lambda task: huge if task == "t0" else FINISHED, clock), Pace())
    first, *others = [relay.follow("scripted", f"t{number}") for number in range(5)]
    await clock.sleep(3)

    assert isinstance(end := first.state.terminal, Done)
    assert end.urls == LONG_URLS[: len(end.urls)], "what fits is kept"
    assert [type(job.state.terminal) for job in others] == [Done] * 4


async def test_an_end_that_cannot_be_kept_ends_its_job_also_where_results_are_looked_for(
    start: Start, clock: ManualClock
) -> None:
    def results(tasks: Sequence[str]) -> Mapping[str, Observation]:
        return {task: UNKEEPABLE if task == "t0" else FINISHED for task in tasks}

    elsewhere = Observation(status="succeeded")
    relay = await start(TwoStep(lambda tasks: dict.fromkeys(tasks, elsewhere), results), Pace())
    jobs = [relay.follow("scripted", f"t{number}") for number in range(3)]
    await clock.sleep(3)

    assert [type(job.state.terminal) for job in jobs] == [Failed, Done, Done]


@KINDS
async def test_a_batch_of_64_images_is_ordinary(start: Start, clock: ManualClock, make: Make) -> None:
    urls = tuple(f"https://cdn.example/{'x' * 1_500}/{number}.png" for number in range(64))
    batch = Observation(status="succeeded", result=Result(urls=urls, media_types=("image/png",) * 64))
    relay = await start(make(lambda _: batch, clock), Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(1)

    assert job.state.terminal == Done(urls=urls, media_types=("image/png",) * 64)


class OwnText(str):
    """As a library's own class of text."""


class OwnNumber(int):
    """As numpy's and pydantic's, which JSON does not know."""


class Unspeakable:
    """Panics when it is put into words."""

    def __str__(self) -> str:
        raise type("PanicException", (BaseException,), {})("no words")

    __repr__ = __str__


ODD: list[Any] = [
    None,
    "a text",
    {"status": "running"},
    Observation(status="renderring"),  # type: ignore[arg-type]
    Observation(status=None),  # type: ignore[arg-type]
    Observation(status="running", eta=-5.0),
    Observation(status="running", eta=math.nan),
    Observation(status="running", eta=math.inf),
    Observation(status="running", eta=10**400),
    Observation(status="running", poll_after=-1.0),
    Observation(status="running", poll_after=math.nan),
    Observation(status="running", poll_after=math.inf),
    Observation(status="running", poll_after=10**400),
    Observation(status="running", poll_after="soon"),  # type: ignore[arg-type]
    Observation(status="running", percent=250),
    Observation(status="running", percent=-1),
    Observation(status="running", percent=math.nan),  # type: ignore[arg-type]
    Observation(status="running", percent=99.7),  # type: ignore[arg-type]
    Observation(status="running", percent="42"),  # type: ignore[arg-type]
    Observation(status="running", queue_position=10**400),
    Observation(status="running", queue_position=-3),
    Observation(status="running", raw_status=7),  # type: ignore[arg-type]
    Observation(status="running", log=(b"bytes", 3)),  # type: ignore[arg-type]
    Observation(status="running", log=("line",), log_offset=-4),
    Observation(status="running", warning=object()),  # type: ignore[arg-type]
    Observation(status="succeeded", result=Result(urls=(None,))),  # type: ignore[arg-type]
    Observation(status="succeeded", result=Result(urls=("https://a/b",), expires="tomorrow")),  # type: ignore[arg-type]
    Observation(status="succeeded", result="a link"),  # type: ignore[arg-type]
    Observation(status="failed", failure=Failure(kind="bad luck", message="no")),  # type: ignore[arg-type]
    Observation(status="failed", failure=Failure(kind="upstream", message=None)),  # type: ignore[arg-type]
    Observation(status=["running"]),  # type: ignore[arg-type]
    Observation(status="running", source=[]),  # type: ignore[arg-type]
    Observation(status="running", raw_status=Unspeakable()),  # type: ignore[arg-type]
    Observation(status="running", warning=Unspeakable()),  # type: ignore[arg-type]
    Observation(status="running", log="one text"),  # type: ignore[arg-type]
    Observation(status="running", log=7),  # type: ignore[arg-type]
    Observation(status="running", raw_status=OwnText("going"), percent=OwnNumber(7)),
    Observation(status="succeeded", result=Result(value={Unspeakable(): Unspeakable(), "n": OwnNumber(7)})),
    Observation(status="succeeded", result=Result(value=10**5_000)),
    UpstreamError("bad luck", "no"),  # type: ignore[arg-type]
    UpstreamError(["server"], "no"),  # type: ignore[arg-type]
    UpstreamError("server", OwnText("no")),
    UpstreamError("server", "no", retry_after="soon"),  # type: ignore[arg-type]
    UpstreamError("server", None),  # type: ignore[arg-type]
    UpstreamError("server", "no", retry_after=math.nan),
    UpstreamError("server", "no", retry_after=-5.0),
    UpstreamError("server", "no", retry_after=10**400),
]


@KINDS
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
async def test_an_absurd_answer_hurts_one_job_alone_and_every_record_can_be_read_again(
    start: Start, clock: ManualClock, records: list[Record], make: Make, odd: Any
) -> None:
    relay = await start(make(lambda task: odd if task == "t0" else RUNNING, clock), Pace(interval=2.0))
    _, other = (relay.follow("scripted", f"t{number}") for number in range(2))
    await clock.sleep(41)

    assert len(about(records, other, Progress)) == (20 if make is singles else 21)
    assert not about(records, other, Retrying)
    for record in records:
        assert read_record(record.json, record.position) == record


async def test_what_is_left_out_of_an_absurd_answer_is_one_warning_and_the_rest_is_used(
    start: Start, clock: ManualClock, records: list[Record]
) -> None:
    absurd = Observation(status="running", percent=40, eta=-5.0, queue_position=10**400)
    relay = await start(one_list(lambda _: absurd, clock), Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(6)

    warning = "what the adapter says in queue_position, eta cannot be used as it is"
    assert about(records, job, Log) == [Log(line=warning, severity="warning")]
    first, *later = about(records, job, Progress)
    assert first == Progress(percent=40, status="running")
    assert later == [Progress(percent=40, status="running", unchanged=True)] * 2


IN_UTC = datetime(2026, 1, 1, tzinfo=UTC)

URLS: list[tuple[Any, Any, Any]] = [
    (("https://a/b",), {"expires": "tomorrow"}, {}),
    (("https://a/b",), {"expires": math.nan}, {}),
    (("https://a/b",), {"expires": IN_UTC.replace(tzinfo=None)}, {"expires": IN_UTC}),
    (("https://a/b",), {"media_types": None}, {}),
    (("https://a/b",), {"media_types": "video/mp4"}, {"media_types": ("video/mp4",)}),
    (("https://a/b",), {"media_types": [7]}, {}),
    (["https://a/b"], {}, {}),
    ("https://a/b", {}, {}),
    ((None, "https://a/b"), {}, {}),
]
FAILURES: list[tuple[Any, Failed]] = [
    ({"kind": "bad luck", "message": "no"}, Failed(kind="upstream", message="no")),
    ({"kind": [], "message": 7}, Failed(kind="upstream", message="7")),
    ({"kind": "policy", "message": "no", "retryable": "maybe"}, Failed(kind="policy", message="no")),
    ({"kind": "policy", "message": None}, Failed(kind="policy", message="the adapter does not say why")),
]
ENDS: list[tuple[Observation, Done | Failed]] = [
    *(
        (Observation(status="succeeded", result=Result(urls=urls, **beside)), Done(urls=("https://a/b",), **kept))
        for urls, beside, kept in URLS
    ),
    *((Observation(status="failed", failure=Failure(**said)), failed) for said, failed in FAILURES),
]


@KINDS
@pytest.mark.parametrize(("said", "end"), ENDS)
async def test_what_is_odd_beside_a_result_or_a_failure_never_costs_it(
    start: Start, clock: ManualClock, records: list[Record], make: Make, said: Observation, end: Done | Failed
) -> None:
    relay = await start(make(lambda _: said, clock), Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(3)

    assert job.state.terminal == end
    assert read_record(records[-1].json, records[-1].position) == records[-1]


@pytest.mark.parametrize("answer", [None, {}, Answer(listed=-1, tasks={}), Answer(listed=math.nan, tasks={})])  # type: ignore[arg-type]
@pytest.mark.parametrize("kind", [OneStep, Items])
async def test_what_is_no_answer_at_all_is_a_poll_that_failed_or_one_that_names_no_job(
    start: Start, clock: ManualClock, records: list[Record], kind: type[OneStep], answer: Any
) -> None:
    class Odd(OneStep):
        polls_each_task = kind is Items

        async def observe(self, tasks: Sequence[str]) -> Answer:
            self.asked.append(tuple(tasks))
            odd: Answer = answer
            return odd

    relay = await start(upstream := Odd(lambda _: {}), Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(6)

    assert len(upstream.asked) >= 2
    assert not job.ended
    for record in records:
        assert read_record(record.json, record.position) == record


@pytest.mark.parametrize("raised", [asyncio.CancelledError(), type("PanicException", (BaseException,), {})("panicked")])
@KINDS
async def test_what_an_adapter_lets_out_is_a_failed_poll_and_does_not_end_the_poller(
    start: Start, clock: ManualClock, records: list[Record], make: Make, raised: BaseException
) -> None:
    left = [raised]

    def said(_: str) -> Any:
        if left:
            raise left.pop()
        return FINISHED

    relay = await start(make(said, clock), Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(10)

    kinds = [(event.kind, event.message) for event in about(records, job, Retrying)]
    assert kinds == [("internal", f"the adapter failed with {type(raised).__name__}")]
    assert isinstance(job.state.terminal, Done)


# A breaker, and the tasks behind it


async def test_a_trial_whose_answer_cannot_be_published_closes_the_breaker(start: Start, clock: ManualClock) -> None:
    upstream = singles(lambda _: DOWN if clock.monotonic() < 30 else UNKEEPABLE, clock)
    relay = await start(upstream, Pace())
    jobs = [relay.follow("scripted", f"t{number}") for number in range(12)]
    await clock.sleep(150)

    assert [type(job.state.terminal) for job in jobs] == [Failed] * 12


async def test_a_trial_whose_job_is_cancelled_meanwhile_decides_too(start: Start, clock: ManualClock) -> None:
    async def answer(_: str) -> Observation | UpstreamError:
        down = clock.monotonic() < 30
        await clock.sleep(2)
        return DOWN if down else FINISHED

    relay = await start(Items(answer, clock), Pace(concurrency=50))
    jobs = [relay.follow("scripted", f"t{number}") for number in range(12)]
    await clock.sleep(20)
    for job in jobs[:6]:
        await relay.cancel(job.id)
    await clock.sleep(130)

    assert [type(job.state.terminal) for job in jobs[6:]] == [Done] * 6


async def test_a_task_that_is_answered_500_for_ever_does_not_hold_back_a_job_that_is_added_later(
    start: Start, clock: ManualClock
) -> None:
    upstream = singles(lambda task: DOWN if task == "bad" else FINISHED, clock)
    relay = await start(upstream, Pace())
    bad = relay.follow("scripted", "bad")
    await clock.sleep(400)
    good = relay.follow("scripted", "good")
    await clock.sleep(1)

    assert isinstance(good.state.terminal, Done)
    assert not bad.ended


async def test_many_tasks_that_are_answered_500_for_ever_do_not_either(start: Start, clock: ManualClock) -> None:
    upstream = singles(lambda task: DOWN if task.startswith("bad") else FINISHED, clock)
    relay = await start(upstream, Pace())
    for number in range(8):
        relay.follow("scripted", f"bad{number}")
    await clock.sleep(400)
    good = relay.follow("scripted", "good")
    await clock.sleep(61)

    assert isinstance(good.state.terminal, Done), "the next trial was the new job's"


class Taking(Items):
    """One that takes submissions too."""

    async def submit(self, input: Mapping[str, Any]) -> str:
        return str(input["id"])


@pytest.mark.parametrize(("trouble", "soon"), [(DOWN, True), (REFUSED, True), (LIMITED, False)])
async def test_a_submission_that_was_accepted_closes_the_breaker_unless_the_upstream_asked_for_time(
    start: Start, clock: ManualClock, trouble: UpstreamError, soon: bool
) -> None:
    async def answer(task: str) -> Observation | UpstreamError:
        return trouble if task.startswith("bad") else FINISHED

    relay = await start(Taking(answer, clock), Pace())
    for number in range(8):
        relay.follow("scripted", f"bad{number}")
    await clock.sleep(3.5)
    good = relay.submit("scripted", {"id": "good"})
    await clock.sleep(1)

    assert good.ended is soon


async def test_a_submission_that_was_accepted_ends_a_lists_back_off(start: Start, clock: ManualClock) -> None:
    trouble = [DOWN] * 6
    upstream = TwoStep(lambda tasks: trouble.pop() if trouble else dict.fromkeys(tasks, FINISHED))
    relay = await start(upstream, Pace())
    relay.follow("scripted", "t")
    while len(trouble) > 0:
        await clock.sleep(1)
    relay.submit("scripted", {})
    await clock.sleep(2.6)

    assert [job.ended for job in relay.jobs()] == [True, True]


async def test_the_trials_of_an_outage_are_shared_and_the_first_is_of_a_job_that_has_not_failed(
    start: Start, clock: ManualClock
) -> None:
    upstream = singles(lambda _: DOWN if clock.monotonic() >= 20 else RUNNING, clock)
    relay = await start(upstream, Pace(interval=10.0, concurrency=50))
    for number in range(10):
        relay.follow("scripted", f"t{number}")
    await clock.sleep(400)

    asked = [task for at, task in upstream.times if at >= 20]  # type: ignore[attr-defined]
    assert len(set(asked[:10])) == 10, "five that opened it, then the five others"


@pytest.mark.parametrize("interval", [2.5, 10.0])
async def test_one_task_that_is_refused_keeps_no_other_waiting(
    start: Start, clock: ManualClock, records: list[Record], interval: float
) -> None:
    upstream = singles(lambda task: REFUSED if task.startswith("bad") else RUNNING, clock)
    relay = await start(upstream, Pace(interval=interval))
    good = relay.follow("scripted", "good")
    for number in range(5):
        await clock.sleep(4 * interval)
        relay.follow("scripted", f"bad{number}")
    await clock.sleep(100)

    times = upstream.asked_at("good")  # type: ignore[attr-defined]
    assert max(later - earlier for earlier, later in pairwise(times)) <= interval + 0.1
    assert not about(records, good, Retrying)


async def test_one_task_of_a_list_that_is_refused_keeps_no_other_waiting(
    start: Start, clock: ManualClock, records: list[Record]
) -> None:
    relay = await start(one_list(lambda task: REFUSED if task == "bad" else RUNNING, clock), Pace())
    good, bad = relay.follow("scripted", "good"), relay.follow("scripted", "bad")
    await clock.sleep(61)

    assert len(about(records, good, Progress)) == 25
    assert not bad.ended


@pytest.mark.parametrize("trouble", [REFUSED, DOWN])
async def test_results_that_are_refused_hold_up_no_job_that_is_listed(
    start: Start, clock: ManualClock, records: list[Record], trouble: UpstreamError
) -> None:
    """The list of results is another address: what is wrong with it is not wrong with the list of jobs."""
    upstream = TwoStep(
        lambda tasks: {task: RUNNING for task in tasks if task != "gone" or clock.monotonic() < 3}, lambda _: trouble
    )
    relay = await start(upstream, Pace(deadline=10_000.0))
    listed, gone = relay.follow("scripted", "listed"), relay.follow("scripted", "gone")
    await clock.sleep(601)

    assert len(about(records, listed, Progress)) == 241
    assert len(upstream.looked) < 40
    assert [event.attempt for event in about(records, gone, Retrying)] == list(range(1, len(upstream.looked) + 1))
    assert not gone.ended, "no look was answered, so nothing follows from them"


async def test_a_sole_job_that_is_refused_is_tried_again_and_a_new_token_is_used_at_once(
    start: Start, clock: ManualClock
) -> None:
    upstream = Items(lambda _: answer(), clock)

    async def answer() -> Observation | UpstreamError:
        return REFUSED if upstream.token == "first" else FINISHED

    relay = await start(upstream, Pace())
    job = relay.follow("scripted", "t")
    await clock.sleep(10)
    upstream.token = "second"
    await clock.sleep(1.2)

    assert isinstance(job.state.terminal, Done)


async def test_a_job_that_comes_beside_one_that_is_refused_is_asked_for_at_once(
    start: Start, clock: ManualClock
) -> None:
    relay = await start(singles(lambda task: REFUSED if task == "bad" else FINISHED, clock), Pace())
    relay.follow("scripted", "bad")
    await clock.sleep(5)
    job = relay.follow("scripted", "good")
    await clock.sleep(0.1)

    assert isinstance(job.state.terminal, Done)


async def test_a_task_that_cannot_be_read_does_not_make_the_list_back_off_longer(
    start: Start, clock: ManualClock, records: list[Record]
) -> None:
    odd, down = UpstreamError("malformed", "no status"), [False]

    def script(tasks: Sequence[str]) -> Any:
        return DOWN if down[0] else {task: odd if task == "odd" else RUNNING for task in tasks}

    relay = await start(OneStep(script), Pace())
    good, _ = relay.follow("scripted", "good"), relay.follow("scripted", "odd")
    await clock.sleep(100)
    down[0] = True
    await clock.sleep(3)

    first, *_ = about(records, good, Retrying)
    assert first.next_in == 2.5, "the first failure of the list"


class Failing(MemoryJournal):
    """Refuses one record, once, with an error that is nobody's job."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def append(self, record: Record, state: Any = None) -> None:
        if self.broken:
            self.broken = False
            raise OSError("a fault of the machine")
        super().append(record, state)


@KINDS
async def test_a_fault_of_our_own_in_a_trial_leaves_nobody_without_a_turn(clock: ManualClock, make: Make) -> None:
    journal = Failing()
    upstream = make(lambda _: DOWN if clock.monotonic() < 30 else RUNNING, clock)
    async with Relay([upstream], clock=clock, journal=journal, notify=lambda _: None) as relay:
        jobs = [relay.follow("scripted", f"t{number}") for number in range(8)]
        await clock.sleep(29)
        journal.broken = True
        await clock.sleep(200)
        polled = [job.state.attempt for job in jobs]
        await clock.sleep(20)

        assert all(job.state.attempt > before + 5 for job, before in zip(jobs, polled, strict=True))


async def test_what_was_published_of_an_odd_answer_is_read_again_after_a_restart(
    clock: ManualClock, tmp_path: Path
) -> None:
    odd = Observation(status="running", percent=250, eta=-1.0, queue_position=-1)
    path = tmp_path / "relay.db"
    async with Relay([one_list(lambda _: odd, clock)], clock=clock, journal=SqliteJournal(path)) as relay:
        job = relay.follow("scripted", "t")
        await clock.sleep(6)
    with closing(SqliteJournal(path)) as journal:
        (stored,) = journal.recover()

    assert stored.state == job.state


async def test_a_job_whose_request_is_under_way_has_no_other_turn_when_an_outage_begins_and_ends(
    start: Start, clock: ManualClock
) -> None:
    under_way: list[str] = []
    twice: list[str] = []

    async def answer(task: str) -> Observation | UpstreamError:
        twice.extend(other for other in under_way if other == task)
        under_way.append(task)
        down = 5 <= clock.monotonic() < 20
        await clock.sleep(90 if task == "slow" else 0.05)
        under_way.remove(task)
        return DOWN if down else RUNNING

    relay = await start(Items(answer, clock), Pace(concurrency=50))
    for task in ("slow", *(f"t{number}" for number in range(8))):
        relay.follow("scripted", task)
    await clock.sleep(200)

    assert twice == []
