"""The command line. A command is imported when it is run, so that help is printed at once."""

import errno
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Final, cast

import click

from relay import RelayError
from relay.cli.gc_tuning import thawed, uncollected
from relay.cli.packages import check_packages
from relay.cli.stderr import diagnostics, drop, say, say_traceback

__all__ = ["INTERRUPTED", "main", "say"]

USAGE: Final = 2
_UNWRITABLE: Final = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT)
INTERRUPTED: Final = 130
FAULT: Final = 1

_COMMANDS: Final = {
    "demo": ("relay.cli.demo", "Show jobs on a scripted upstream, in the console and on a page."),
    "serve": ("relay.cli.serve", "Follow jobs on the configured upstreams, and serve their progress."),
    "follow": ("relay.cli.follow", "Follow one task in the console, without a server."),
    "tail": ("relay.cli.tail", "Follow a running relay from a terminal."),
    "replay": ("relay.cli.replay", "Print the records of a journal again."),
    "audit": ("relay.cli.audit", "Prove that recordings hold the same story, or show where they differ."),
    "fake": ("relay.cli.fake", "Run the scripted upstream alone."),
    "token": ("relay.cli.token", "Print a link for watching one job, or a new API key."),
    "access": ("relay.cli.access", "Say what a key may do."),
    "doctor": ("relay.cli.doctor", "Examine the configuration, and try an upstream once."),
    "sinks": ("relay.cli.listing", "List the kinds of sinks."),
    "webhook": ("relay.cli.webhook", "Deliver again what a webhook has given up on."),
    "upstreams": ("relay.cli.listing", "List the kinds of upstreams."),
    "schema": ("relay.cli.listing", "Print the schema of a record."),
}


class _Commands(click.Group):
    """A group that knows its commands by name and one line of help, and imports one when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        check_packages()
        home, _ = _COMMANDS[cmd_name]
        with uncollected():
            return cast(click.Command, getattr(import_module(home), cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS:
            near = get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_COMMANDS)}"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in _COMMANDS.items()])


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="progress-relay", message="relay %(version)s")
@click.pass_context
def _relay(ctx: click.Context) -> None:
    """Relay the progress of long-running jobs to every console, browser and program that watches."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    A user's mistake is one line on stderr, and status 2. Ctrl-C is 130, unless a command states another.
    """
    with diagnostics(), thawed():
        try:
            return _relay.main(argv, prog_name="relay", standalone_mode=False) or 0
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx is not None else "relay"
            say(f"{error.format_message().rstrip('.')}; see {where} --help")
        except click.ClickException as error:
            say(error.format_message())
        except RelayError as error:
            say(str(error))
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except OSError as error:
            if error.errno not in _UNWRITABLE or error.filename is not None:
                return _failed(error)
            say(f"standard output cannot be written: {error.strerror}; send it elsewhere")
            drop(sys.stdout)
        except Exception as error:
            return _failed(error)
        return USAGE


def _failed(error: Exception) -> int:
    """Report a fault of the relay's own, as Python would, but without secrets."""
    say_traceback(error)
    return FAULT
