"""The requests of one upstream for the states or the results of jobs: bounded in time, sanitised and counted."""

from collections.abc import Awaitable, Callable, Sequence

from relay.bus.bus import Bus
from relay.clock import Clock, TimeLimits
from relay.errors import UpstreamError
from relay.jobs.observations import Answer
from relay.notices import INTERRUPTIONS, Notify, shown
from relay.polling.adapter_calls import call_adapter
from relay.polling.poll_counts import PollCounts
from relay.polling.sanitise import sanitise_answer, sanitise_error
from relay.polling.watch import Watch
from relay.upstreams.base import RotatesToken, Upstream

__all__ = ["AdapterRequests", "Call"]

Call = Callable[[Sequence[str]], Awaitable[Answer]]
"""The method of an adapter that is called with the tasks of some jobs: `observe` or `fetch_result`."""


class AdapterRequests:
    """Requests to the adapter of one upstream, each of *patience* seconds at most."""

    def __init__(self, upstream: Upstream, bus: Bus, clock: Clock, patience: float | None, notify: Notify) -> None:
        self.counts: PollCounts = PollCounts(clock.monotonic())
        self._upstream = upstream
        self._bus = bus
        self._clock = clock
        self._notify = notify
        self._limits = TimeLimits(patience)

    async def request(self, call: Call, watches: Sequence[Watch]) -> tuple[Answer, float] | None:
        """The answer of the adapter about *watches*, and the seconds it took. Raises UpstreamError, and nothing else.

        A task that several jobs follow, each of another owner, is named once, and the answer is for all of them.
        No request is made while too many records wait for a journal that cannot be written, and none, which is None,
        if all jobs were dropped meanwhile.
        """
        if not self._bus.room.is_set():
            await self._bus.room.wait()
        watches = [watch for watch in watches if not watch.dropped]
        if not watches:
            return None
        began = self._clock.monotonic()
        followed = (self._bus.pending(watch.job).task for watch in watches)
        tasks = [task for task in dict.fromkeys(followed) if task is not None]
        try:
            returned = await call_adapter(lambda: call(tasks), self._upstream.name, self._notify, within=self._limits)
            answer = sanitise_answer(returned)
        except UpstreamError as error:
            self.counts.failure(error.kind)
            raise sanitise_error(error) from error.__cause__
        now = self._clock.monotonic()
        self.counts.answer(now, now - began)
        for watch in watches:
            watch.answered = now
        return answer, round(now - began, 3)

    def token_version(self) -> object:
        """A value that changes with the account's token; always None if its adapter has no `token_version`."""
        try:
            return self._upstream.token_version() if isinstance(self._upstream, RotatesToken) else None
        except INTERRUPTIONS:
            raise
        except BaseException as error:
            return shown(error)

    def close(self) -> None:
        """Leave no timer behind."""
        self._limits.close()
