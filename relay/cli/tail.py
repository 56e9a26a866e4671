"""`relay tail`: a running relay, followed from a terminal."""

import asyncio
import os
import sys
from contextlib import aclosing
from functools import partial
from typing import Literal, Protocol
from urllib.parse import urlsplit

import click

from relay import Position
from relay.cli import INTERRUPTED, say
from relay.cli.bars import Bars
from relay.cli.credentials import credentials_of
from relay.cli.options import LogFormat, level_option
from relay.cli.printing import WAITING, noticing_the_reader, taken
from relay.cli.received import ReceivedRecord
from relay.cli.running import first_of, run
from relay.cli.stream import NOW, START, RelayStream, Remark
from relay.clock import SystemClock
from relay.events import Level
from sinks import ConsoleSink

__all__ = ["tail"]

READER_LEFT = 141
"""What a shell says of a command that SIGPIPE has ended."""

Format = Literal["pretty", "json", "bars"]


def _address(url: str) -> str:
    """The address of a relay, without a slash at its end, from *url*, which may also be that of its streams."""
    full = url if "://" in url else f"http://{url}"
    if not _is_address(full):
        raise click.UsageError(
            f"{url!r} is no address of a relay; that is one such as http://127.0.0.1:8080, without user and query"
        )
    return full.rstrip("/").removesuffix("/v1/events").rstrip("/")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        reached = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return reached and parts.username is None and not parts.query and not parts.fragment


def _since(text: str) -> str:
    if text in ("0", START):
        return START
    if text != NOW and Position.parse(text) is None:
        raise click.BadParameter(f"{text!r} is neither {START!r}, {NOW!r} nor the id of a record, such as '7f3a-42'")
    return text


@click.command
@click.argument("url", default="http://127.0.0.1:8080", type=_address)
@click.option("--job", "jobs", metavar="JOB", multiple=True, help="Follow this job alone; may be given more than once.")
@click.option(
    "--since",
    type=_since,
    default=START,
    show_default=True,
    metavar="POSITION",
    help="Begin behind this position, as the id of a record in the stream; or at the start, or now.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["pretty", "json", "bars"]),
    help="How records are printed; by default pretty on a terminal, and JSON lines elsewhere. bars: one bar a job.",
)
@level_option()
@click.option("--token", metavar="REFERENCE", help="Present this token (Authorization: Bearer).")
@click.option("--basic", metavar="REFERENCE", help="Present this user:password (Authorization: Basic).")
@click.option(
    "--header", "headers", metavar="NAME=REFERENCE", multiple=True, help="Present this header; may be given again."
)
def tail(
    url: str,
    jobs: tuple[str, ...],
    since: str,
    form: Format | None,
    level: Level,
    token: str | None,
    basic: str | None,
    headers: tuple[str, ...],
) -> int:
    """Follow the relay that runs at URL, in the lines that its own console prints.

    With --job it ends with those jobs: status 0 when all are done, 1 when one failed, was cancelled or is forgotten.
    Without, it goes on until Ctrl-C, which is status 130. A connection that is lost is come back to, where it broke
    off. URL is http://127.0.0.1:8080 by default. A REFERENCE says where a secret is: env:NAME or file:PATH.
    """
    credentials = credentials_of(token, basic, headers)
    stream = RelayStream(url, jobs, since, level=level, clock=SystemClock(), credentials=credentials)
    return run(partial(_tail, stream, form))


class _Teller(Protocol):
    async def tell(self, told: ReceivedRecord) -> None:
        """Print *record*, in its own time."""

    async def remark(self, text: str) -> None:
        """Print *text* on standard error, behind the records so far."""

    async def finish(self) -> None:
        """Return when all is printed."""


class _Lines:
    """Prints what the console of the relay prints."""

    def __init__(self, console: ConsoleSink, stop: asyncio.Event) -> None:
        self._console = console
        self._stop = stop

    async def tell(self, told: ReceivedRecord) -> None:
        await taken(self._console, WAITING, self._stop)
        self._console(told)

    async def remark(self, text: str) -> None:
        await self.finish()
        say(text)

    async def finish(self) -> None:
        await taken(self._console, 0, self._stop)


async def _tail(stream: RelayStream, form: Format | None, stop: asyncio.Event) -> int:
    with noticing_the_reader(stop) as left:
        if form == "bars" and _draws():
            async with Bars(sys.stdout) as bars:
                await _print(stream, bars, stop)
        else:
            if form == "bars":
                say("bars need a terminal; these are lines instead")
            async with ConsoleSink(format=_lines_of(form)) as console:
                await _print(stream, _Lines(console, stop), stop)
    if left.is_set():
        return READER_LEFT
    if stop.is_set():
        return INTERRUPTED
    return 0 if stream.all_done else 1


async def _print(stream: RelayStream, teller: _Teller, stop: asyncio.Event) -> None:
    """Print until the story ends or it is to stop."""
    reading, over = asyncio.create_task(_read(stream, teller)), asyncio.Event()
    reading.add_done_callback(lambda _: over.set())
    try:
        await first_of(stop, over)
    finally:
        if not reading.done():
            reading.cancel()
        await asyncio.wait([reading])
    if not reading.cancelled():
        reading.result()


async def _read(stream: RelayStream, teller: _Teller) -> None:
    async with aclosing(stream.read()) as told:
        async for one in told:
            await (teller.remark(one.text) if isinstance(one, Remark) else teller.tell(one))
    await teller.finish()


def _lines_of(form: Format | None) -> LogFormat | None:
    return "pretty" if form == "bars" else form


def _draws() -> bool:
    """Whether standard output can be drawn on."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
