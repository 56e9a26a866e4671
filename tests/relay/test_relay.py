"""Following jobs: one poll for all, a story for each, and nothing left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import pytest

from relay import Record, Relay
from relay.errors import BusyError, ConflictError, UnavailableError, UnknownJobError, UpstreamError, UsageError
from relay.events import Cancelled, Done, Exchange, Failed, Progress, Retrying
from relay.jobs import Job
from relay.jobs.observations import Answer, Observation, Result
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, OneStep, TwoStep, ended, story

FINISHED = Observation(status="succeeded", result=Result(urls=("https://a/b.mp4",)))


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(auto=True)


@pytest.fixture
def records() -> list[Record]:
    return []


@pytest.fixture
async def start(clock: ManualClock, records: list[Record]) -> AsyncIterator[Callable[[OneStep], Awaitable[Relay]]]:
    """Start a relay on an upstream; it is left at the end of the test."""
    relays: list[Relay] = []

    async def enter(upstream: OneStep) -> Relay:
        relay = Relay([upstream], sinks=[records.append], clock=clock)
        relays.append(relay)
        return await relay.__aenter__()

    yield enter
    for relay in relays:
        await relay.__aexit__(None, None, None)


def told(records: list[Record], job: Job) -> list[str]:
    return [record.event.text for record in records if record.job == job.id]


async def test_a_followed_job_is_told_poll_by_poll_until_it_is_done(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record]
) -> None:
    upstream = TwoStep(story({"t": RUNNING}, {}, {}), results=story({"t": FINISHED}))
    relay = await start(upstream)

    job = relay.follow("scripted", "t")
    await ended(relay, job)

    assert told(records, job) == [
        "accepted for scripted, task t",
        "checking (1 of 600)",
        "answered in 0.00 s, 1 job listed",
        "9% (running)",
        "checking (2 of 600)",
        "answered in 0.00 s, 0 jobs listed",
        "9% (running), not listed at the moment",
        "checking (3 of 600)",
        "answered in 0.00 s, 0 jobs listed",
        "no longer pending, fetching the result (try 1)",
        "done, 1 file",
    ]
    assert [record.at.second + record.at.microsecond / 1e6 for record in records] == [0] * 4 + [2.5] * 3 + [5] * 4


async def test_five_jobs_of_one_account_are_one_request_an_interval(
    start: Callable[[OneStep], Awaitable[Relay]], clock: ManualClock
) -> None:
    tasks = [f"t{number}" for number in range(5)]
    working = dict.fromkeys(tasks, RUNNING)
    upstream = OneStep(story(*[working] * 9, dict.fromkeys(tasks, FINISHED)))
    relay = await start(upstream)

    await ended(relay, *[relay.follow("scripted", task) for task in tasks])

    assert upstream.asked == [tuple(tasks)] * 10
    assert clock.monotonic() == 9 * 2.5


async def test_a_job_that_arrives_between_two_polls_waits_for_the_next(
    start: Callable[[OneStep], Awaitable[Relay]], clock: ManualClock
) -> None:
    upstream = OneStep(lambda tasks: dict.fromkeys(tasks, RUNNING if clock.monotonic() < 10 else FINISHED))
    relay = await start(upstream)
    first = relay.follow("scripted", "first")
    await clock.sleep(4)
    second = relay.follow("scripted", "second")
    await ended(relay, first, second)

    assert upstream.asked == [("first",)] * 2 + [("first", "second")] * 3
    assert clock.monotonic() == 10


async def test_the_poller_rests_while_there_is_no_job_and_keeps_its_distance_afterwards(
    start: Callable[[OneStep], Awaitable[Relay]], clock: ManualClock
) -> None:
    upstream = OneStep(lambda tasks: dict.fromkeys(tasks, FINISHED))
    relay = await start(upstream)
    await ended(relay, relay.follow("scripted", "a"))
    await clock.sleep(1)
    await ended(relay, relay.follow("scripted", "b"))
    at_b = clock.monotonic()
    await clock.sleep(1_000)
    await ended(relay, relay.follow("scripted", "c"))

    assert upstream.asked == [("a",), ("b",), ("c",)]
    assert at_b == 2.5
    assert clock.monotonic() == 1_002.5


async def test_a_failed_poll_is_told_and_the_next_one_comes_anywhere_below_a_ceiling_that_doubles(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record]
) -> None:
    trouble = UpstreamError("server", "HTTP 502")
    relay = await start(OneStep(story({"t": RUNNING}, *[trouble] * 8, {"t": FINISHED})))

    await ended(relay, job := relay.follow("scripted", "t"))

    retries = [record.event for record in records if isinstance(record.event, Retrying)]
    assert [(retry.kind, retry.message, retry.attempt) for retry in retries] == [
        ("server", "HTTP 502", attempt) for attempt in range(1, 9)
    ]
    delays = [retry.next_in for retry in retries]
    assert all(low <= delay <= high for delay, low, high in zip(delays, LOWS, HIGHS, strict=True)), delays
    assert isinstance(job.state.terminal, Done)


LOWS = [2.5] * 8
HIGHS = [2.5, 5, 10, 20, 40, 60, 60, 60]


@pytest.mark.parametrize(("asked", "kept"), [(7.0, 7.0), (0.0, 2.5), (86_400.0, 60.0)])
async def test_retry_after_is_obeyed_within_bounds(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record], asked: float, kept: float
) -> None:
    limited = UpstreamError("rate-limit", "HTTP 429", retry_after=asked)
    relay = await start(OneStep(story(limited, {"t": FINISHED})))

    await ended(relay, relay.follow("scripted", "t"))

    (retry,) = [record for record in records if isinstance(record.event, Retrying)]
    assert isinstance(retry.event, Retrying)
    assert retry.event.next_in == kept
    assert (records[-1].at - retry.at).total_seconds() == kept


async def test_a_failed_look_for_the_result_is_told_and_tried_again(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record]
) -> None:
    trouble = UpstreamError("auth", "HTTP 401")
    upstream = TwoStep(story({"t": RUNNING}, {}), results=story(trouble, trouble, {"t": FINISHED}))
    relay = await start(upstream)

    await ended(relay, job := relay.follow("scripted", "t"))

    assert [record.event.attempt for record in records if isinstance(record.event, Retrying)] == [1, 2]
    assert isinstance(job.state.terminal, Done)


async def test_an_answer_that_cannot_be_read_for_one_job_leaves_the_others_alone(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record]
) -> None:
    class Mixed(OneStep):
        async def observe(self, tasks: Sequence[str]) -> Answer:
            answer = await super().observe(tasks)
            if len(self.asked) > 1:
                return answer
            return Answer(listed=2, tasks={**answer.tasks, "bad": UpstreamError("malformed", "no status")})

    relay = await start(Mixed(story({"good": RUNNING}, {"good": FINISHED, "bad": FINISHED})))
    good, bad = relay.follow("scripted", "good"), relay.follow("scripted", "bad")
    await ended(relay, good, bad)

    assert "9% (running)" in told(records, good)
    assert "poll failed (malformed): no status; next try in 2.5 s" in told(records, bad)
    assert isinstance(bad.state.terminal, Done)


async def test_an_adapter_with_a_bug_is_told_as_internal_and_polling_goes_on(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record], caplog: pytest.LogCaptureFixture
) -> None:
    relay = await start(OneStep(story(KeyError("status"), {"t": FINISHED})))

    await ended(relay, job := relay.follow("scripted", "t"))

    assert "poll failed (internal): the adapter failed with KeyError; next try in 2." in "\n".join(told(records, job))
    assert "the adapter of upstream scripted failed: KeyError('status')" in caplog.text


async def test_the_deadline_ends_a_job_on_time_also_while_polling_holds_off(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record], clock: ManualClock
) -> None:
    relay = await start(OneStep(story(UpstreamError("network", "refused")), deadline=100.0))

    await ended(relay, job := relay.follow("scripted", "t"))

    assert clock.monotonic() == 100.0
    assert isinstance(end := job.state.terminal, Failed)
    assert (end.kind, end.retryable) == ("timeout", True)
    assert end.message.startswith("not finished within 100 seconds, and the last ")


async def test_following_the_same_task_twice_is_the_same_job(start: Callable[[OneStep], Awaitable[Relay]]) -> None:
    relay = await start(OneStep(story({"t": FINISHED})))
    job = relay.follow("scripted", "t")
    assert relay.follow("scripted", "t") is job
    await ended(relay, job)

    assert relay.follow("scripted", "t") is job
    assert relay.jobs() == [job]


async def test_a_submission_is_known_before_it_is_made_and_followed_afterwards(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record]
) -> None:
    upstream = TwoStep(story({"task_1": FINISHED}))
    relay = await start(upstream)

    job = relay.submit("scripted", {"prompt": "a cat"})
    assert (job.state.seq, job.state.task) == (1, None)
    with pytest.raises(ConflictError, match="still being submitted"):
        await relay.cancel(job.id)
    await ended(relay, job)

    assert told(records, job)[:2] == ["accepted for scripted", "accepted for scripted, task task_1"]
    assert upstream.submitted == [{"prompt": "a cat"}]
    assert relay.follow("scripted", "task_1") is job


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (
            UpstreamError("refused", "bad prompt"),
            Failed(kind="upstream", message="not submitted: bad prompt"),
        ),
        (
            UpstreamError("rate-limit", "HTTP 429"),
            Failed(kind="rate-limit", message="not submitted: HTTP 429", retryable=True),
        ),
        (
            UpstreamError("timeout", "no answer in 30 s"),
            Failed(
                kind="timeout",
                message="not submitted: no answer in 30 s; whether the upstream took the job is not known,"
                " and it is not submitted again",
            ),
        ),
        (UsageError("unknown key 'promt'"), Failed(kind="upstream", message="unknown key 'promt'")),
        (KeyError("id"), Failed(kind="internal", message="the adapter failed with KeyError")),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_submission_that_fails_ends_the_job_and_is_never_repeated(
    start: Callable[[OneStep], Awaitable[Relay]], error: Exception, end: Failed
) -> None:
    upstream = TwoStep(story({}))
    upstream.on_submit = error
    relay = await start(upstream)

    await ended(relay, job := relay.submit("scripted", {"prompt": "a cat"}))

    assert job.state.terminal == end
    assert len(upstream.submitted) == 1
    assert upstream.asked == []


async def test_the_same_key_is_the_same_submission_and_another_input_is_a_conflict(
    start: Callable[[OneStep], Awaitable[Relay]],
) -> None:
    upstream = TwoStep(story({"task_1": FINISHED}))
    relay = await start(upstream)
    job = relay.submit("scripted", {"prompt": "a cat", "n": 1}, key="k")

    assert relay.submit("scripted", {"n": 1, "prompt": "a cat"}, key="k") is job
    with pytest.raises(ConflictError, match="'k' was used for another request"):
        relay.submit("scripted", {"prompt": "a dog"}, key="k")
    await ended(relay, job)
    assert len(upstream.submitted) == 1


async def test_a_cancelled_job_ends_here_and_at_the_upstream_where_that_can_be(
    start: Callable[[OneStep], Awaitable[Relay]], clock: ManualClock
) -> None:
    upstream = TwoStep(story({"t": RUNNING}))
    relay = await start(upstream)
    job = relay.follow("scripted", "t")
    await clock.sleep(3)

    assert await relay.cancel(job.id) is job
    assert await relay.cancel(job.id) is job
    polls = len(upstream.asked)
    await clock.sleep(10)

    assert upstream.cancelled == ["t"]
    assert job.state.terminal == Cancelled(by="caller")
    assert len(upstream.asked) == polls


async def test_where_the_upstream_cannot_be_told_the_record_says_so(
    start: Callable[[OneStep], Awaitable[Relay]],
) -> None:
    relay = await start(OneStep(story({"t": RUNNING})))

    job = await relay.cancel(relay.follow("scripted", "t").id)

    assert job.state.text == "cancelled by the caller: no longer followed; this upstream cannot be told to stop"


async def test_a_cancel_that_the_upstream_refuses_leaves_the_job_running(
    start: Callable[[OneStep], Awaitable[Relay]],
) -> None:
    upstream = TwoStep(story({"t": RUNNING}))
    upstream.on_cancel = UpstreamError("refused", "too late")
    relay = await start(upstream)
    job = relay.follow("scripted", "t")

    with pytest.raises(UpstreamError, match="too late"):
        await relay.cancel(job.id)
    assert not job.ended


async def test_a_job_cancelled_while_the_upstream_is_asked_gets_nothing_after_its_end(clock: ManualClock) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(OneStep):
        async def observe(self, tasks: Sequence[str]) -> Answer:
            asked.set()
            await answer.wait()
            return await super().observe(tasks)

    async with Relay([Slow(story({"t": RUNNING, "u": FINISHED}))], clock=clock) as relay:
        job, other = relay.follow("scripted", "t"), relay.follow("scripted", "u")
        await asked.wait()
        await relay.cancel(job.id)
        answer.set()
        await ended(relay, other)

        assert isinstance(relay.journal.read(0, [job.id])[-1].event, Cancelled)


async def test_what_is_not_known_is_refused_by_name(start: Callable[[OneStep], Awaitable[Relay]]) -> None:
    relay = await start(OneStep(story({})))

    with pytest.raises(UsageError, match="no upstream is called 'sorra'; configured: scripted"):
        relay.follow("sorra", "t")
    with pytest.raises(UsageError, match="takes no submissions"):
        relay.submit("scripted", {})
    with pytest.raises(UnknownJobError, match="no job 'job_x' is known here"):
        await relay.cancel("job_x")
    for task in ("", "a\nb", "x" * 257, "é"):
        with pytest.raises(UsageError, match="a task id is 1 to 256 printing ASCII characters"):
            relay.follow("scripted", task)


async def test_a_relay_that_is_not_running_or_is_entered_twice_says_so(clock: ManualClock) -> None:
    relay = Relay([OneStep(story({}))], clock=clock)
    with pytest.raises(UsageError, match="the relay is not running; enter it first"):
        relay.follow("scripted", "t")
    async with relay:
        with pytest.raises(UsageError, match="running already"):
            await relay.__aenter__()
    with pytest.raises(UnavailableError, match="the relay is shutting down: nothing was begun"):
        relay.follow("scripted", "t")
    with pytest.raises(UsageError, match="two upstreams are called 'scripted'"):
        Relay([OneStep(story({})), OneStep(story({}))])


async def test_the_number_of_running_jobs_is_bounded_and_ended_ones_are_forgotten_with_their_records(
    clock: ManualClock,
) -> None:
    upstream = OneStep(lambda tasks: dict.fromkeys(tasks, FINISHED))
    journal = MemoryJournal(Retention(records=50))
    async with Relay([upstream], clock=clock, journal=journal, max_running=3) as relay:
        for number in range(3):
            relay.follow("scripted", f"first{number}")
        with pytest.raises(BusyError, match="3 jobs are running, the most there may be"):
            relay.follow("scripted", "one too many")
        await ended(relay, *relay.jobs())

        for number in range(2_000):
            await relay.cancel(relay.follow("scripted", f"t{number}").id)

        assert len(relay.jobs()) < 1_500


async def test_a_raw_exchange_names_the_jobs_it_was_about(clock: ManualClock) -> None:
    heard: list[Exchange] = []

    class Listening:
        def __call__(self, record: Record) -> None:
            pass

        def exchange(self, exchange: Exchange) -> None:
            heard.append(exchange)

    upstream = OneStep(story({"t": RUNNING}))
    async with Relay([upstream], sinks=[Listening()], clock=ManualClock()) as relay:
        job = relay.follow("scripted", "t")
        assert upstream.on_exchange is not None
        upstream.on_exchange(
            Exchange(
                jobs=("t", "a stranger's"),
                upstream="scripted",
                method="GET",
                url="http://127.0.0.1/",
                status=200,
                seconds=0.1,
                request="",
                response="[]",
                at=clock.now(),
            )
        )

    assert [exchange.jobs for exchange in heard] == [(job.id,)]


async def test_adapters_make_raw_exchanges_only_while_somebody_hears_them(clock: ManualClock) -> None:
    upstream = OneStep(story({"t": RUNNING}))

    async with Relay([upstream], clock=clock) as relay:
        asked_at_first = upstream.on_exchange
        leave_one, leave_other = (relay.bus.subscribe_exchanges(lambda _: None) for _ in range(2))
        leave_one()
        asked_for_one = upstream.on_exchange
        leave_other()
        asked_at_last = upstream.on_exchange

    assert (asked_at_first, asked_at_last) == (None, None)
    assert asked_for_one is not None


def _note(viewer: list[int], record: Record) -> None:
    viewer.append(record.seq)


async def test_a_job_with_a_thousand_viewers_is_polled_once_an_interval(clock: ManualClock) -> None:
    upstream = OneStep(story({"t": RUNNING}))
    heard: list[list[int]] = [[] for _ in range(1_000)]

    async with Relay([upstream], clock=clock) as relay:
        job = relay.follow("scripted", "t")
        for viewer in heard:
            relay.bus.subscribe(partial(_note, viewer), [job], after=0)
        await clock.sleep(2.5 * 3 + 1)
        told = list(range(1, job.state.seq + 1))

    assert len(upstream.asked) == 4
    assert heard == [told] * 1_000


async def test_leaving_ends_every_task_and_closes_upstreams_and_sinks_in_order(clock: ManualClock) -> None:
    closed: list[str] = []

    class Closing:
        async def __aenter__(self) -> None:
            closed.append("entered")

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            closed.append("left")

        def __call__(self, record: Record) -> None:
            closed.append(record.event.type)

        def exchange(self, exchange: Exchange) -> None:
            closed.append(exchange.method)

    upstream = OneStep(story({"t": RUNNING}))
    before = asyncio.all_tasks()
    async with Relay([upstream], sinks=[Closing()], clock=ManualClock()) as relay:
        relay.follow("scripted", "t")
        assert upstream.entered == 1
        assert upstream.on_exchange is not None
        (sink,) = relay.sinks
    sink.close()
    assert relay.sinks == []

    assert closed == ["entered", "accepted", "left"]
    assert upstream.entered == 0
    assert asyncio.all_tasks() == before


async def test_a_submission_cut_off_by_the_end_of_the_relay_is_told_as_lost(clock: ManualClock) -> None:
    class Hanging(TwoStep):
        async def submit(self, input: Mapping[str, Any]) -> str:
            await asyncio.Event().wait()
            return "never"

    relay = Relay([Hanging(story({}))], clock=clock, submit_grace=0.0)
    async with relay:
        job = relay.submit("scripted", {"prompt": "a cat"})

    assert isinstance(end := job.state.terminal, Failed)
    assert end.kind == "lost"


async def test_progress_is_sent_for_every_poll_even_when_nothing_changes(
    start: Callable[[OneStep], Awaitable[Relay]], records: list[Record]
) -> None:
    relay = await start(OneStep(story(*[{"t": RUNNING}] * 10, {"t": FINISHED})))

    await ended(relay, relay.follow("scripted", "t"))

    assert sum(isinstance(record.event, Progress) for record in records) == 10


async def test_a_task_id_that_holds_a_token_of_a_relay_is_refused_before_it_is_in_the_journal() -> None:
    async with Relay([TwoStep(story({}))], clock=ManualClock()) as relay:
        with pytest.raises(UsageError, match="holds a token that opens the relay; name the task alone"):
            relay.follow("scripted", "rlk_0123456789abcdefghijklmnopqrstuvwxyz")
        assert relay.jobs() == []
