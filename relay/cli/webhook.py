"""`relay webhook`: the dead letters of webhooks, listed and delivered again."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import click

from relay import Record, UsageError
from relay.cli import INTERRUPTED, say
from relay.cli.build import build_sink
from relay.cli.options import config_option, settings_from
from relay.cli.running import run
from relay.config.settings import Settings
from relay.hints import unknown
from relay.journal import Parked, Parking, SqliteJournal
from relay.journal.sqlite import stored_dead_letters
from sinks import EndpointGone, RetryLater, Undeliverable
from sinks.webhook import WebhookSettings, WebhookSink

__all__ = ["webhook"]


@click.group
def webhook() -> None:
    """Deliver again what a webhook has given up on."""


@webhook.command
@config_option
@click.option("--sink", "names", metavar="NAME", multiple=True, help="This webhook alone; may be given more than once.")
@click.option("--job", "jobs", metavar="JOB", multiple=True, help="This job alone; may be given more than once.")
@click.option("--list", "only_list", is_flag=True, help="Only list them; the relay may be running meanwhile.")
def replay(config: Path | None, names: tuple[str, ...], jobs: tuple[str, ...], *, only_list: bool) -> int:
    """Deliver the dead letters of the durable webhooks again, signed anew and with the ids that they had.

    Those that are delivered are removed from the journal; the others stay. The relay must not be running, except for
    a list.
    """
    settings = settings_from(config, os.environ)
    if settings.journal.scheme != "sqlite":
        raise UsageError(f"{settings.journal.where} keeps no dead letters; they are in one such as sqlite:relay.db")
    sinks = _webhooks(settings, names)
    if only_list:
        return _list(Path(settings.journal.path), sinks, jobs)
    with closing(SqliteJournal(settings.journal.path, settings.journal.keep, notify=say)) as journal:
        return run(partial(_replay, journal.parking, sinks, jobs))


def _webhooks(settings: Settings, names: Sequence[str]) -> dict[str, WebhookSink]:
    """The durable webhooks that *settings* have, or those of them with these *names*."""
    found = {
        one.attached.name: cast(WebhookSink, build_sink(one).sink)
        for one in settings.sinks
        if isinstance(one.settings, WebhookSettings) and one.attached.durable and one.attached.name is not None
    }
    if not found:
        raise UsageError("no webhook is configured with a name and durable = true, so none has dead letters")
    for name in names:
        if name not in found:
            raise UsageError(f"no durable webhook is called {name!r}; {unknown(name, found)}")
    return {name: sink for name, sink in found.items() if not names or name in names}


def _list(path: Path, sinks: Iterable[str], jobs: Sequence[str]) -> int:
    count = 0
    for name, letter in stored_dead_letters(path, list(sinks), notify=say):
        if not jobs or letter.record.job in jobs:
            count += 1
            click.echo(f"{name}: {_described(letter.record)} (attempts: {letter.attempts:,})")
    say(_counted(count))
    return 0


async def _replay(parking: Parking, sinks: dict[str, WebhookSink], jobs: Sequence[str], stop: asyncio.Event) -> int:
    left = 0
    for name, sink in sinks.items():
        letters = _letters(parking, name, jobs)
        say(f"{name}: {_counted(len(letters))}")
        async with sink:
            left += await _deliver(parking, name, sink, letters, stop)
        if stop.is_set():
            return INTERRUPTED
    return 1 if left else 0


def _letters(parking: Parking, name: str, jobs: Sequence[str]) -> list[Parked]:
    """All dead letters of the sink, in order: they fit into memory, since the journal bounds their size."""
    found: list[Parked] = []
    after = 0
    while page := parking.dead(name, after):
        after = page[-1].record.position.offset
        found += [letter for letter in page if not jobs or letter.record.job in jobs]
    return found


async def _deliver(
    parking: Parking, name: str, sink: WebhookSink, letters: Sequence[Parked], stop: asyncio.Event
) -> int:
    """Deliver *letters*, one attempt each, and remove those that are delivered; return how many are left.

    After a failure the later ones of the same job would arrive before it, and those of others would fail as well, so
    that is the end. A receiver that refuses one for good may accept the others.
    """
    left = len(letters)
    for letter in letters:
        record = letter.record
        try:
            if not await _attempted(sink, record, stop):
                break
        except Undeliverable as error:
            click.echo(f"{name}: {_described(record)}: refused for good: {error}")
            continue
        except (RetryLater, EndpointGone) as error:
            click.echo(f"{name}: {_described(record)}: failed: {error}")
            break
        click.echo(f"{name}: {_described(record)}: delivered")
        # Revived, it is the head of its job; so it can be dropped as one that was delivered.
        parking.revive(name, record.position.offset, due=0.0)
        parking.unpark(name, record.position.offset, due=0.0)
        left -= 1
    if left:
        say(f"{name}: {_counted(left)} left; try again once it is put right")
    return left


async def _attempted(sink: WebhookSink, record: Record, stop: asyncio.Event) -> bool:
    """Deliver *record*; return false if that was broken off, or not begun, for *stop*. Raises what the sink raises."""
    attempt, stopped = asyncio.ensure_future(sink.work(record)), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((attempt, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not attempt.done():
            return False
        attempt.result()
        return True
    finally:
        attempt.cancel()
        stopped.cancel()


def _described(record: Record) -> str:
    return f"{record.job} seq {record.seq} {record.event.type}: {record.event.text}"


def _counted(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count:,} dead letters"
