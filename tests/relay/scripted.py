"""An upstream without HTTP, for tests of what stands above it: it answers as it was told to."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from relay import Job, Record, Relay
from relay.clock import Clock
from relay.errors import UpstreamError
from relay.events import Exchange
from relay.jobs.observations import Answer, Observation
from relay.upstreams.base import ExchangeListener

__all__ = ["RUNNING", "Items", "OneStep", "TwoStep", "an_exchange", "ended", "story"]

RUNNING = Observation(status="running", raw_status="running", percent=9, source="reported")

Reply = Mapping[str, Observation] | Exception
Script = Callable[[Sequence[str]], Reply]


class OneStep:
    """Answers each poll with what *script* returns for the tasks asked for; counts what it was asked."""

    def __init__(self, script: Script, *, interval: float = 2.5, deadline: float = 1_500.0) -> None:
        self.name = "scripted"
        self.interval = interval
        self.deadline = deadline
        self.on_exchange: ExchangeListener | None = None
        self.asked: list[tuple[str, ...]] = []
        self.entered = 0
        self._script = script

    async def __aenter__(self) -> Self:
        self.entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.entered -= 1

    async def observe(self, tasks: Sequence[str]) -> Answer:
        self.asked.append(tuple(tasks))
        return _answer(self._script(tasks))


class Items(OneStep):
    """Is asked for each task by itself; *answer* is given one, and may take its time. Notes when it was asked, of what.

    *token* is what its `token_version` is made of.
    """

    polls_each_task = True

    def __init__(self, answer: Callable[[str], Awaitable[Observation | UpstreamError]], clock: Clock, **options: Any):
        super().__init__(lambda _: {}, **options)
        self.times: list[tuple[float, str]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.token = "first"
        self._answer = answer
        self._clock = clock

    def token_version(self) -> object:
        return hash(self.token)

    async def observe(self, tasks: Sequence[str]) -> Answer:
        (task,) = tasks
        self.times.append((self._clock.monotonic(), task))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            said = await self._answer(task)
        finally:
            self.under_way -= 1
        return Answer(listed=1, tasks={task: said})

    def asked_at(self, task: str) -> list[float]:
        """When *task* was asked for."""
        return [at for at, asked in self.times if asked == task]


class TwoStep(OneStep):
    """Keeps results elsewhere, takes submissions, and can be told to stop."""

    def __init__(self, script: Script, results: Script = lambda _: {}, **options: Any) -> None:
        super().__init__(script, **options)
        self.looked: list[tuple[str, ...]] = []
        self.submitted: list[Mapping[str, Any]] = []
        self.cancelled: list[str] = []
        self.on_submit: Exception | None = None
        self.on_cancel: Exception | None = None
        self._results = results

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        self.looked.append(tuple(tasks))
        return _answer(self._results(tasks))

    async def submit(self, input: Mapping[str, Any]) -> str:
        self.submitted.append(input)
        if self.on_submit is not None:
            raise self.on_submit
        return f"task_{len(self.submitted)}"

    async def cancel(self, task: str) -> None:
        if self.on_cancel is not None:
            raise self.on_cancel
        self.cancelled.append(task)


def story(*replies: Reply) -> Script:
    """One reply a poll, the last one for ever."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


async def ended(relay: Relay, *jobs: Job) -> None:
    """Return when every one of *jobs* has its terminal record."""
    left = {job.id for job in jobs if not job.ended}
    over = asyncio.Event()

    def watch(record: Record) -> None:
        if record.terminal:
            left.discard(record.job)
        if not left:
            over.set()

    with relay.bus.subscribe(watch, jobs):
        if left:
            await over.wait()


def an_exchange(at: datetime, *jobs: str, upstream: str = "sora", request: str = "") -> Exchange:
    """A raw exchange about *jobs*."""
    return Exchange(
        jobs=jobs,
        upstream=upstream,
        method="GET",
        url="http://127.0.0.1/nf/pending/v2",
        status=200,
        seconds=0.2,
        request=request,
        response="[]",
        at=at,
    )


def _answer(reply: Reply) -> Answer:
    if isinstance(reply, Exception):
        raise reply
    return Answer(listed=len(reply), tasks=dict(reply))
