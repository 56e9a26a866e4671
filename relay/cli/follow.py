"""`relay follow`: one task in the console."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
from msgspec.structs import replace

from relay import ConfigError, Done, Relay
from relay.cli import INTERRUPTED
from relay.cli.build import build_pace, build_sinks, build_upstream, import_from_here
from relay.cli.credentials import token_of
from relay.cli.loops import LoopName, loop_option
from relay.cli.options import config_option, level_option, settings_from
from relay.cli.redaction import redactor_of
from relay.cli.running import ended, first_of, reopening, run
from relay.cli.stderr import hide
from relay.clock import SystemClock
from relay.config.settings import Settings
from relay.events import Level
from relay.hints import nearest
from relay.upstreams.settings import UpstreamSettings

__all__ = ["follow"]


@click.command
@click.argument("upstream")
@click.argument("task_id")
@config_option
@click.option("--token", metavar="REFERENCE", help="Present this token to UPSTREAM, in place of the configured one.")
@level_option(None)
@loop_option
def follow(
    upstream: str, task_id: str, config: Path | None, token: str | None, level: Level | None, loop: LoopName
) -> int:
    """Follow TASK_ID, which exists at UPSTREAM, in the console, without a server.

    UPSTREAM is the name of an upstream in relay.toml. The sinks of relay.toml receive its records; without any, the
    console does. Ends with the job: status 0 when it is done, 1 when it failed or
    was cancelled, 130 when Ctrl-C ended the following (the job itself goes on). A REFERENCE says where a secret is:
    env:NAME or file:PATH.
    """
    settings = settings_from(config, os.environ)
    import_from_here()
    chosen = _chosen(settings, upstream)
    if token is not None:
        other: UpstreamSettings = replace(cast(Any, chosen), token=token_of("--token", token))
        settings = replace(settings, upstreams=tuple(other if one is chosen else one for one in settings.upstreams))
        hide(redactor_of(settings))
        chosen = other
    return run(partial(_follow, settings, chosen, task_id, level), loop)


def _chosen(settings: Settings, name: str) -> UpstreamSettings:
    configured = {upstream.name: upstream for upstream in settings.upstreams}
    if not configured:
        raise ConfigError("no upstream is configured; add [[upstreams]] to relay.toml, or name the file with --config")
    if name not in configured:
        raise ConfigError(f"no upstream is called {name!r}; {nearest(name, configured)}")
    return configured[name]


async def _follow(
    settings: Settings, upstream: UpstreamSettings, task: str, level: Level | None, stop: asyncio.Event
) -> int:
    clock = SystemClock()
    relay = Relay(
        [build_upstream(upstream, clock)],
        sinks=build_sinks(settings, level=level),
        paces={upstream.name: build_pace(upstream)},
        clock=clock,
        redactor=redactor_of(settings),
    )
    async with relay:
        job = relay.follow(upstream.name, task)
        with ended(relay.bus, [job]) as end, reopening(lambda: (attached.sink for attached in relay.sinks)):
            await first_of(stop, end)
    if not job.ended:
        return INTERRUPTED
    return 0 if isinstance(job.state.terminal, Done) else 1
