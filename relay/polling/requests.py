"""What callers request of a relay: to follow a task, to submit one, to cancel a job, to forget a key, to poll soon."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from relay.bus.bus import Bus
from relay.clock import Clock
from relay.errors import ConflictError, UsageError
from relay.events import Accepted, Failed
from relay.jobs.registry import JobRegistry
from relay.jobs.state import Job
from relay.notices import Notify
from relay.polling.cancellation import Cancellations, shutting_down
from relay.polling.poller import Poller
from relay.polling.submission import INTERRUPTED, checked_key, find_once_submitted, input_digest, submit_once
from relay.text import bounded
from relay.upstreams.base import FindsSubmitted, Submits, Upstream

__all__ = ["Admit", "Requests", "at_once"]

T = TypeVar("T")

Admit: TypeAlias = Callable[[str], object]
"""Called with the id of a new job, in the same step in which it is admitted; an exception of it refuses the job."""

MAX_TASK_ID: Final = 256
MAX_NAME: Final = 64
"""How much of a name that nobody knows is repeated."""


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that does not suspend. Raises UsageError if it does; it is closed then."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise UsageError("this has to be awaited: use the method of `relay.requests` with the same name")


class Requests:
    """Follow, submit, cancel, release and wake, as `Relay` describes them: this is what it does with each.

    The acceptance of a job is awaited, as its journal may be across a network. With a journal of this process nothing
    here suspends, except the outcome of a cancel. With any journal, requests for one task, or with one key, take turns:
    several that come at once are one job.

    *forget* is called with a job whose key is released; *address* makes the address that an upstream calls with news of
    a job, if there are any; *is_secret* is whether a task id holds what no record may.
    """

    def __init__(
        self,
        bus: Bus,
        registry: JobRegistry,
        upstreams: Mapping[str, Upstream],
        pollers: Mapping[str, Poller],
        clock: Clock,
        notify: Notify,
        *,
        forget: Callable[[Job], object],
        address: Callable[[str, str], str | None],
        is_secret: Callable[[str], bool],
    ) -> None:
        self.running: bool = False
        """Whether the relay is entered; without that all requests are refused."""
        self._bus = bus
        self._registry = registry
        self._upstreams = upstreams
        self._pollers = pollers
        self._clock = clock
        self._notify = notify
        self._forget = forget
        self._address = address
        self._is_secret = is_secret
        self._quiesced = False
        self._submissions: dict[Job, asyncio.Task[None]] = {}
        """Those under way, and the searches for the tasks of those that broke off."""
        self._cancellations = Cancellations(bus, notify)
        self._turns: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @property
    def under_way(self) -> "set[asyncio.Task[Any]]":
        """The submissions and cancels that have begun and are not over."""
        return {*self._submissions.values(), *self._cancellations.tasks}

    def open(self) -> None:
        """Accept requests from now on."""
        self.running, self._quiesced = True, False

    def close(self) -> None:
        """Refuse all requests from now on: those that come from outside meanwhile may be sent to another process."""
        self.running, self._quiesced = False, True

    def quiesce(self) -> None:
        """Begin nothing from now on; submissions and cancels under way go on."""
        self._quiesced = True

    async def follow(self, upstream: str, task: str, owner: str = "", *, admit: Admit = str) -> Job:
        """As `Relay.follow`; *admit* may refuse a new job, and none is begun then."""
        self._check_task(upstream, task)
        async with self._turn("task", upstream, task, owner):
            if (known := self._registry.by_task(upstream, task, owner)) is not None:
                return known
            return await self._begin_to_follow(upstream, task, owner, admit)

    async def submit(
        self, upstream: str, input: Mapping[str, Any], *, key: str | None = None, owner: str = "", admit: Admit = str
    ) -> Job:
        """As `Relay.submit`; *admit* may refuse a new job, and nothing is submitted then."""
        self._check_submits(upstream)
        digest = input_digest(upstream, input)
        if key is None:
            return await self._begin_to_submit(upstream, input, None, digest, owner, admit)
        async with self._turn("key", checked_key(key), owner):
            if (known := self._registry.submitted_again(key, digest, owner)) is not None:
                return known
            return await self._begin_to_submit(upstream, input, key, digest, owner, admit)

    def release(self, key: str, owner: str = "") -> None:
        """As `Relay.release`."""
        if (job := self._registry.release_key(key, owner)) is not None:
            self._forget(job)

    def cancel(self, job_id: str) -> Coroutine[Any, Any, Job]:
        """As `Relay.cancel`: it begins with this call."""
        job = self._registry.get(job_id)
        state = self._bus.pending(job)
        if state.ended:
            return _done(job)
        if state.task is None:
            raise ConflictError(f"{job_id} is still being submitted; cancel it once it has a task")
        if self._quiesced:
            raise shutting_down("nothing was cancelled")
        return self._cancellations.cancel(job, state.task, self._upstreams[state.upstream])

    def adopt(self, job: Job) -> None:
        """Go on with *job*, whose submission broke off: with its task if the upstream can find it, or it is lost."""
        where = self._upstreams.get(job.state.upstream)
        if where is not None and isinstance(where, FindsSubmitted):
            self._work_on(job, self._search(where, job), "find the task of")
        else:
            self._handed_in(job, Failed(kind="lost", message=INTERRUPTED))

    async def wake(self, upstream: str, task: str) -> bool:
        """As `Relay.wake`, wherever the job is polled."""
        return self.wake_here(upstream, task)

    def wake_here(self, upstream: str, task: str) -> bool:
        """As `Relay.wake`, for what this process polls."""
        jobs = [job for job in self._registry.of_task(upstream, task) if not self._bus.pending(job).ended]
        for job in jobs:
            self._pollers[upstream].wake(job)
        return bool(jobs)

    def upstream(self, name: str) -> Upstream:
        """The upstream of this *name*. Raises UsageError if there is none, and before the relay is entered;
        UnavailableError once it has been left.
        """
        if not self.running and self._quiesced:
            raise shutting_down("nothing was begun")
        if not self.running:
            raise UsageError("the relay is not running; enter it first: `async with relay:`")
        try:
            return self._upstreams[name]
        except KeyError:
            known = ", ".join(sorted(self._upstreams)) or "none"
            raise UsageError(f"no upstream is called {bounded(name, MAX_NAME)!r}; configured: {known}") from None

    def _check_task(self, upstream: str, task: str) -> None:
        self.upstream(upstream)
        if not (1 <= len(task) <= MAX_TASK_ID and task.isascii() and task.isprintable()):
            raise UsageError(f"a task id is 1 to {MAX_TASK_ID} printing ASCII characters")
        if self._is_secret(task):
            raise UsageError("this task id holds a token that opens the relay; name the task alone")

    def _check_submits(self, upstream: str) -> Submits:
        where = self.upstream(upstream)
        if not isinstance(where, Submits):
            raise UsageError(f"upstream {upstream!r} takes no submissions; follow a task that exists there")
        return where

    def _turn(self, *what: str) -> asyncio.Lock:
        """A lock of all requests for the same; it is free at once unless one of them awaits the journal."""
        return self._turns.setdefault(what, asyncio.Lock())

    async def _begin_to_follow(self, upstream: str, task: str, owner: str, admit: Admit) -> Job:
        """Follow a task of which no job is known."""
        return await self._follow(upstream, task, owner, admit)

    async def _begin_to_submit(
        self, upstream: str, input: Mapping[str, Any], key: str | None, digest: bytes, owner: str, admit: Admit
    ) -> Job:
        """Submit an input whose key, if any, no known job has."""
        return await self._submit(upstream, input, key, digest, owner, admit)

    async def _follow(self, upstream: str, task: str, owner: str, admit: Admit, id: str | None = None) -> Job:
        """A new job, with this *id* if it is given, that follows *task*."""
        job = await self._accept(Accepted(upstream=upstream, task=task), owner, admit, id=id)
        self._registry.bind_task(job, upstream, task)
        self._watch(job)
        return job

    async def _submit(
        self,
        upstream: str,
        input: Mapping[str, Any],
        key: str | None,
        digest: bytes,
        owner: str,
        admit: Admit,
        id: str | None = None,
    ) -> Job:
        """A new job, with this *id* if it is given, whose *input* is being submitted."""
        where = self._check_submits(upstream)
        job = await self._accept(Accepted(upstream=upstream), owner, admit, id=id, key=key, digest=digest)
        if key is not None:
            self._registry.bind_key(job, key, digest)
        self._work_on(job, self._hand_in(where, job, input), "submit")
        return job

    def _work_on(self, job: Job, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"{name} {job.id}")
        self._submissions[job] = task
        task.add_done_callback(lambda _: self._submissions.pop(job))

    async def _accept(
        self,
        accepted: Accepted,
        owner: str,
        admit: Admit,
        *,
        id: str | None = None,
        key: str | None = None,
        digest: bytes = b"",
    ) -> Job:
        """A new job of *owner*, whose acceptance is committed: a restart finds it before any request is made for it."""
        if self._quiesced:
            raise shutting_down("no new work is accepted")
        job = self._registry.admit(owner, id)
        try:
            admit(job.id)
            await self._bus.accept(job, accepted, key=key, digest=digest, unique=self._unique(accepted, owner, key))
        except BaseException:
            if not job.state.seq:
                self._registry.withdraw(job)
            raise
        return job

    def _unique(self, accepted: Accepted, owner: str, key: str | None) -> str:  # noqa: ARG002
        """A name that no two jobs of a cluster may have; empty with a journal of this process alone."""
        return ""

    async def _hand_in(self, upstream: Submits, job: Job, input: Mapping[str, Any]) -> None:
        name = job.state.upstream
        try:
            task = await submit_once(upstream, name, input, job.id, self._address(name, job.id), self._notify)
        except asyncio.CancelledError:
            self._handed_in(job, Failed(kind="lost", message=INTERRUPTED))
            raise
        self._handed_in(job, task if isinstance(task, Failed) else Accepted(upstream=name, task=task))

    async def _search(self, upstream: FindsSubmitted, job: Job) -> None:
        name = job.state.upstream
        self._handed_in(job, await find_once_submitted(upstream, name, job.id, self._clock, self._notify))

    def _handed_in(self, job: Job, outcome: Accepted | Failed) -> None:
        """The submission of *job* is over: publish how it went, and poll its task if it has one."""
        if isinstance(outcome, Accepted) and outcome.task is not None:
            self._registry.bind_task(job, outcome.upstream, outcome.task)
        self._bus.publish(job, outcome)
        if isinstance(outcome, Accepted):
            self._watch(job, submitted=True)

    def _watch(self, job: Job, *, submitted: bool = False) -> None:
        self._pollers[self._bus.pending(job).upstream].watch(job, submitted=submitted)


async def _done(job: Job) -> Job:
    return job
