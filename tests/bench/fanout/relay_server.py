"""The relay as `relay serve` runs it, with a publisher inside of it in place of an upstream's poller."""

import argparse
import asyncio
import gc
import sys
from collections import Counter
from functools import partial

import msgspec
from aiohttp.web import Application

from relay import Job, Relay
from relay.cli.build import build_relay
from relay.cli.names import own_names
from relay.cli.running import run
from relay.cli.serving import serving
from relay.config.settings import ClusterSettings, ConfiguredSink, CustomSinkSettings, JournalSettings, Settings
from relay.errors import UnavailableError
from relay.secret import Secret
from sinks.console import ConsoleSettings
from tests.bench.fanout.access import WAYS
from tests.bench.fanout.control import EXIT_AFTER, arguments, serve_control
from tests.bench.fanout.events import progress
from tests.bench.fanout.silent import Silent
from web import create_app
from web.streaming.keys import STREAMS

__all__ = ["ignore"]

OURS = ("relay.", "sinks.", "web.", "aiohttp.", "asyncio.", "_asyncio.", "blinker.", "http.", "yarl.", "multidict.")
LEASE = 300.0
"""Seconds, longer than any run: a node that joins others owns nothing meanwhile."""

CLAIMED_SOON = 0.05

BOUNDED = ("asyncio.events.TimerHandle", "relay.events.Record", "relay.events.Position", "relay.events.Progress")


def ignore(record: object) -> None:
    """A sink that does nothing, to see what the console costs."""


async def main(options: argparse.Namespace, stop: asyncio.Event) -> int:
    sink: msgspec.Struct = ConsoleSettings(format=options.console or None)
    if options.console == "none":
        sink = CustomSinkSettings(target=f"{ignore.__module__}:{ignore.__name__}")
    urls: dict[str, Secret | str] = {
        "memory": "memory:",
        "sqlite": f"sqlite:{options.file}",
        "redis": Secret(options.engine),
    }
    settings = Settings(
        journal=JournalSettings(url=urls[options.journal]),
        cluster=ClusterSettings(lease=LEASE),
        sinks=(ConfiguredSink(settings=sink),),
    )
    relay, server = build_relay(settings), settings.server
    silent = relay.upstreams["silent"] = Silent()
    app = create_app(
        relay,
        heartbeat=server.heartbeat,
        send_timeout=server.send_timeout,
        slow_after=server.slow_after,
        max_age=max(server.max_age, 2.0 * EXIT_AFTER),  # the load client does not come back
        max_streams=server.max_streams,
        max_streams_per_client=server.max_streams_per_client,
        debug=server.debug,
        hosts=own_names(server.host, None),
        access=WAYS[options.access].settings(),
    )
    async with serving(app, server.host, options.port):
        way = WAYS[options.access]
        jobs = {} if options.passive else await follow(relay, options.topics, way.owner)
        if jobs:
            await silent.asked.wait()
        with open(options.paths, "w") as out:  # noqa: ASYNC230
            out.writelines(f"{topic} /v1/jobs/{job.id}/events\n" for topic, job in jobs.items())
            out.write("everything /v1/events\n")
        with open(f"{options.paths}.field", "w") as out:  # noqa: ASYNC230
            out.write(way.field(app))

        def publish(topic: str, seq: int, pad: int) -> None:
            relay.bus.publish(jobs[topic], progress(seq, pad))

        control = await serve_control(
            options.control,
            publish,
            together=options.together,
            batch=partial(relay.bus.batch, deferrable=True),
            census=partial(census, app),
        )
        await stop.wait()
        control.close()
    return 0


def census(app: Application) -> bytes:
    """The tasks, the open streams, the blocks of Python's allocator that are in use, and objects by class: those of the
    relay, of its web application and of aiohttp.

    Without what is kept of the story, and without timers that were cancelled and that asyncio has not yet thrown away:
    both are bounded, and neither hangs on how many clients there were.
    """
    # The collector does not list frozen objects: a future that a task waited for since the start, and the next one is.
    gc.unfreeze()
    gc.collect()
    classes = Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in map(type, gc.get_objects()))
    objects = {name: number for name, number in classes.items() if name.startswith(OURS) and name not in BOUNDED}
    tasks, blocks = len(asyncio.all_tasks()), sys.getallocatedblocks()
    return msgspec.json.encode({"tasks": tasks, "streams": len(app[STREAMS]), "blocks": blocks, "objects": objects})


async def follow(relay: Relay, topics: int, owner: str) -> dict[str, Job]:
    """A job for each topic: `t` and `other`, and `t0`, `t1` and so on."""
    names = ["t", "other", *(f"t{number}" for number in range(topics))]
    return {name: await _follow(relay, name, owner) for name in names}


async def _follow(relay: Relay, name: str, owner: str) -> Job:
    while True:
        try:
            return await relay.requests.follow("silent", name, owner)
        except UnavailableError:  # a node owns nothing in its first moments
            await asyncio.sleep(CLAIMED_SOON)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--paths", required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--journal", choices=["sqlite", "memory", "redis"], default="sqlite")
    parser.add_argument("--engine", default="", help="the address of the server, with --journal redis")
    parser.add_argument("--passive", action="store_true", help="follow nothing: a node beside another one")
    parser.add_argument("--console", choices=["pretty", "json", "none"])
    parser.add_argument("--access", choices=list(WAYS), default="none")
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    chosen = arguments(parser)
    if chosen.loop == "uvloop":
        from importlib import import_module

        asyncio.set_event_loop_policy(import_module("uvloop").EventLoopPolicy())
    raise SystemExit(run(partial(main, chosen)))
