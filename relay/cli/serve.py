"""`relay serve`: the relay as it is configured."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Final

import click
from msgspec.structs import replace

from relay.cli import say
from relay.cli.access_lines import access_lines
from relay.cli.build import build_relay, import_from_here
from relay.cli.fd_limit import raise_fd_limit
from relay.cli.listening import Listeners
from relay.cli.loops import LoopName, loop_option
from relay.cli.names import own_names, own_origins
from relay.cli.options import (
    PORT,
    LogFormat,
    config_file,
    config_option,
    host_option,
    level_option,
    log_format_option,
    settings_from,
)
from relay.cli.patience import Patience, StoppedWaitingError
from relay.cli.reloading import refreshing, reload_of
from relay.cli.running import reopening, run
from relay.cli.serving import serving_on
from relay.cli.workers import Place, check_workers, ending_with, place_of_one, serve_in_workers
from relay.config import check_host
from relay.config.server import UNIX
from relay.config.settings import ServerSettings, Settings
from relay.events import Level
from relay.journal.shared import SharedJournal
from web import GUARD, create_app
from web.server import served
from web.tls import Certificate
from web.waiting import create_waiting_app

__all__ = ["say_where", "serve"]

MOST_WORKERS: Final = 64


@click.command
@config_option
@host_option
@click.option("--port", type=PORT, help="The port to listen on; 0 takes any free one.")
@log_format_option
@level_option(None)
@loop_option
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="How many processes serve at this address; more than one need a journal in Redis.",
)
def serve(
    config: Path | None,
    host: str | None,
    port: int | None,
    log_format: LogFormat | None,
    level: Level | None,
    loop: LoopName,
    workers: int,
) -> int:
    """Follow jobs on the configured upstreams, and serve their progress."""

    def read(notify: Callable[[str], None] = say) -> Settings:
        settings = settings_from(config, os.environ, notify=notify)
        server = settings.server
        server = replace(server, host=host or server.host, port=server.port if port is None else port)
        check_host(server.host, access=settings.access is not None)
        return replace(settings, server=server)

    def work(settings: Settings, place: Place) -> int:
        return run(partial(_serve, settings, place, config_file(config), log_format, level), loop)

    settings = read()
    import_from_here()
    raise_fd_limit(settings.server.max_streams, len(settings.upstreams))
    if workers == 1:
        with place_of_one(settings) as place:
            return work(settings, place)
    check_workers(settings)
    begun = partial(_announce, settings, workers=workers)
    return serve_in_workers(workers, settings, work, begun=begun, reload=lambda: read(lambda _: None))


async def _serve(
    settings: Settings,
    place: Place,
    config: Path | None,
    log_format: LogFormat | None,
    level: Level | None,
    stop: asyncio.Event,
) -> int:
    server, access = settings.server, settings.access is not None
    certificate = Certificate(Path(server.tls.cert), Path(server.tls.key), say) if server.tls is not None else None
    patience = Patience(stop, partial(_waiting, place.listeners, certificate))
    relay = build_relay(settings, log_format, level, patience=patience)
    # The relay closes its journal too, but it is not entered where the application cannot be made.
    with (
        nullcontext() if isinstance(relay.journal, SharedJournal) else closing(relay.journal),
        ending_with(place.worker, stop),
        suppress(StoppedWaitingError),
    ):
        app = create_app(
            relay,
            heartbeat=server.heartbeat,
            send_timeout=server.send_timeout,
            slow_after=server.slow_after,
            max_age=server.max_age,
            max_streams=server.max_streams,
            max_streams_per_client=server.max_streams_per_client,
            max_jobs_per_client=server.max_jobs_per_client,
            new_jobs_per_minute=server.new_jobs_per_minute,
            debug=server.debug,
            gateway=settings.gateway,
            hosts=own_names(server.host, server.public_url),
            origins={*own_origins(server.public_url), *server.origins},
            access=settings.access,
            public_url=server.public_url,
        )
        reload = reload_of(app[GUARD], relay, config, settings) if config is not None and access else None
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                serving_on(app, place.listeners, certificate, fast_accept=server.fast_accept)
            )
            alone = place.worker is None
            stack.enter_context(reopening(lambda: (attached.sink for attached in relay.sinks), reload, ends=alone))
            if access:
                await stack.enter_async_context(refreshing(app[GUARD], relay.clock))
            if place.worker is None:
                _announce(settings, place.listeners)
            else:
                place.worker.ready()
            await stop.wait()
    return 0


@asynccontextmanager
async def _waiting(listeners: Listeners, certificate: Certificate | None) -> AsyncGenerator[None]:
    """Answer clients on copies of *listeners*, as the server closes the sockets that it accepts on."""
    async with served(create_waiting_app(), *(one.dup() for one in listeners.sockets), certificate=certificate):
        yield


def _announce(settings: Settings, listeners: Listeners, workers: int = 1) -> None:
    """Say where the relay is, who may do what, and that there is nothing to do if no upstream is configured."""
    address = listeners.address("https" if settings.server.tls is not None else "http")
    say_where(address, settings.server, exposed=listeners.exposed, workers=workers)
    for line in access_lines(settings.access) if settings.access is not None else ():
        say(line)
    if not settings.upstreams:
        say("no upstream is configured, so there is nothing to follow; add [[upstreams]] to relay.toml")


def say_where(address: str, server: ServerSettings, *, exposed: bool, workers: int = 1) -> None:
    """Say where the relay is, and whether anything protects what other machines send if it is *exposed* to them."""
    root = address if address.startswith(UNIX) else f"{address}/"
    public = f", for users {server.public_url}" if server.public_url is not None else ""
    say(f"serving on {root}{public}{f' with {workers} workers' if workers > 1 else ''}; Ctrl-C ends this")
    if exposed and server.tls is None and not (server.public_url or "").startswith("https:"):
        say(
            "other machines reach this relay without TLS, so keys and records can be read on the way; configure"
            " [server] tls, or let a proxy with TLS stand in front and say its https address as public_url"
        )
