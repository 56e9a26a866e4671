"""Options that several commands have."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

import click

import relay.config
from relay.cli import say
from relay.cli.decorators import OptionDecorator
from relay.cli.redaction import redactor_of
from relay.cli.stderr import hide
from relay.config.settings import Settings
from relay.events import LEVELS, Level

__all__ = [
    "PORT",
    "LogFormat",
    "about_services",
    "config_file",
    "config_option",
    "host_option",
    "level_option",
    "load_settings",
    "log_format_option",
    "read_speed",
    "settings_from",
    "speed_option",
]

NAMES_SHOWN: Final = 3

LogFormat: TypeAlias = Literal["pretty", "json"]

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


host_option: OptionDecorator = click.option(
    "--host",
    metavar="ADDRESS",
    help="Where to listen: an address of loopback; with [access] any address, unix:PATH or systemd.",
)
speed_option: OptionDecorator = click.option(
    "--speed",
    type=read_speed,
    default="1",
    show_default=True,
    metavar="NUMBER",
    help="How many seconds pass in one, for upstream and relay.",
)
log_format_option: OptionDecorator = click.option(
    "--log-format",
    type=click.Choice(["pretty", "json"]),
    help="How the console prints records; by default pretty on a terminal, and JSON lines elsewhere.",
)


def level_option(default: Level | None = "info") -> OptionDecorator:
    """`--level`, or the variable RELAY_LOG_LEVEL. The *default* is None where relay.toml says it."""
    return click.option(
        "--level",
        type=click.Choice(LEVELS, case_sensitive=False),
        default=default,
        show_default=default is not None,
        envvar="RELAY_LOG_LEVEL",
        show_envvar=True,
        help="The least level that the console prints; debug shows every poll. The end of a job is always printed.",
    )


config_option: OptionDecorator = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration; by default relay.toml of the current directory, where there is one.",
)


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings that `relay.config.load` reads, with the sinks of ours and of packages: it knows of none itself."""
    from relay.cli.sink_packages import packaged_target
    from sinks.kinds import SINK_KINDS

    return relay.config.load(path, environ, SINK_KINDS, packaged_target)


def settings_from(config: Path | None, environ: Mapping[str, str], *, notify: Callable[[str], None] = say) -> Settings:
    """The settings in *config*, or in the current directory's relay.toml where there is one.

    From then on, the secrets in it are masked on standard error. Variables of *environ* that an orchestrator has
    injected are one line to *notify*.
    """
    settings = load_settings(config_file(config), environ)
    hide(redactor_of(settings))
    if (line := about_services(environ)) is not None:
        notify(line)
    return settings


def config_file(config: Path | None) -> Path | None:
    """The file that *config* names, or the current directory's relay.toml; None where there is none."""
    default = Path("relay.toml")
    return config if config is not None else default if default.exists() else None


def about_services(environ: Mapping[str, str]) -> str | None:
    """That variables of *environ* are passed over, in one line; None where none is."""
    names = relay.config.passed_over(environ)
    if not names:
        return None
    shown = ", ".join(names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return f"the environment variables of a service are passed over, as they are not the relay's own: {shown}{more}"
