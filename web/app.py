"""The aiohttp application: run it as it is, or mount it with `add_subapp`."""

from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from typing import Any

from aiohttp.web import AbstractRoute, Application

from relay import Relay
from relay.config.access_settings import AccessSettings
from relay.config.server import check_origins
from relay.config.settings import GatewaySettings
from relay.notices import notice, redacted
from web.access.authorize import Authorize
from web.access.cookies import add_cookies
from web.access.guard import GUARD, Guard
from web.access.use_log import USE_LOG, UseLog
from web.app_keys import OPTIONS, RELAY, Options
from web.bodies import BODIES, BODIES_LIMIT, continue_later
from web.gateway.chat import create_chat_completion, list_models
from web.gateway.errors import error_response
from web.gateway.gateway import GATEWAY, Gateway
from web.gateway.generations import create_generation, show_generation
from web.gateway.responses import cancel_response, create_response, show_response
from web.gateway.video_content import video_content
from web.gateway.videos import create_video, delete_video, list_videos, show_video
from web.health import healthz, readyz
from web.jobs import cancel_job, create_job, list_jobs, show_job
from web.memory import MemoryBudget
from web.metrics import metrics
from web.middleware.access_check import RULES, Need, Rule, check_access
from web.middleware.client_limits import LIMITS, ClientLimits
from web.middleware.cors import add_cors_headers, answer_preflight
from web.middleware.origin_check import check_origin, normal_host
from web.middleware.problems import ERROR_FORMAT, Handler, problems
from web.middleware.request_checks import check_request
from web.page import add_security_headers, page, static
from web.request_failures import FAILURES, RequestFailures
from web.sessions import create_session, create_ticket, end_session, show_session
from web.sinks import change_sink, list_sinks
from web.stream_lane import STREAM_LANE, StreamLane
from web.streaming.fanout import FanOut
from web.streaming.handlers import stream_all, stream_job
from web.streaming.keys import FAN_OUT, REACTOR, STREAMS, TURNS, WAITS
from web.streaming.patience import ClientWaits
from web.streaming.reactor import Reactor
from web.streaming.registry import StreamRegistry
from web.turn_queue import TurnQueue
from web.webhooks import receive_webhook

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
    max_jobs_per_client: int = 5_000,
    new_jobs_per_minute: int = 3_000,
    debug: bool = False,
    hosts: Collection[str] | None = None,
    origins: Collection[str] = (),
    take_over: bool = True,
    gateway: GatewaySettings | None = None,
    sign_of_life: float = 60.0,
    access: AccessSettings | None = None,
    authorize: Authorize | None = None,
    public_url: str | None = None,
) -> Application:
    """The relay's routes as an application. It starts and stops *relay*, unless the relay is running already.

    Streams, with times in seconds. *heartbeat*: the interval between heartbeats on a quiet stream. *send_timeout*: a
    client that reads nothing for that long is disconnected. *slow_after*: a client that is behind, and for which the
    relay has waited that long, receives the latest progress instead of every record. Neither counts time in which the
    relay or its machine stood still. *max_age*: a stream is renewed after that time, plus or minus
    a fifth; the client does not notice. *max_streams*: the most streams that may be open, *max_streams_per_client* by
    one client, 0 for no limit; further clients are sent `busy` and retry later. *debug*: whether `?debug=1` streams may
    carry raw exchanges.

    Limits of one client, which is an IPv4 address or a /64 network of IPv6, 0 for no limit: *max_jobs_per_client* is
    the number of its jobs that may run at a time, and *new_jobs_per_minute* the number of jobs that it may start.

    *hosts*: the host names this relay answers to, without port; "*" for any, if the application checks the host
    itself. By default the relay answers to addresses, to names without a dot and to names below `localhost`: no site of
    the public DNS can own one of these (DNS rebinding). "<local>" stands for them in *hosts*.

    *origins*: further origins whose pages may use this relay, as a browser sends them: its own address behind a proxy,
    or other sites. Their pages may send requests and read responses (CORS), with cookies. Raises ConfigError for a text
    that no browser sends as an origin.

    *take_over*: whether the relay takes over a stream's connection from aiohttp once the stream is up to date. The
    handler has returned then, and the stream costs a twentieth of the memory. A connection that does not look as
    expected stays with aiohttp.

    *gateway*: the settings of the routes for OpenAI-style clients, [gateway] of relay.toml. *sign_of_life*: the most
    seconds without a chunk in one of their streams, since some of these clients do not count heartbeats.

    *access*: the ways in, [access] of relay.toml. *authorize*: the application's own decision, which is called first
    with each request that needs an access, and returns the `Access` of its client, or None for nobody that it knows;
    `app[web.GUARD].revoke` ends what it allowed. Without either, every client that reaches the relay may do everything.
    *public_url*: the address at which users reach the relay, for links and cookies. Raises ConfigError for an *access*
    without a `signing_key` where *relay* is one of several nodes.
    """
    check_origins(origins, "origins of create_app")
    app = Application(middlewares=[problems, check_request, check_origin, answer_preflight, check_access])
    notify = redacted(notice, relay.redactor)
    app[GUARD] = Guard(relay, access, authorize, public_url=public_url, notify=notify)
    app[USE_LOG] = UseLog(notify, relay.clock.monotonic)
    app[RELAY] = relay
    app[FAILURES] = RequestFailures(now=relay.clock.monotonic, redact=relay.redactor)
    app[BODIES] = MemoryBudget(BODIES_LIMIT)
    app[LIMITS] = ClientLimits(
        relay, running=max_jobs_per_client, a_minute=new_jobs_per_minute, now=relay.clock.monotonic
    )
    app[ERROR_FORMAT] = error_response
    app[GATEWAY] = Gateway(relay, app[LIMITS], gateway or GatewaySettings())
    app[WAITS] = ClientWaits(send_timeout)
    app[STREAMS] = StreamRegistry(max_age, app[WAITS])
    app[GUARD].on_withdrawn = app[STREAMS].withdraw
    app[FAN_OUT] = FanOut(relay.bus, heartbeat, now=relay.clock.monotonic)
    app[TURNS] = TurnQueue()
    app[REACTOR] = Reactor(app[FAILURES], app[WAITS])
    app[OPTIONS] = Options(
        heartbeat=heartbeat,
        send_timeout=send_timeout,
        slow_after=slow_after,
        max_age=max_age,
        max_streams=max_streams,
        max_streams_per_client=max_streams_per_client,
        debug=debug,
        take_over=take_over,
        sign_of_life=sign_of_life,
        hosts=None if hosts is None else frozenset(normal_host(name) for name in hosts),
        origins=frozenset(origins),
    )
    lifecycle = _Lifecycle(relay, app[STREAMS], app[GATEWAY], app[GUARD], app[REACTOR])
    app.cleanup_ctx.append(lifecycle.run)
    app.on_shutdown.append(lifecycle.end)
    app.on_response_prepare.extend((add_security_headers, add_cors_headers, add_cookies))
    _add_routes(app)
    app[STREAM_LANE] = StreamLane(app)
    return app


def _add_routes(app: Application) -> None:
    rules: dict[AbstractRoute, Rule] = {}
    app[RULES] = rules

    def route(method: Callable[..., AbstractRoute], needs: Need, path: str, handler: Handler, **options: Any) -> None:
        added = method(path, handler, expect_handler=continue_later, **options)
        for one in added.resource or ():  # aiohttp adds a route for HEAD beside that for GET
            rules.setdefault(one, Rule(needs, stream=handler in (stream_all, stream_job)))

    get, post = partial(route, app.router.add_get), partial(route, app.router.add_post)
    delete = partial(route, app.router.add_delete)
    # Streams first: aiohttp tries routes below /v1/jobs in this order, and a thousand readers may connect at once.
    get("jobs:read", "/v1/jobs/{job}/events", stream_job)
    post("jobs:submit", "/v1/jobs", create_job)
    get("jobs:read", "/v1/jobs", list_jobs)
    get("jobs:read", "/v1/jobs/{job}", show_job, name="job")
    post("jobs:cancel", "/v1/jobs/{job}/cancel", cancel_job)
    get("jobs:read", "/v1/events", stream_all)
    post("any", "/v1/session", create_session)
    get("any", "/v1/session", show_session)
    delete("any", "/v1/session", end_session)
    post("jobs:read", "/v1/tickets", create_ticket)
    get("operate", "/v1/sinks", list_sinks)
    post("operate", "/v1/sinks/{name}", change_sink)
    post("nothing", "/v1/webhooks/{upstream}/{job}/{token}", receive_webhook)
    post("jobs:submit", "/v1/chat/completions", create_chat_completion)
    get("jobs:submit", "/v1/models", list_models)
    post("jobs:submit", "/v1/videos", create_video)
    get("jobs:read", "/v1/videos", list_videos)
    get("jobs:read", "/v1/videos/{video}", show_video)
    get("jobs:read", "/v1/videos/{video}/content", video_content)
    delete("jobs:cancel", "/v1/videos/{video}", delete_video)
    post("jobs:submit", "/v1/video/generations", create_generation)
    get("jobs:read", "/v1/video/generations/{video}", show_generation)
    post("jobs:submit", "/v1/responses", create_response)
    get("jobs:read", "/v1/responses/{response}", show_response)
    post("jobs:cancel", "/v1/responses/{response}/cancel", cancel_response)
    get("nothing", "/healthz", healthz)
    get("nothing", "/readyz", readyz)
    get("operate", "/metrics", metrics)
    get("nothing", "/", page, name="page")
    get("nothing", "/static/{name}", static)


class _Lifecycle:
    """Runs the relay while the application runs, unless the caller runs it already."""

    def __init__(self, relay: Relay, streams: StreamRegistry, gateway: Gateway, guard: Guard, reactor: Reactor) -> None:
        self._relay = relay
        self._streams = streams
        self._gateway = gateway
        self._guard = guard
        self._reactor = reactor
        self._ours = False

    async def run(self, _: Application) -> AsyncIterator[None]:
        self._ours = not self._relay.running
        await self._guard.start()
        try:
            if self._ours:
                async with self._relay:
                    yield
            else:
                yield
        finally:
            self._reactor.close()
            await self._guard.close()

    async def end(self, _: Application) -> None:
        """Stop the jobs first and end the streams then, so that no stream misses the last record of the console."""
        if self._ours:
            await self._relay.quiesce()
        await self._gateway.close()
        await self._streams.close()
