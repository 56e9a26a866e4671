"""Options that several commands have."""

import math
from pathlib import Path
from typing import Final

import click

from relay.config import load
from relay.settings import Settings

__all__ = [
    "PORT",
    "config_option",
    "host_option",
    "log_format_option",
    "read_speed",
    "settings_from",
    "speed_option",
]

PORT: Final = click.IntRange(0, 65535)


def read_speed(text: str) -> float:
    """What *text* says of how fast time goes, as a type of an option."""
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.01 <= speed <= 1000:
        raise click.BadParameter(f"{text!r} is not a number from 0.01 to 1000")
    return speed


host_option = click.option("--host", metavar="ADDRESS", help="Where to listen: an address of loopback.")
speed_option = click.option(
    "--speed",
    type=read_speed,
    default="1",
    show_default=True,
    metavar="NUMBER",
    help="How many seconds pass in one, for upstream and relay.",
)
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["pretty", "json"]),
    help="How the console prints records; by default pretty on a terminal, and JSON lines elsewhere.",
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration; by default relay.toml of the current directory, where there is one.",
)


def settings_from(config: Path | None, environ: dict[str, str]) -> Settings:
    """The settings in *config*, or in the current directory's relay.toml where there is one."""
    default = Path("relay.toml")
    return load(config if config is not None else default if default.exists() else None, environ)
