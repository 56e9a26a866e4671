"""`relay serve`: the relay as it is configured."""

import asyncio
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import click
from msgspec.structs import replace

from relay.cli import say
from relay.cli.build import build_relay
from relay.cli.descriptors import allow_streams
from relay.cli.loops import LoopName, loop_option
from relay.cli.options import PORT, config_option, host_option, log_format_option, settings_from
from relay.cli.serving import own_names, own_origins, run, serving
from relay.config import check_host
from relay.settings import LogFormat, Settings
from web import create_app

__all__ = ["serve"]


@click.command
@config_option
@host_option
@click.option("--port", type=PORT, help="The port to listen on; 0 takes any free one.")
@log_format_option
@loop_option
def serve(config: Path | None, host: str | None, port: int | None, log_format: LogFormat | None, loop: LoopName) -> int:
    """Follow jobs on the configured upstreams, and serve their progress."""
    settings = settings_from(config, dict(os.environ))
    server = settings.server
    server = replace(server, host=host or server.host, port=server.port if port is None else port)
    check_host(server.host)
    # Behind everything else, so that no file of this directory stands in for a module that is installed.
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    return run(partial(_serve, replace(settings, server=server), log_format), loop)


async def _serve(settings: Settings, log_format: LogFormat | None, stop: asyncio.Event) -> int:
    server = settings.server
    allow_streams(server.max_streams, len(settings.upstreams))
    relay = build_relay(settings, log_format)
    app = create_app(
        relay,
        heartbeat=server.heartbeat,
        send_timeout=server.send_timeout,
        slow_after=server.slow_after,
        max_age=server.max_age,
        max_streams=server.max_streams,
        max_streams_per_client=server.max_streams_per_client,
        debug=server.debug,
        hosts=own_names(server.host, server.public_url),
        origins=own_origins(server.public_url),
    )
    # The relay closes its journal too, but it is not entered where the port cannot be had.
    with closing(relay.journal):
        async with serving(app, server.host, server.port) as address:
            public = f", for users {server.public_url}" if server.public_url is not None else ""
            say(f"serving on {address}/{public}; Ctrl-C ends this")
            if not settings.upstreams:
                say("no upstream is configured, so there is nothing to follow; add [[upstreams]] to relay.toml")
            await stop.wait()
    return 0
