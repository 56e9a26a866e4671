"""`relay demo`: everything in one process, over real HTTP on loopback."""

import asyncio
from functools import partial
from typing import Final

import click

from relay import Job, Relay, SinkOptions, UsageError
from relay.cli import say
from relay.cli.loops import LoopName, loop_option
from relay.cli.names import own_names
from relay.cli.options import PORT, LogFormat, level_option, log_format_option, speed_option
from relay.cli.running import ended, first_of, run
from relay.cli.serving import serving
from relay.clock import Clock, SystemClock
from relay.config.server import is_loopback
from relay.events import Level
from relay.testing import ScriptedUpstream
from relay.upstreams import Sora
from sinks import ConsoleSink
from web import create_app

__all__ = ["demo"]

SCENARIOS: Final = ("happy", "gap", "violation", "reappears", "garbage", "rate-limited", "error-item", "unauthorised")
"""What the jobs play, in turn. Each ends within a minute."""

PROMPTS: Final = ("a lighthouse in the fog", "a paper boat on a canal", "a night train through snow")

CHAT: Final = '{"model":"sora","stream":true,"messages":[{"role":"user","content":"a cat"}]}'

APART: Final = 2.0
ALL_WITHIN: Final = 6.0


@click.command
@click.option("--host", metavar="ADDRESS", help="Where to listen: an address of loopback.")
@click.option("--port", type=PORT, default=8080, show_default=True, help="The page's port; 0 takes any free one.")
@click.option("--jobs", type=click.IntRange(1, 1000), default=3, show_default=True, help="How many jobs to run.")
@speed_option
@click.option("--once", is_flag=True, help="End when the jobs have ended.")
@log_format_option
@level_option("debug")
@loop_option
def demo(
    host: str | None,
    port: int,
    jobs: int,
    speed: float,
    once: bool,
    log_format: LogFormat | None,
    level: Level,
    loop: LoopName,
) -> int:
    """Show jobs on a scripted upstream, in the console and on a page.

    Upstream, relay and page run in this one process and speak real HTTP on loopback. Records go to standard output.
    """
    host = host or "127.0.0.1"
    if not is_loopback(host):
        raise UsageError("the demonstration is for this machine alone; serve it on 127.0.0.1, ::1 or localhost")
    return run(partial(_demo, host, port, jobs, SystemClock(speed), once, log_format, level), loop)


async def _demo(
    host: str,
    port: int,
    count: int,
    clock: Clock,
    once: bool,
    log_format: LogFormat | None,
    level: Level,
    stop: asyncio.Event,
) -> int:
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock)
        console = SinkOptions(sink=ConsoleSink(format=log_format), level=level, name="console")
        relay = Relay([sora], sinks=[console], clock=clock)
        app = create_app(relay, debug=True, hosts=own_names(host, None))
        async with serving(app, host, port) as address:
            say(f"the page is at {address}/ and every job's stream at {address}/v1/events; Ctrl-C ends this")
            say(f"a job as a chat: curl -N --json '{CHAT}' {address}/v1/chat/completions")
            finished = asyncio.Event()
            story = asyncio.create_task(_tell(relay, count, clock))
            story.add_done_callback(lambda done: finished.set() if once or _failed(done) else None)
            await first_of(stop, finished)
            if finished.is_set():
                story.result()
            story.cancel()
            await asyncio.gather(story, return_exceptions=True)
    return 0


def _failed(story: "asyncio.Task[None]") -> bool:
    return not story.cancelled() and story.exception() is not None


async def _tell(relay: Relay, count: int, clock: Clock) -> None:
    """Submit the jobs one after the other, as users would, and see them end."""
    jobs: list[Job] = []
    for number in range(count):
        if number:
            await clock.sleep(min(APART, ALL_WITHIN / count))
        scenario, prompt = SCENARIOS[number % len(SCENARIOS)], PROMPTS[number % len(PROMPTS)]
        jobs.append(relay.submit("sora", {"prompt": f"[{scenario}] {prompt}"}))
    with ended(relay.bus, jobs) as all_ended:
        await all_ended.wait()
