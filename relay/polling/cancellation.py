"""Cancels under way: once begun, each is finished and published, even if its caller has left."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from relay.bus.bus import Bus
from relay.errors import UnavailableError
from relay.events import Cancelled
from relay.jobs.state import Job
from relay.notices import Notify, interrupts
from relay.polling.adapter_calls import call_adapter
from relay.upstreams.base import Cancels, Upstream

__all__ = ["Cancellations", "shutting_down"]

CANNOT_STOP: Final = "no longer followed; this upstream cannot be told to stop"
BACK_IN: Final = 5.0
"""Seconds after which a relay that shuts down is worth another try: another one may be up by then."""


class Cancellations:
    """One cancel a job: a caller that cancels a job while it is being cancelled waits for the same answer."""

    def __init__(self, bus: Bus, notify: Notify) -> None:
        self._bus = bus
        self._notify = notify
        self._under_way: dict[Job, asyncio.Task[None]] = {}

    @property
    def tasks(self) -> "set[asyncio.Task[None]]":
        """Those under way."""
        return set(self._under_way.values())

    def of(self, job: Job) -> "asyncio.Task[None] | None":
        """The cancel of *job* that is under way, if there is one."""
        return self._under_way.get(job)

    def cancel(self, job: Job, task: str, upstream: Upstream) -> Coroutine[Any, Any, Job]:
        """Begin to cancel *job*, which is *task* at *upstream*; await what this returns for the outcome.

        If the task that awaits it is cancelled, the cancel goes on. Awaiting raises UpstreamError if the upstream did
        not agree, UnavailableError if a shutdown came between.
        """
        working = self._under_way.get(job)
        if working is None:
            working = asyncio.create_task(self._cancel(job, task, upstream), name=f"cancel {job.id}")
            self._under_way[job] = working
            working.add_done_callback(lambda done: self._over(job, done))
        return self._outcome(job, working)

    async def _outcome(self, job: Job, working: "asyncio.Task[None]") -> Job:
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError as error:
            if interrupts(error, asyncio.current_task()):
                raise
            raise shutting_down("the upstream may stop the job or not") from None
        return job

    async def _cancel(self, job: Job, task: str, upstream: Upstream) -> None:
        message: str | None = CANNOT_STOP
        if isinstance(upstream, Cancels):
            await call_adapter(lambda: upstream.cancel(task), upstream.name, self._notify)
            message = None
        if not self._bus.pending(job).ended:
            self._bus.publish(job, Cancelled(by="caller", message=message))

    def _over(self, job: Job, working: "asyncio.Task[None]") -> None:
        del self._under_way[job]
        if not working.cancelled():
            working.exception()  # those that wait for it receive it; if nobody waits, the job simply goes on


def shutting_down(consequence: str) -> UnavailableError:
    return UnavailableError(
        f"the relay is shutting down: {consequence}; try again in a few seconds", retry_after=BACK_IN
    )
