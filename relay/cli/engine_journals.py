"""Journals at a server, as arguments of commands: an address of Redis or Valkey, or the secret that holds it."""

import os
from pathlib import Path
from typing import Final

import click

from relay.cli.decorators import OptionDecorator
from relay.secret import is_reference, read_secret

__all__ = ["cluster_option", "engine_url"]

_SCHEMES: Final = tuple(f"{scheme}://" for scheme in ("redis", "rediss", "valkey", "valkeys", "unix"))
_VARIANTS: Final = ("redis+", "rediss+", "valkey+", "valkeys+")

cluster_option: OptionDecorator = click.option(
    "--cluster",
    metavar="NAME",
    default="relay",
    show_default=True,
    help="The name of the cluster, where the journal is at a server.",
)


def engine_url(argument: str) -> str | None:
    """The address of the server that *argument* names; None where it is no address.

    `env:NAME` and `file:PATH` stand for an address that is a secret, as it may hold a password: every user of the
    machine sees the command line. Raises ConfigError for one that is not there.
    """
    if is_reference(argument):
        return read_secret(argument, os.environ, Path()).reveal()
    named = argument.startswith(_SCHEMES) or (argument.startswith(_VARIANTS) and "://" in argument)
    return argument if named else None
