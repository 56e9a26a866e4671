"""What the handlers of the gateway share."""

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

from aiohttp.web import AppKey

from relay import Job, Relay
from relay.config.settings import GatewaySettings
from relay.upstreams.http.downloads import Downloads
from web.gateway.changes import each_change
from web.gateway.departures import Departures
from web.gateway.models import ModelTable
from web.gateway.submissions import Submissions
from web.gateway.transfers import Transfers
from web.gateway.video_object import VideoDetails
from web.middleware.client_limits import ClientLimits

__all__ = ["GATEWAY", "Gateway"]


class Gateway:
    """The models, the submissions and the settings of one application."""

    def __init__(self, relay: Relay, limits: ClientLimits, settings: GatewaySettings) -> None:
        self.settings = settings
        self.models: ModelTable = ModelTable(relay.upstreams, settings)
        self.submissions: Submissions = Submissions(relay, limits)
        self.departures: Departures = Departures(relay, cancels=settings.cancel_on_disconnect)
        self.videos: WeakKeyDictionary[Job, VideoDetails] = WeakKeyDictionary()
        """What the requests for the videos of this process named; no record holds it."""
        self.downloads: Downloads = Downloads(allow_private=settings.allow_private)
        self.transfers: Transfers = Transfers()
        self.closing: bool = False
        self._relay = relay
        self._waiting: set[asyncio.Event] = set()

    @property
    def waiting(self) -> int:
        """How many requests wait for the end of a job."""
        return len(self._waiting)

    async def wait_for_end(self, job: Job, seconds: float) -> bool:
        """Wait until *job* has ended, for *seconds* of the relay's clock at most.

        Returns whether it has; False also during a shutdown.
        """
        return await self._wait_until(lambda: job.ended, job, seconds)

    async def wait_for_task(self, job: Job, seconds: float) -> bool:
        """Wait until *job* was submitted or has ended, as `wait_for_end` does."""
        return await self._wait_until(lambda: job.ended or job.state.task is not None, job, seconds)

    async def close(self) -> None:
        """Let every request that waits for a job be answered now, and cancel no more jobs."""
        self.closing = True
        for over in self._waiting:
            over.set()
        await self.departures.close()
        await self.submissions.close()

    async def _wait_until(self, reached: Callable[[], bool], job: Job, seconds: float) -> bool:
        changed = asyncio.Event()

        def look() -> None:
            if reached():
                changed.set()

        timer: asyncio.Task[None] | None = None
        self._waiting.add(changed)
        try:
            with each_change(self._relay.bus, job, look):
                if not reached() and not self.closing:
                    timer = asyncio.create_task(self._relay.clock.sleep(seconds))
                    timer.add_done_callback(lambda _: changed.set())
                    await changed.wait()
        finally:
            self._waiting.discard(changed)
            if timer is not None:
                timer.cancel()
        return reached()


GATEWAY = AppKey("gateway", Gateway)
