"""The aiohttp application: run it as it is, or mount it with `add_subapp`."""

from collections.abc import AsyncIterator, Collection

from aiohttp.web import Application

from relay.relay import Relay
from web.fanout import FanOut
from web.guard import guard
from web.health import healthz, metrics, readyz
from web.jobs import cancel_job, create_job, list_jobs, show_job
from web.keys import FAN_OUT, OPTIONS, RELAY, STREAMS, Options
from web.live import LiveStreams
from web.page import STATIC, page, secure
from web.problems import problems
from web.streams import stream_all, stream_job
from web.webhooks import take_call

__all__ = ["create_app"]


def create_app(
    relay: Relay,
    *,
    heartbeat: float = 15.0,
    send_timeout: float = 10.0,
    slow_after: float = 2.0,
    max_age: float = 3_600.0,
    max_streams: int = 10_000,
    max_streams_per_client: int = 0,
    debug: bool = False,
    hosts: Collection[str] | None = None,
    origins: Collection[str] = (),
    take_over: bool = True,
) -> Application:
    """The relay's routes as an application. It enters and leaves *relay*, unless that runs already.

    Of streams, times in seconds. *heartbeat*: between signs of life on a quiet one. *send_timeout*: until a client
    that takes nothing is cut off. *slow_after*: until one that has not caught up is given the latest progress instead
    of all. *max_age*: until one is renewed, give or take a fifth; the client does not notice.
    *max_streams*: how many may be open in all, and *max_streams_per_client* from one address, 0 for any number; more
    are asked to come back. *debug*: whether `?debug=1` streams may carry raw exchanges.

    *hosts*: the names this relay answers to, without port; None for any, which is for applications that check it
    themselves. *origins*: further origins whose pages are this relay's own, such as its address behind a proxy.

    *take_over*: whether a stream's connection is taken out of aiohttp's hands once it is up to date; its handler has
    returned then, and each costs a fifth of the memory. It stays where the connection is not as it is expected to be.
    """
    app = Application(middlewares=[problems, guard])
    app[RELAY] = relay
    app[STREAMS] = LiveStreams(max_age)
    app[FAN_OUT] = FanOut(relay.bus, heartbeat)
    app[OPTIONS] = Options(
        heartbeat=heartbeat,
        send_timeout=send_timeout,
        slow_after=slow_after,
        max_age=max_age,
        max_streams=max_streams,
        max_streams_per_client=max_streams_per_client,
        debug=debug,
        take_over=take_over,
        hosts=None if hosts is None else frozenset(name.lower() for name in hosts),
        origins=frozenset(origin.rstrip("/").lower() for origin in origins),
    )
    lifecycle = _Lifecycle(relay, app[STREAMS])
    app.cleanup_ctx.append(lifecycle.run)
    app.on_shutdown.append(lifecycle.end)
    app.on_response_prepare.append(secure)
    # Streams first: aiohttp tries what begins with /v1/jobs in this order, and a thousand readers may come at once.
    app.router.add_get("/v1/jobs/{job}/events", stream_job)
    app.router.add_post("/v1/jobs", create_job)
    app.router.add_get("/v1/jobs", list_jobs)
    app.router.add_get("/v1/jobs/{job}", show_job, name="job")
    app.router.add_post("/v1/jobs/{job}/cancel", cancel_job)
    app.router.add_get("/v1/events", stream_all)
    app.router.add_post("/v1/webhooks/{upstream}/{job}/{token}", take_call)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/", page)
    app.router.add_static("/static", STATIC)
    return app


class _Lifecycle:
    """The relay runs while the application does; whoever entered it ends it."""

    def __init__(self, relay: Relay, streams: LiveStreams) -> None:
        self._relay = relay
        self._streams = streams
        self._ours = False

    async def run(self, _: Application) -> AsyncIterator[None]:
        self._ours = not self._relay.running
        if self._ours:
            async with self._relay:
                yield
        else:
            yield

    async def end(self, _: Application) -> None:
        """First the stories stop, then the streams end: so none misses what the console says last."""
        if self._ours:
            await self._relay.quiesce()
        await self._streams.close()
