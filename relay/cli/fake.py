"""`relay fake`: the scripted upstream alone."""

import asyncio
from functools import partial

import click

from relay.cli import say
from relay.cli.options import PORT, speed_option
from relay.cli.running import run
from relay.clock import SystemClock
from relay.testing import SCENARIOS, ScriptedUpstream

__all__ = ["fake"]


@click.command(
    epilog="\b\nScenarios:\n" + "\n".join(f"  {name:<15} {one.description}" for name, one in SCENARIOS.items())
)
@click.option("--port", type=PORT, default=9090, show_default=True, help="The port to listen on; 0 takes any free one.")
@click.option(
    "--scenario",
    type=click.Choice(list(SCENARIOS)),
    default="happy",
    show_default=True,
    metavar="NAME",
    help="What its tasks play.",
)
@speed_option
def fake(port: int, scenario: str, speed: float) -> int:
    """Run the scripted upstream alone: a real HTTP server on loopback that speaks Sora's dialect.

    It starts with one task. More are created with `nf/create`; a prompt that begins with a scenario in brackets, as in
    `[gap] a cat`, plays that one.
    """
    return run(partial(_fake, port, scenario, speed))


async def _fake(port: int, scenario: str, speed: float, stop: asyncio.Event) -> int:
    async with ScriptedUpstream(scenario=scenario, clock=SystemClock(speed), port=port) as upstream:
        say(f"base_url {upstream.url}")
        say(f"token {upstream.token}")
        say(f"task {upstream.add_task()} plays {scenario}; Ctrl-C ends this")
        await stop.wait()
    return 0
