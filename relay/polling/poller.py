"""The poller of one upstream: one request an interval for all jobs, or one for each job at its own time."""

import random
from collections.abc import Callable

import msgspec

from relay.bus.bus import Bus
from relay.clock import Clock
from relay.jobs.state import Job
from relay.notices import Notify, notice
from relay.pace import Pace
from relay.polling.adapter_requests import AdapterRequests
from relay.polling.per_account import PerAccountPolling
from relay.polling.per_task import PerTaskPolling
from relay.polling.poll_counts import PollCounts
from relay.polling.watches import Watches
from relay.upstreams.base import Upstream, pace_of, polls_each_task

__all__ = ["Poller"]


class Poller:
    """Polls one upstream about all its jobs, and publishes what follows. It has no logger and no stream.

    A job is polled from the next tick after `watch` until its terminal record. Polls are one interval apart, counted
    from start to start on the monotonic clock: a slow answer or a suspended machine never causes a burst. *pace* is
    when the upstream may be polled, by default the adapter's own. *jitter* returns a number from 0 to 1.

    A job that is overdue ends with the next answer that says it is still at work, or after failures in a row; never
    without a poll that began past its deadline. Such a poll comes at the deadline, if that is within the pace.
    """

    def __init__(
        self,
        upstream: Upstream,
        bus: Bus,
        clock: Clock,
        *,
        pace: Pace | None = None,
        notify: Notify = notice,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.pace: Pace = _pace(upstream, pace)
        self._adapter = adapter = AdapterRequests(upstream, bus, clock, self.pace.patience, notify)
        self.counts: PollCounts = adapter.counts
        watches = Watches(upstream, bus, clock, self.pace, notify, jitter)
        polling = PerTaskPolling if polls_each_task(upstream) else PerAccountPolling
        self._polls = polling(upstream, adapter, watches, notify)

    def watch(self, job: Job, *, elapsed: float = 0.0, held_off: float = 0.0, submitted: bool = False) -> None:
        """Poll *job*, which has been running for *elapsed* seconds already, until it ends.

        The first poll is *held_off* seconds from now, or more, and so is the next round of a whole account: another
        node met trouble there. If the job was *submitted* just now, the upstream is known to work: polls that were held
        off are tried again.
        """
        self._polls.drop(job)
        self._polls.watch(job, elapsed, held_off)
        if submitted:
            self._polls.recovered()

    def drop(self, job: Job) -> None:
        """Poll *job* no longer. An answer that is under way leads to no event of it, and counts for the account alone.

        `watch` begins anew with it, whatever was under way.
        """
        self._polls.drop(job)

    def wake(self, job: Job) -> None:
        """Poll *job* as soon as may be: its upstream says that there is news.

        That is at once, but MIN_DELAY after the start of its last poll at the earliest. News while a poll is under way
        brings one more. While polls fail, the back-off holds, and so does a Retry-After of the upstream.
        """
        self._polls.wake(job)

    async def run(self) -> None:
        """Poll until cancelled. An error in a round is a notice, and the next round comes."""
        try:
            await self._polls.run()
        finally:
            self._adapter.close()


def _pace(upstream: Upstream, pace: Pace | None) -> Pace:
    """*pace*, or the adapter's own. An interval that is longer than the adapter's is no upstream's to shorten."""
    own = pace_of(upstream)
    if pace is None or pace.interval <= own.interval:
        return pace or own
    return msgspec.structs.replace(pace, floor=max(pace.floor, pace.interval))
