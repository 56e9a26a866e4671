"""The aiohttp application: run it as it is, or mount it with `add_subapp`."""

from collections.abc import AsyncIterator, Collection

from aiohttp.web import Application

from relay.relay import Relay
from web.guard import guard
from web.health import healthz, metrics, readyz
from web.jobs import cancel_job, create_job, list_jobs, show_job
from web.keys import OPTIONS, RELAY, STREAMS, Options
from web.live import LiveStreams
from web.page import STATIC, page, secure
from web.problems import problems
from web.streams import stream_all, stream_job

__all__ = ["create_app"]


def create_app(
    relay: Relay,
    *,
    heartbeat: float = 15.0,
    send_timeout: float = 30.0,
    max_streams: int = 10_000,
    debug: bool = False,
    hosts: Collection[str] | None = None,
) -> Application:
    """The relay's routes as an application. It enters and leaves *relay*, unless that runs already.

    *heartbeat*: seconds between signs of life on a quiet stream. *send_timeout*: seconds after which a client that
    takes nothing is cut off. *max_streams*: how many may be open; more are asked to come back. *debug*: whether
    `?debug=1` streams may carry raw exchanges. *hosts*: the names this relay answers to, without port; None for any,
    which is for applications that check it themselves.
    """
    app = Application(middlewares=[problems, guard])
    app[RELAY] = relay
    app[STREAMS] = LiveStreams()
    app[OPTIONS] = Options(
        heartbeat=heartbeat,
        send_timeout=send_timeout,
        max_streams=max_streams,
        debug=debug,
        hosts=None if hosts is None else frozenset(name.lower() for name in hosts),
    )
    app.cleanup_ctx.append(_run_relay)
    app.on_shutdown.append(_close_streams)
    app.on_response_prepare.append(secure)
    app.router.add_post("/v1/jobs", create_job)
    app.router.add_get("/v1/jobs", list_jobs)
    app.router.add_get("/v1/jobs/{job}", show_job, name="job")
    app.router.add_post("/v1/jobs/{job}/cancel", cancel_job)
    app.router.add_get("/v1/jobs/{job}/events", stream_job)
    app.router.add_get("/v1/events", stream_all)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/", page)
    app.router.add_static("/static", STATIC)
    return app


async def _run_relay(app: Application) -> AsyncIterator[None]:
    if app[RELAY].running:
        yield
    else:
        async with app[RELAY]:
            yield


async def _close_streams(app: Application) -> None:
    await app[STREAMS].close()
