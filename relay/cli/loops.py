"""Which event loop a command runs on: asyncio's own, or uvloop (the extra `speed`)."""

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final, Literal

import click

from relay import UsageError
from relay.cli.decorators import OptionDecorator

__all__ = ["VARIABLE", "LoopName", "loop_factory", "loop_option"]

LoopName = Literal["auto", "asyncio", "uvloop"]

VARIABLE: Final = "RELAY_LOOP"

loop_option: OptionDecorator = click.option(
    "--loop",
    type=click.Choice(["auto", "asyncio", "uvloop"]),
    default="auto",
    show_default=True,
    envvar=VARIABLE,
    show_envvar=True,
    help="The event loop; auto takes uvloop where it is installed.",
)


def loop_factory(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop called *name*, as asyncio.Runner takes it; None for asyncio's own.

    Raises UsageError where it is not installed.
    """
    if name == "asyncio" or (name == "auto" and find_spec("uvloop") is None):
        return None
    try:
        from uvloop import new_event_loop
    except ImportError:
        raise UsageError(
            "uvloop is not installed; install progress-relay[speed], or choose another event loop with --loop"
        ) from None
    return new_event_loop
