"""`relay token`: a link with which others watch one job, and new API keys."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from relay import UsageError
from relay.cli import say
from relay.cli.api_keys import new_key
from relay.cli.options import config_option, settings_from
from relay.clock import SystemClock
from relay.config.access import is_job_id
from relay.config.server import SYSTEMD, UNIX
from relay.config.settings import ServerSettings
from relay.config.tables import seconds_in
from web.access.signing import Signer

__all__ = ["token"]

LONGEST: Final = 366 * 86_400.0
"""Seconds: only another signing_key revokes a link before its end."""

_ANYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104


def _ttl(text: str) -> float:
    seconds = seconds_in(text)
    if seconds is None or not 1 <= seconds <= LONGEST:
        raise click.BadParameter(f"{text!r} is no time from 1 s to 366 days, such as '90s', '1h' or '7d'")
    return seconds


@click.command
@config_option
@click.option("--job", metavar="JOB", help="The job that the link shows, and no other.")
@click.option(
    "--ttl",
    type=_ttl,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long the link is valid, as 90s or 1h.",
)
@click.option("--bare", is_flag=True, help="Print the capability alone, for `Authorization: Bearer`.")
@click.option("--new-key", is_flag=True, help="Print a new API key for [[access.keys]], or a signing_key, instead.")
def token(config: Path | None, job: str | None, ttl: float, *, bare: bool, new_key: bool) -> int:
    """Print a link for watching JOB: a client that has it may read this one job, until the link ends.

    It is signed with signing_key of [access]. The relay need not run, and does not know of it.
    """
    if new_key:
        if job is not None or bare:
            raise click.UsageError("--new-key makes a key of its own; leave out --job and --bare")
        return _print_key()
    if job is None:
        raise click.UsageError("name the job with --job, or make an API key with --new-key")
    if not is_job_id(job):
        raise click.UsageError(f"{job[:200]!r} is no id of a job, such as job_b710914e0b177d99")
    settings = settings_from(config, os.environ)
    signing = settings.access.signing_key if settings.access is not None else None
    if signing is None:
        raise UsageError(
            "no signing_key is configured, so the relay would not accept a link from here; make one with relay token"
            " --new-key, and say where it is (env:NAME or file:PATH) as signing_key of [access]"
        )
    address = "" if bare else f"{_address(settings.server)}/#watch="
    expires = math.floor(SystemClock().now().timestamp() + ttl)
    click.echo(address + Signer(signing.reveal().encode()).sign_watch(job, expires))
    say(f"a client that has this may read {job} until {datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M:%S} UTC")
    return 0


def _print_key() -> int:
    click.echo(new_key())
    return 0


def _address(server: ServerSettings) -> str:
    """The address at which users reach the relay, as far as the configuration says. Raises UsageError."""
    if server.public_url is not None:
        return server.public_url.rstrip("/")
    if server.host in (*_ANYWHERE, SYSTEMD) or server.host.startswith(UNIX) or server.port == 0:
        raise UsageError(
            f"host {server.host!r} and port {server.port} are no address for a link; write the address that users go to"
            " as public_url under [server], or use --bare"
        )
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{'http' if server.tls is None else 'https'}://{host}:{server.port}"
