"""Requests that have begun at a node: each goes on though its caller leaves, and is over once its job is known here."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from relay.bus.bus import Bus
from relay.clock import Clock
from relay.cluster._within import within
from relay.cluster.mailbox import ANSWER_WITHIN
from relay.errors import UnavailableError
from relay.jobs.registry import JobRegistry
from relay.jobs.state import Job
from relay.polling.cancellation import shutting_down

__all__ = ["Begun"]

T = TypeVar("T")

UNKNOWN: Final = (
    "the journal did not confirm the request in time, so it is not known whether it was carried out; send it again with"
    " the same key in a few seconds"
)
RETRY_AFTER: Final = 2.0


class Begun:
    """The requests under way, and the jobs that they wait for. All waits are bounded by ANSWER_WITHIN seconds."""

    def __init__(self, bus: Bus, registry: JobRegistry, clock: Clock) -> None:
        self.tasks: set[asyncio.Task[Job]] = set()
        self._bus = bus
        self._registry = registry
        self._clock = clock
        self._expected: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    async def whole(self, work: Coroutine[Any, Any, Job]) -> Job:
        """Await *work*, which goes on if the caller leaves: a job whose acceptance is under way is handed in.

        Raises UnavailableError if the node leaves the cluster before.
        """
        return await self.joined(self.begin(work))

    def begin(self, work: Coroutine[Any, Any, Job]) -> "asyncio.Task[Job]":
        """Begin *work* now; await it by `joined`."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._over)
        return task

    async def joined(self, task: "asyncio.Task[Job]") -> Job:
        """The outcome of a *task* that has begun."""
        await asyncio.wait([task])
        if task.cancelled():  # this node leaves, and what it has begun may be in the journal or not
            raise shutting_down("it is not known whether this was carried out")
        return task.result()

    def arrived(self, job: Job) -> None:
        """*job* is known here from now on."""
        if (event := self._expected.get(job.id)) is not None:
            event.set()

    async def known(self, job_id: str) -> Job:
        """The job with this id, once it is known here. Raises UnavailableError if that takes too long."""
        event = self._expected.setdefault(job_id, asyncio.Event())
        if self._registry.find(job_id) is None:
            await self._in_time(event.wait())
        return self._registry.get(job_id)

    async def ended(self, job: Job, cancelled: Awaitable[object] | None = None) -> Job:
        """*job*, once its end is known here. Raises as *cancelled* does; UnavailableError if it takes too long."""
        if cancelled is not None:
            await cancelled
        ended = asyncio.Event()
        with self._bus.subscribe(lambda _: ended.set() if job.ended else None, [job], name="cancel"):
            if not job.ended:
                await self._in_time(ended.wait())
        return job

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await within(self._clock, ANSWER_WITHIN, work)
        except TimeoutError:
            raise UnavailableError(UNKNOWN, retry_after=RETRY_AFTER) from None

    def _over(self, task: "asyncio.Task[Job]") -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that has left does not look at it
