"""The relay: its jobs, the pollers that follow them, the sinks that receive records, and its start and its end."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

import relay.cluster
from relay.attachments import AttachedSink, Since, SinkOptions
from relay.attachments.adapt import adapted
from relay.attachments.attachments import Attachments
from relay.attachments.options import check_options
from relay.bus.bus import Bus
from relay.bus.upkeep import Upkeep
from relay.clock import Clock, SystemClock
from relay.cluster.options import ClusterOptions
from relay.cluster.shared_clock import SharedClock
from relay.errors import UsageError
from relay.events import Exchange, Failed, Level, Record
from relay.jobs.registry import MAX_RUNNING, JobRegistry, new_job_id
from relay.jobs.state import Job, elapsed, held_off
from relay.journal import Journal, MemoryJournal, StoredJob
from relay.journal.shared import SharedJournal
from relay.notices import Notify, guarded, notice, redacted
from relay.pace import Pace
from relay.polling.poller import Poller
from relay.polling.requests import Requests, at_once
from relay.polling.submission import checked_key
from relay.supervision.lifetimes import ENTER_WITHIN, LEAVE_WITHIN, Lifetimes
from relay.supervision.supervisor import Supervisor, Work, stop
from relay.upstreams.base import ChecksInput, KeepsTasks, Pushes, Upstream
from relay.webhooks import Webhooks
from relay.wire.redactor import Redactor

if TYPE_CHECKING:
    from relay.cluster import ClusterNode

__all__ = ["Redactor", "Relay"]

SUBMIT_GRACE: Final = 1.0


class Relay:
    """Follows jobs on upstreams, and publishes a record of every event to every sink.

    An async context manager: entering opens upstreams and sinks and starts polling, leaving ends all of it. A job's
    life hangs on no client. *sinks* are whatever `add_sink` accepts, or `SinkOptions`; one that has a method `exchange`
    also receives raw exchanges. *paces* says by name when an upstream may be polled, in place of the pace of its
    adapter. *webhooks* makes the addresses that upstreams call. *redactor* masks secrets in all that leaves the relay.
    """

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        *,
        sinks: Iterable[Any] = (),
        paces: Mapping[str, Pace] | None = None,
        webhooks: Webhooks | None = None,
        journal: Journal | SharedJournal | None = None,
        cluster: ClusterOptions | None = None,
        clock: Clock | None = None,
        notify: Notify = notice,
        redactor: Redactor | None = None,
        new_job_id: Callable[[], str] = new_job_id,
        max_running: int = MAX_RUNNING,
        submit_grace: float = SUBMIT_GRACE,
        enter_within: float = ENTER_WITHIN,
        leave_within: float = LEAVE_WITHIN,
    ) -> None:
        self.redactor: Redactor = redactor or Redactor()
        notify = guarded(redacted(notify, self.redactor))
        self.journal: Journal | SharedJournal = journal or MemoryJournal()
        shared = SharedClock(clock := clock or SystemClock())
        self.clock: Clock = shared if isinstance(self.journal, SharedJournal) else clock
        self.supervisor: Supervisor = Supervisor(self.clock, notify)
        self.registry: JobRegistry = JobRegistry(self.journal.keeps, max_running=max_running, new_id=new_job_id)
        self.upstreams: dict[str, Upstream] = _by_name(upstreams)
        self.cluster: ClusterNode | None = None
        """This process as a node, if its journal is one that several nodes share."""
        if isinstance(self.journal, SharedJournal):
            self.cluster = relay.cluster.ClusterNode(
                self.journal,
                cluster or ClusterOptions(),
                self.registry,
                self.upstreams,
                self.clock,
                notify,
                agree=shared.agree,
            )
        elif cluster is not None:
            raise UsageError("a cluster needs a journal that its nodes share, such as one on redis://")
        self.bus: Bus = Bus(
            self.journal,
            clock=self.clock,
            notify=notify,
            listening=self._listen,
            knows=self.registry.__contains__,
            behind=self.registry.behind,
            redactor=self.redactor,
            sharing=None if self.cluster is None else self.cluster.sharing,
        )
        self._upkeep = Upkeep(self.bus, self.clock)
        self.webhooks = webhooks
        self._paces = dict(paces or {})
        self._configured = [sink if isinstance(sink, SinkOptions) else SinkOptions(sink=sink) for sink in sinks]
        for options in self._configured:
            check_options(options)
            adapted(options)
        self._attachments: Attachments | None = None
        self._notify = notify
        self._submit_grace = submit_grace
        self._enter_within = enter_within
        self._leave_within = leave_within
        self._lifetimes = partial(
            Lifetimes, self.supervisor, notify, enter_within=enter_within, leave_within=leave_within
        )
        self._pollers: dict[str, Poller] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: Requests = self._requests()
        """The requests of callers, awaited: with any journal."""
        self._stack: AsyncExitStack | None = None

    @property
    def running(self) -> bool:
        """Whether the relay has been entered and not left."""
        return self._stack is not None

    @property
    def sinks(self) -> list[AttachedSink]:
        """The sinks at present, in the order in which they were added."""
        return [] if self._attachments is None else list(self._attachments)

    async def add_sink(
        self,
        sink: Any,
        *,
        level: Level = "debug",
        jobs: Collection[str | Job] | None = None,
        types: Collection[str] | None = None,
        where: Callable[[Record], object] | None = None,
        since: Since | None = None,
        name: str | None = None,
        durable: bool = False,
    ) -> AttachedSink:
        """Give *sink* records from now on, or *since* a position; the options are those of `SinkOptions`.

        A sink is a callable of one record, also an async context manager, which is entered; a coroutine function, which
        comes behind a queue; a text file, which gets JSON lines; or a `logging.Handler`. With *since*, the kept records
        come first, and then those that are published, without a hole and without repetition.

        Raises UsageError while the relay is not running, for what is no sink, for the name of another sink, for a
        position of another journal, and if the sink cannot be entered; UnknownJobError for a job that is not known.
        """
        if self._attachments is None or self._stack is None:
            raise UsageError("the relay is not running; enter it first: `async with relay:`")
        options = SinkOptions(
            sink=sink, level=level, jobs=jobs, types=types, where=where, since=since, name=name, durable=durable
        )
        return await self._attachments.add(options, consequence="so it is not added")

    def problems(self) -> list[str]:
        """The present problems of the relay, a sentence each; empty while new work is welcome."""
        of_cluster = [] if self.cluster is None else self.cluster.problems()
        return list(map(self.redactor, [*self.bus.problems(), *of_cluster, *self.supervisor.problems()]))

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise UsageError("this relay is running already; enter it once")
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._upkeep.close)
            if self.cluster is not None:
                await self.cluster.open(self._enter_within)
                stack.push_async_callback(self.cluster.stop, self._leave_within)
            upstreams = self._lifetimes()
            sinks = Attachments(self.bus, self.clock, self._notify, self._lifetimes(), self.supervisor.start, self.job)
            stack.push_async_callback(self._detach, sinks)
            self._attachments = sinks
            for options in self._configured:
                await sinks.add(options, consequence="so the relay does not start")
            stack.push_async_callback(upstreams.leave)
            for upstream in self.upstreams.values():
                if isinstance(upstream, Pushes):
                    upstream.on_news = partial(self.wake, upstream.name)
                if isinstance(upstream, KeepsTasks):
                    upstream.supervise = self.supervisor.start
                await upstreams.enter(f"upstream {upstream.name}", upstream)
            stack.push_async_callback(self.quiesce)
            for name, upstream in self.upstreams.items():
                self._pollers[name] = Poller(
                    upstream, self.bus, self.clock, pace=self._paces.get(name), notify=self._notify
                )
                self._keep(f"the poller of {name}", self._pollers[name].run)
            self._keep("the task that writes the journal again", self._upkeep.write_again)
            self._keep("the task that looks after the journal", self._upkeep.look_after)
            if self.cluster is not None:
                await self.cluster.start(self.supervisor.start)
            elif not isinstance(self.journal, SharedJournal):
                for job in map(self._learn, self.journal.recover()):
                    if not job.ended:
                        self.take_up(job)
            self.requests.open()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack = self._stack, None
        self.requests.close()
        if stack is not None:
            await stack.__aexit__(kind, error, trace)

    def follow(self, upstream: str, task: str, owner: str = "") -> Job:
        """Follow *task*, which exists at *upstream*. Following it again gives the same job, for the same *owner*.

        Raises UsageError for an upstream that is not configured, what cannot be a task id or an owner, BusyError at the
        limit, UnavailableError while the journal cannot be written. With a journal that several nodes share it is
        awaited: `await relay.requests.follow(...)`.
        """
        self._refuse_in_a_cluster("follow")
        return at_once(self.requests.follow(upstream, task, owner))

    def followed(self, upstream: str, task: str, owner: str = "") -> Job | None:
        """The job of *owner* that follows *task* already, if there is one."""
        return self.registry.by_task(upstream, task, owner)

    def submitted(self, key: str, owner: str = "") -> Job | None:
        """The job that *owner* has submitted with *key*, if still known. Raises UsageError for what cannot be a key."""
        return self.registry.by_key(checked_key(key), owner)

    def check_input(self, upstream: str, input: Mapping[str, Any]) -> None:
        """Raises UsageError if *upstream* is known to refuse *input*, as far as its adapter knows without a request."""
        where = self.requests.upstream(upstream)
        if isinstance(where, ChecksInput):
            where.check_input(input)

    def submit(self, upstream: str, input: Mapping[str, Any], *, key: str | None = None, owner: str = "") -> Job:
        """Hand *input* in at *upstream*, once, for *owner*, and follow what comes of it.

        The job is returned at once; how the submission went is part of its story. With *key*, the same call again gives
        the same job; a key of one owner is no key of another. Raises UsageError where that cannot be done,
        ConflictError where *key* came with another input, UnavailableError while the journal cannot be written: nothing
        was submitted then. With a journal that several nodes share it is awaited: `await relay.requests.submit(...)`.
        """
        self._refuse_in_a_cluster("submit")
        return at_once(self.requests.submit(upstream, input, key=key, owner=owner))

    def release(self, key: str, owner: str = "") -> None:
        """Forget which job *owner* has submitted with *key*, with the next commit: the next one with it is new."""
        self.requests.release(key, owner)

    def cancel(self, job_id: str) -> Coroutine[Any, Any, Job]:
        """Call a job off: at the upstream where that is possible, and here in any case. An ended job stays as it is.

        Raises UnknownJobError; ConflictError while the job is still being submitted; UpstreamError where the upstream
        can cancel and did not: the job goes on; UnavailableError during a shutdown. It begins with this call, and is
        finished and published also if the caller is cancelled; another for the same job joins it. A job of another
        owner that follows the same task goes on, until a poll finds that the task has ended.
        """
        return self.requests.cancel(job_id)

    def pace(self, upstream: str) -> Pace | None:
        """How often *upstream* is polled; None if it is not configured, or the relay is not running."""
        poller = self._pollers.get(upstream)
        return poller.pace if poller is not None else None

    def pollers(self) -> Mapping[str, Poller]:
        """The poller of each upstream, by its name; empty if the relay is not running."""
        return self._pollers

    def wake(self, upstream: str, task: str) -> bool:
        """Poll *task* as soon as may be, as there is news of it; return whether any job follows it and has not ended.

        However often this is called, a job is polled five times a second at most, and not while its polls fail.
        """
        return self.requests.wake_here(upstream, task)

    def job(self, job_id: str) -> Job:
        """The job with this id. Raises UnknownJobError."""
        return self.registry.get(job_id)

    def jobs(self, owner: str | None = None) -> list[Job]:
        """All jobs, or those of *owner*: they run, or have ended and are still in the journal. Oldest first."""
        return list(self.registry) if owner is None else self.registry.of(owner)

    def _keep(self, name: str, work: Work) -> None:
        task = self.supervisor.start(name, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _detach(self, sinks: Attachments) -> None:
        try:
            await sinks.close()
        finally:
            self._attachments = None

    def take_up(self, job: Job) -> None:
        """Go on with *job*, which runs: poll it, and submit nothing again.

        A job without a task is lost, unless the upstream finds the task by the job's id; one whose upstream is no
        longer configured has failed. That is published.
        """
        state = self.bus.pending(job)
        if state.ended:
            return
        if state.task is None:
            self.requests.adopt(job)
        elif state.upstream not in self._pollers:
            gone = f"upstream {state.upstream!r} is no longer configured"
            self.bus.publish(job, Failed(kind="internal", message=gone))
        else:
            now = self.clock.now()
            # A restart polls at once, since it may have mended the trouble; a change of hands has not.
            wait = held_off(state, now) if self.cluster is not None else 0.0
            self._pollers[state.upstream].watch(job, elapsed=elapsed(state, now), held_off=wait)

    def let_go(self, job: Job) -> None:
        """Poll *job* no longer: nothing more is published for it, also by a poll that is under way."""
        if (poller := self._pollers.get(job.state.upstream)) is not None:
            poller.drop(job)

    def _learn(self, stored: StoredJob) -> Job:
        return self.registry.learn(Job(stored.id, stored.state, stored.owner), key=stored.key, digest=stored.digest)

    def _requests(self) -> Requests:
        how: Any = {"address": self._callback, "is_secret": self.redactor.has_token}
        if self.cluster is not None:
            return self.cluster.connect(self.bus, self._pollers, take_up=self.take_up, let_go=self.let_go, **how)
        return Requests(
            self.bus,
            self.registry,
            self.upstreams,
            self._pollers,
            self.clock,
            self._notify,
            forget=self._forget_key,
            **how,
        )

    def _forget_key(self, job: Job) -> None:
        if not isinstance(self.journal, SharedJournal):
            self.journal.remember(job.id, None, b"")

    def _refuse_in_a_cluster(self, method: str) -> None:
        if self.cluster is not None:
            raise UsageError(f"a journal that several nodes share is awaited: `await relay.requests.{method}(...)`")

    def _callback(self, upstream: str, job: str) -> str | None:
        """The address that *upstream* calls with news of *job*, if the relay has any."""
        return None if self.webhooks is None else self.webhooks.url(upstream, job)

    def _listen(self, wanted: bool) -> None:
        """Let adapters make raw exchanges, whose redaction costs more than a poll, only while they have listeners."""
        for upstream in self.upstreams.values():
            upstream.on_exchange = self._pass_on if wanted else None

    def _pass_on(self, exchange: Exchange) -> None:
        """Publish a raw exchange under the ids of our jobs; its adapter knows the upstream's tasks alone."""
        jobs = [job.id for task in exchange.jobs for job in self.registry.of_task(exchange.upstream, task)]
        self.bus.publish_exchange(msgspec.structs.replace(exchange, jobs=tuple(jobs)))

    async def quiesce(self) -> None:
        """Stop asking upstreams: after this, no job's story goes on. Leaving the relay does it too.

        Submissions and cancels under way are given a moment, since what they cost is spent. Call it before streams are
        closed, so that whatever the console says last, they say too.
        """
        self.requests.quiesce()
        if begun := self.requests.under_way:
            await asyncio.wait(begun, timeout=self._submit_grace)
        for name in await stop(self._tasks | self.requests.under_way, self._leave_within):
            self._notify(f"{name} did not end within {self._leave_within:g} s, and is left as it is")
        await self._upkeep.settle()
        if self.cluster is not None:
            await self.cluster.leave(self._leave_within)


def _by_name(upstreams: Iterable[Upstream]) -> dict[str, Upstream]:
    named: dict[str, Upstream] = {}
    for upstream in upstreams:
        if upstream.name in named:
            raise UsageError(f"two upstreams are called {upstream.name!r}; give each a name of its own")
        named[upstream.name] = upstream
    return named
