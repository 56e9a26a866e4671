"""The relay: which jobs there are, who polls them, who hears of them, and how all of it starts and ends."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, cast

import msgspec

from relay.bus import Bus
from relay.cadence import Pace
from relay.callbacks import Callbacks
from relay.clock import Clock, SystemClock
from relay.errors import BusyError, ConflictError, UnknownJobError, UsageError
from relay.events import Accepted, Cancelled, Exchange, Failed
from relay.jobs import Job
from relay.journal import Journal, MemoryJournal, StoredJob
from relay.poller import Poller
from relay.submission import INTERRUPTED, hand_in
from relay.subscription import Notify, Sink, Subscription, notice
from relay.upstreams.base import Cancels, Pushes, Submits, Upstream

__all__ = ["Relay"]

MAX_RUNNING: Final = 10_000
MAX_TASK_ID: Final = 256
SUBMIT_GRACE: Final = 1.0
WRITE_AGAIN_AFTER: Final = 1.0
SWEEP_FROM: Final = 1_024


def _new_job_id() -> str:
    return f"job_{secrets.token_hex(8)}"


class Relay:
    """Follows jobs on upstreams, and lets every sink hear what happens to them.

    An async context manager: entering opens upstreams and sinks and starts polling, leaving ends all of it. A job's
    life hangs on no client. A sink that is itself an async context manager is entered and left with the relay; one that
    has a method `exchange` also hears raw exchanges. *paces* says by name when an upstream may be asked, in place of
    what its adapter says. *callbacks* are the addresses that upstreams are asked to call.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        *,
        sinks: Iterable[Sink] = (),
        paces: Mapping[str, Pace] | None = None,
        callbacks: Callbacks | None = None,
        journal: Journal | None = None,
        clock: Clock | None = None,
        notify: Notify = notice,
        new_job_id: Callable[[], str] = _new_job_id,
        max_running: int = MAX_RUNNING,
        submit_grace: float = SUBMIT_GRACE,
    ) -> None:
        self.clock = clock or SystemClock()
        self.journal = journal or MemoryJournal()
        self.bus = Bus(self.journal, clock=self.clock, notify=notify, listening=self._listen)
        self.upstreams = _by_name(upstreams)
        self.callbacks = callbacks
        self.subscriptions: list[Subscription] = []
        self._paces = dict(paces or {})
        self._sinks = list(sinks)
        self._notify = notify
        self._new_job_id = new_job_id
        self._max_running = max_running
        self._submit_grace = submit_grace
        self._jobs: dict[str, Job] = {}
        self._by_task: dict[tuple[str, str], Job] = {}
        self._by_key: dict[str, tuple[Job, bytes]] = {}
        self._sweep_at = SWEEP_FROM
        self._pollers: dict[str, Poller] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._submissions: set[asyncio.Task[None]] = set()
        self._stack: AsyncExitStack | None = None

    @property
    def running(self) -> bool:
        """Whether the relay has been entered and not left."""
        return self._stack is not None

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise UsageError("this relay is running already; enter it once")
        async with AsyncExitStack() as stack:
            stack.callback(self._close_journal)
            for sink in self._sinks:
                await self._attach(stack, sink)
            for upstream in self.upstreams.values():
                if isinstance(upstream, Pushes):
                    upstream.on_news = partial(self.wake, upstream.name)
                await stack.enter_async_context(upstream)
            stack.push_async_callback(self.quiesce)
            for name, upstream in self.upstreams.items():
                self._pollers[name] = Poller(
                    upstream, self.bus, self.clock, pace=self._paces.get(name), notify=self._notify
                )
                _start(self._tasks, self._pollers[name].run(), f"poll {name}")
            _start(self._tasks, self._write_again(), "write the journal again")
            self._resume(self.journal.recover())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.__aexit__(kind, error, trace)

    def follow(self, upstream: str, task: str) -> Job:
        """Follow *task*, which exists at *upstream*. Following it again gives the same job.

        Raises UsageError for an upstream that is not configured or what cannot be a task id, BusyError at the limit.
        """
        where = self._upstream(upstream)
        if not (1 <= len(task) <= MAX_TASK_ID and task.isascii() and task.isprintable()):
            raise UsageError(f"a task id is 1 to {MAX_TASK_ID} printing ASCII characters")
        if (known := self.followed(upstream, task)) is not None:
            return known
        job = self._admit()
        self._by_task[upstream, task] = job
        self.bus.publish(job, Accepted(upstream=where.name, task=task))
        self._pollers[upstream].watch(job)
        return job

    def followed(self, upstream: str, task: str) -> Job | None:
        """The job that follows *task* already, if there is one."""
        job = self._by_task.get((upstream, task))
        return job if job is not None and job.id in self._jobs else None

    def submitted(self, key: str) -> Job | None:
        """The job that was submitted with *key*, if it is still known."""
        job, _ = self._by_key.get(key, (None, b""))
        return job if job is not None and job.id in self._jobs else None

    def submit(self, upstream: str, input: Mapping[str, Any], *, key: str | None = None) -> Job:
        """Hand *input* in at *upstream*, once, and follow what comes of it.

        The job is returned at once; how the submission went is part of its story. With *key*, the same call again gives
        the same job. Raises UsageError where that cannot be done, ConflictError where *key* came with another input.
        """
        where = self._upstream(upstream)
        if not isinstance(where, Submits):
            raise UsageError(f"upstream {upstream!r} takes no submissions; follow a task that exists there")
        digest = hashlib.sha256(msgspec.json.encode([upstream, input], order="deterministic")).digest()
        if key is not None and (known := self.submitted(key)) is not None:
            if self._by_key[key][1] != digest:
                raise ConflictError(f"the key {key!r} was used for another request; use a new key for a new request")
            return known
        job = self._admit()
        if key is not None:
            self._by_key[key] = (job, digest)
            self.journal.remember(job.id, key, digest)
        self.bus.publish(job, Accepted(upstream=upstream))
        _start(self._submissions, self._hand_in(where, job, input), f"submit {job.id}")
        return job

    async def cancel(self, job_id: str) -> Job:
        """Call a job off: at the upstream where that is possible, and here in any case. An ended job stays as it is.

        Raises UnknownJobError; ConflictError while the job is still being submitted; UpstreamError where the upstream
        can cancel and did not: the job goes on.
        """
        job = self.job(job_id)
        if job.ended:
            return job
        task, upstream = job.state.task, self.upstreams[job.state.upstream]
        if task is None:
            raise ConflictError(f"{job_id} is still being submitted; cancel it once it has a task")
        message = None
        if isinstance(upstream, Cancels):
            await upstream.cancel(task)
        else:
            message = "no longer followed; this upstream cannot be told to stop"
        if not job.ended:
            self.bus.publish(job, Cancelled(by="caller", message=message))
        return job

    def wake(self, upstream: str, task: str) -> bool:
        """Poll *task* as soon as may be, as there is news of it; return whether it is followed and has not ended.

        However often this is called, a job is polled five times a second at most, and not while its polls fail.
        """
        job = self.followed(upstream, task)
        if job is None or job.ended:
            return False
        self._pollers[upstream].wake(job)
        return True

    def job(self, job_id: str) -> Job:
        """The job with this id. Raises UnknownJobError."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise UnknownJobError(job_id) from None

    def jobs(self) -> list[Job]:
        """All jobs that are running, and those that have ended and are still in the journal, oldest first."""
        return list(self._jobs.values())

    async def _attach(self, stack: AsyncExitStack, sink: Sink) -> None:
        if hasattr(sink, "__aenter__"):
            await stack.enter_async_context(cast(AbstractAsyncContextManager[object], sink))
        self.subscriptions.append(stack.enter_context(self.bus.subscribe(sink)))
        if callable(listener := getattr(sink, "exchange", None)):
            stack.callback(self.bus.subscribe_exchanges(listener))

    def _resume(self, earlier: Iterable[StoredJob]) -> None:
        """Go on with the jobs of an earlier process: poll those that run, and submit nothing again."""
        for stored in earlier:
            job = Job(stored.id, stored.state)
            self._jobs[job.id] = job
            if stored.key is not None:
                self._by_key[stored.key] = (job, stored.digest)
            if job.state.task is not None:
                self._by_task[job.state.upstream, job.state.task] = job
            if not job.ended:
                self._take_up(job)

    def _take_up(self, job: Job) -> None:
        state = job.state
        if state.task is None:
            self.bus.publish(job, Failed(kind="lost", message=INTERRUPTED))
        elif state.upstream not in self._pollers:
            gone = f"upstream {state.upstream!r} is no longer configured"
            self.bus.publish(job, Failed(kind="internal", message=gone))
        else:
            age = (self.clock.now() - state.started).total_seconds() if state.started else 0.0
            self._pollers[state.upstream].watch(job, elapsed=max(age, 0.0))

    async def _hand_in(self, upstream: Submits, job: Job, input: Mapping[str, Any]) -> None:
        name = job.state.upstream
        url = self.callbacks.url(name, job.id) if self.callbacks is not None else None
        try:
            task = await hand_in(upstream, name, input, url, self._notify)
        except asyncio.CancelledError:
            self.bus.publish(job, Failed(kind="lost", message=INTERRUPTED))
            raise
        if isinstance(task, Failed):
            self.bus.publish(job, task)
        else:
            self._by_task[name, task] = job
            self.bus.publish(job, Accepted(upstream=name, task=task))
            self._pollers[name].watch(job)

    def _listen(self, wanted: bool) -> None:
        """Let adapters make raw exchanges, whose masking costs more than the poll, only while somebody hears them."""
        for upstream in self.upstreams.values():
            upstream.on_exchange = self._pass_on if wanted else None

    def _pass_on(self, exchange: Exchange) -> None:
        """Publish a raw exchange under the ids of our jobs; its adapter knows the upstream's tasks alone."""
        jobs = (self._by_task.get((exchange.upstream, task)) for task in exchange.jobs)
        self.bus.publish_exchange(msgspec.structs.replace(exchange, jobs=tuple(job.id for job in jobs if job)))

    def _upstream(self, name: str) -> Upstream:
        if self._stack is None:
            raise UsageError("the relay is not running; enter it first: `async with relay:`")
        try:
            return self.upstreams[name]
        except KeyError:
            known = ", ".join(sorted(self.upstreams)) or "none"
            raise UsageError(f"no upstream is called {name!r}; configured: {known}") from None

    def _admit(self) -> Job:
        if len(self._jobs) >= self._sweep_at:
            self._sweep()
        if len(self._jobs) >= self._max_running <= sum(not job.ended for job in self._jobs.values()):
            raise BusyError(f"{self._max_running:,} jobs are running, the most there may be; try again when some ended")
        job = Job(self._new_job_id())
        self._jobs[job.id] = job
        return job

    def _sweep(self) -> None:
        """Forget ended jobs that the journal no longer keeps; done when the number of jobs has doubled since."""
        self._jobs = {id: job for id, job in self._jobs.items() if not job.ended or self.journal.keeps(id)}
        self._by_task = {task: job for task, job in self._by_task.items() if job.id in self._jobs}
        self._by_key = {key: known for key, known in self._by_key.items() if known[0].id in self._jobs}
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._jobs))

    async def quiesce(self) -> None:
        """Stop asking upstreams: after this, no job's story goes on. Leaving the relay does it too.

        Submissions under way are given a moment, since what they cost is spent. Call it before streams are closed, so
        that whatever the console says last, they say too.
        """
        if self._submissions:
            await asyncio.wait(self._submissions, timeout=self._submit_grace)
        tasks = self._tasks | self._submissions
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._write()

    async def _write_again(self) -> None:
        """Try again what the journal did not take, also while nothing new comes that would."""
        while True:
            await self.bus.unwritten.wait()
            await self.clock.sleep(WRITE_AGAIN_AFTER)
            self._write()

    def _write(self) -> None:
        with self.bus.batch():
            pass

    def _close_journal(self) -> None:
        if self.bus.unwritten.is_set():
            self._notify("the journal still cannot be written; what has waited for it is lost")
        self.journal.close()


def _by_name(upstreams: Iterable[Upstream]) -> dict[str, Upstream]:
    named: dict[str, Upstream] = {}
    for upstream in upstreams:
        if upstream.name in named:
            raise UsageError(f"two upstreams are called {upstream.name!r}; give each a name of its own")
        named[upstream.name] = upstream
    return named


def _start(group: set[asyncio.Task[None]], work: Coroutine[Any, Any, None], name: str) -> None:
    task = asyncio.create_task(work, name=name)
    group.add(task)
    task.add_done_callback(group.discard)
