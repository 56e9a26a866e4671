"""Whatever is said, woken or set, a story has one end and no holes, no poll is too early, and no end is unasked."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay import Pace, Record, Relay
from relay.errors import UpstreamError
from relay.events import Checking, Failed, Progress, Received, Retrying
from relay.jobs import Job
from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.pace import MIN_DELAY
from relay.testing import ManualClock
from tests.relay.scripted import Items, OneStep, TwoStep

INTERVAL = 2.5
JOBS = 3
CALM = 150.0
"""Seconds after a story in which every job that has not ended must have a turn: the longest hold, and some."""


class Jumping(ManualClock):
    """A clock whose time of day can be set, as people and time servers do, on a machine that can be suspended."""

    offset = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.offset

    def suspend(self, seconds: float) -> None:
        """Every clock goes on, and nobody is woken."""
        self._elapsed += seconds


observations = st.builds(
    Observation,
    status=st.sampled_from(["queued", "running", "unknown", "succeeded"]),
    percent=st.none() | st.integers(0, 100),
    poll_after=st.none(),
    log=st.sampled_from([(), ("a line",)]),
    result=st.sampled_from([None] * 12 + [Result(urls=("https://a/b",)), Result(urls=())]),
    failure=st.sampled_from([None] * 12 + [Failure(kind="policy", message="no")]),
)
errors = st.builds(
    UpstreamError,
    st.sampled_from(["network", "timeout", "server", "rate-limit", "auth", "not-found", "malformed", "refused"]),
    st.just("trouble"),
    retry_after=st.sampled_from([None, None, 0.0, 5.0, 1e9]),
)
said = st.none() | observations | errors | st.just(KeyError("a fault of the adapter"))
asking = st.builds(Observation, status=st.just("running"), poll_after=st.sampled_from([0.0, 1.0, 1e9]))
AT_80, AT_10 = (Observation(status="running", percent=percent) for percent in (80, 10))
moves = st.tuples(
    st.sampled_from([0.1, 1.0, 2.5, 7.0, 40.0, 3_600.0, 14_400.0]),
    st.sampled_from([0, 0, 0, 3_600, -3_600]),
    st.sampled_from(["", "", "new token", "cancel", "news", "a flood of news"]),
)
paces = st.builds(
    Pace,
    interval=st.just(INTERVAL),
    jitter=st.sampled_from([0.0, 0.1]),
    adaptive=st.booleans(),
    deadline=st.sampled_from([100.0, 100_000.0]),
    deadlines=st.sampled_from([{}, {"queued": 20.0}]),
    requests_per_second=st.sampled_from([0.0, 2.0]),
    concurrency=st.integers(1, 3),
)


class Script:
    """Says one thing after the other, then that the job runs."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self._left = list(answers)

    def next(self) -> Any:
        return self._left.pop(0) if self._left else Observation(status="running")


def upstream_of(kind: str, script: Script, clock: ManualClock) -> OneStep:
    if kind == "items":

        async def answer(task: str) -> Any:
            await clock.sleep(0.3 if task == "t0" else 0.05)
            if isinstance(told := script.next(), KeyError):
                raise told
            return told if told is not None else Observation(status="running")

        return Items(answer, clock)

    def listed(tasks: Sequence[str]) -> Any:
        told = {task: script.next() for task in tasks}
        whole = next((one for one in told.values() if isinstance(one, Exception)), None)
        return whole or {task: one for task, one in told.items() if one is not None}

    class Lists(TwoStep):
        token = ""

        def token_version(self) -> object:
            return hash(self.token)

        async def fetch_result(self, tasks: Sequence[str]) -> Answer:
            told = script.next()
            return Answer(listed=0, tasks={tasks[0]: told} if isinstance(told, Observation) else {})

    return Lists(listed)


class Polls:
    """A sink that notes when each job was polled, and whether the poll failed."""

    def __init__(self, clock: ManualClock, deadline: float) -> None:
        self.of: dict[str, list[tuple[float, bool]]] = {}
        self.news: list[tuple[float, str]] = []
        self._clock = clock
        self._checking: set[str] = set()
        self.unasked: list[Record] = []
        self._deadline = deadline
        self._began: dict[str, float] = {}

    def __call__(self, record: Record) -> None:
        now = self._clock.monotonic()
        began = self._began.setdefault(record.job, now)
        polls = self.of.setdefault(record.job, [])
        if isinstance(record.event, Failed) and record.event.message.startswith("not finished"):
            # The time of day may have been set: what counts is when it was polled.
            was_polled = bool(polls) and polls[-1][0] >= began + self._deadline - 1e-6
            self.unasked += [] if was_polled else [record]
        if isinstance(record.event, Checking):
            polls.append((self._clock.monotonic(), False))
            self._checking.add(record.job)
        elif record.job in self._checking and not isinstance(record.event, Received):
            self._checking.discard(record.job)
            polls[-1] = polls[-1][0], isinstance(record.event, Retrying)

    def check(self, pace: float, *, one_request_for_all: bool) -> None:
        """No poll comes sooner than *pace*; one that news has brought forward, where none failed, than MIN_DELAY."""
        for job, polls in self.of.items():
            news = [at for at, about in self.news if one_request_for_all or about == job]
            for (earlier, failed), (later, _) in pairwise(polls):
                hurried = not failed and any(earlier <= at <= later for at in news)
                assert later - earlier >= (MIN_DELAY if hurried else pace) - 1e-6, (job, earlier, later, self.news)


async def live(kind: str, pace: Pace, answers: Sequence[Any], steps: Sequence[tuple[float, int, str]]) -> list[Record]:
    clock = Jumping(auto=True)
    records: list[Record] = []
    polls = Polls(clock, pace.deadline)
    upstream = upstream_of(kind, Script(answers), clock)
    relay = Relay([upstream], sinks=[records.append], clock=clock, paces={"scripted": pace}, notify=lambda _: None)

    def wake(job: Job) -> None:
        polls.news.append((clock.monotonic(), job.id))
        assert relay.wake("scripted", job.state.task or "") is not job.ended

    relay.bus.subscribe(polls)
    async with relay:
        jobs = [relay.follow("scripted", f"t{number}") for number in range(JOBS)]
        for seconds, jump, action in steps:
            await clock.sleep(min(seconds, 60.0))
            clock.suspend(max(0.0, seconds - 60.0))
            clock.offset += timedelta(seconds=jump)
            if action == "new token":
                upstream.token = f"{upstream.token}+"  # type: ignore[attr-defined]
            elif action == "cancel":
                await relay.cancel(jobs[0].id)
            elif action == "news":
                wake(jobs[0])
            elif action == "a flood of news":
                for job in jobs * 5:
                    wake(job)
                    await clock.sleep(0.05)
        polled = {job.id: len(polls.of[job.id]) for job in jobs}
        await clock.sleep(CALM)
        starved = [job.id for job in jobs if not job.ended and len(polls.of[job.id]) == polled[job.id]]
    assert starved == []
    assert polls.unasked == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    asked = any(isinstance(one, Observation) and one.poll_after is not None for one in answers)
    polls.check(MIN_DELAY if asked else bound(pace), one_request_for_all=kind == "list")
    return records


def bound(pace: Pace) -> float:
    return (pace.fastest if pace.adaptive else pace.interval) * (1 - pace.jitter)


@example("items", Pace(), [UpstreamError("auth", "refused")], [(1.0, 0, "new token"), (7.0, 0, "")])
@example("list", Pace(), [UpstreamError("auth", "refused")], [(1.0, 0, "new token"), (7.0, 0, "")])
@example(
    "list", Pace(), [Observation(status="running", percent=figure) for figure in (80,) * 3 + (10,) * 3], [(7.0, 0, "")]
)
@example("items", Pace(concurrency=3), [UpstreamError("server", "down")] * 5, [(60.0, 0, ""), (60.0, -3_600, "")])
@example("items", Pace(), [], [(1.0, 0, "a flood of news"), (0.1, 0, "news"), (14_400.0, 0, "news"), (7.0, 0, "")])
@example("list", Pace(), [], [(1.0, 0, "a flood of news"), (0.1, 0, "news"), (14_400.0, 0, "news"), (7.0, 0, "")])
@example("items", Pace(), [UpstreamError("server", "down")] * 3, [(1.0, 0, "a flood of news"), (7.0, 0, "")])
@example("list", Pace(), [UpstreamError("server", "down")] * 3, [(1.0, 0, "a flood of news"), (7.0, 0, "")])
@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["items", "list"]),
    paces,
    # Some stories without trouble: where one answer in four has a figure, hardly a job ever meets two.
    st.lists(said, max_size=25)
    | st.lists(said | asking, max_size=25)
    | st.lists(observations, min_size=6, max_size=25),
    st.lists(moves, min_size=1, max_size=8),
)
def test_any_interleaving_of_answers_errors_and_clock_moves_keeps_the_laws(
    kind: str, pace: Pace, answers: list[Any], steps: list[tuple[float, int, str]]
) -> None:
    records = asyncio.run(live(kind, pace, answers, steps))

    for job in {record.job for record in records}:
        story = [record for record in records if record.job == job]
        assert [record.seq for record in story] == list(range(1, len(story) + 1))
        assert [record.seq for record in story if record.terminal] in ([], [len(story)])
        shown = [record.event.percent for record in story if isinstance(record.event, Progress)]
        figures = [percent for percent in shown if percent is not None]
        assert figures == sorted(figures)
