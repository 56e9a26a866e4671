"""`relay serve`: the relay as it is configured."""

import asyncio
import os
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path

import click
from msgspec.structs import replace

from relay.cli import say
from relay.cli.access_lines import access_lines
from relay.cli.build import build_relay, import_from_here
from relay.cli.fd_limit import raise_fd_limit
from relay.cli.listening import listening
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
from relay.cli.reloading import refreshing, reload_of
from relay.cli.serving import reopening, run, serving_on
from relay.config import check_host
from relay.config.server import UNIX
from relay.config.settings import ServerSettings, Settings
from relay.events import Level
from web import GUARD, create_app
from web.tls import Certificate

__all__ = ["say_where", "serve"]


@click.command
@config_option
@host_option
@click.option("--port", type=PORT, help="The port to listen on; 0 takes any free one.")
@log_format_option
@level_option(None)
@loop_option
def serve(
    config: Path | None,
    host: str | None,
    port: int | None,
    log_format: LogFormat | None,
    level: Level | None,
    loop: LoopName,
) -> int:
    """Follow jobs on the configured upstreams, and serve their progress."""
    settings = settings_from(config, os.environ)
    server = settings.server
    server = replace(server, host=host or server.host, port=server.port if port is None else port)
    check_host(server.host, access=settings.access is not None)
    import_from_here()
    return run(partial(_serve, replace(settings, server=server), config_file(config), log_format, level), loop)


async def _serve(
    settings: Settings, config: Path | None, log_format: LogFormat | None, level: Level | None, stop: asyncio.Event
) -> int:
    server, access = settings.server, settings.access is not None
    certificate = Certificate(Path(server.tls.cert), Path(server.tls.key), say) if server.tls is not None else None
    raise_fd_limit(server.max_streams, len(settings.upstreams))
    relay = build_relay(settings, log_format, level)
    # The relay closes its journal too, but it is not entered where the port cannot be had.
    with closing(relay.journal):
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
            listeners = stack.enter_context(listening(server.host, server.port, access=access))
            address = await stack.enter_async_context(serving_on(app, listeners, certificate))
            stack.enter_context(reopening(lambda: (attached.sink for attached in relay.sinks), reload))
            say_where(address, server, exposed=listeners.exposed)
            if settings.access is not None:
                await stack.enter_async_context(refreshing(app[GUARD], relay.clock))
                for line in access_lines(settings.access):
                    say(line)
            if not settings.upstreams:
                say("no upstream is configured, so there is nothing to follow; add [[upstreams]] to relay.toml")
            await stop.wait()
    return 0


def say_where(address: str, server: ServerSettings, *, exposed: bool) -> None:
    """Say where the relay is, and whether anything protects what other machines send if it is *exposed* to them."""
    root = address if address.startswith(UNIX) else f"{address}/"
    public = f", for users {server.public_url}" if server.public_url is not None else ""
    say(f"serving on {root}{public}; Ctrl-C ends this")
    if exposed and server.tls is None and not (server.public_url or "").startswith("https:"):
        say(
            "other machines reach this relay without TLS, so keys and records can be read on the way; configure"
            " [server] tls, or let a proxy with TLS stand in front and say its https address as public_url"
        )
