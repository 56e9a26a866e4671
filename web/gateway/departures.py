"""Jobs that end with their last client, if the operator has chosen that: [gateway] `cancel_on_disconnect`."""

import asyncio
from collections import Counter
from contextlib import suppress

from relay import Job, Relay, RelayError
from web.gateway.changes import each_change

__all__ = ["Departures"]


class Departures:
    """Counts the clients of each job, and cancels a job once the last of them has left before its end."""

    def __init__(self, relay: Relay, *, cancels: bool) -> None:
        self._relay = relay
        self._cancels = cancels
        self._clients: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def came(self, job: Job) -> None:
        """A client waits for *job*."""
        self._clients[job.id] += 1

    def left(self, job: Job, *, shutting_down: bool = False) -> None:
        """A client of *job* waits no longer. While the relay is shutting down, no job is cancelled for it."""
        self._clients[job.id] -= 1
        if self._clients[job.id] > 0:
            return
        del self._clients[job.id]
        if self._cancels and not job.ended and not shutting_down:
            task = asyncio.get_running_loop().create_task(self._cancel(job), name=f"cancel {job.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End the cancellations that still wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cancel(self, job: Job) -> None:
        """Cancel *job*, once it has a task; unless another client has come meanwhile."""
        await self._submitted(job)
        if job.id not in self._clients:
            # A refusal of the upstream leaves the job running; its records say so.
            with suppress(RelayError):
                await self._relay.requests.cancel(job.id)

    async def _submitted(self, job: Job) -> None:
        changed = asyncio.Event()
        with each_change(self._relay.bus, job, changed.set):
            while not job.ended and job.state.task is None:
                await changed.wait()
                changed.clear()
