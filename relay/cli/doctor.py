"""`relay doctor`: whether what is configured can work, and what an upstream's answer is taken for."""

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import click

from relay.cli import INTERRUPTED
from relay.cli.build import build_pace, build_upstream
from relay.cli.descriptors import problem_with
from relay.cli.options import config_option, settings_from
from relay.cli.serving import run
from relay.cli.sheet import Sheet, counted, cut, named
from relay.clock import SystemClock
from relay.errors import ConfigError, JournalError, RelayError, UpstreamError
from relay.events import Exchange
from relay.observations import Answer, Observation
from relay.secret import NO_SECRET, Secret
from relay.settings import UPSTREAM_KINDS, JournalSettings, Settings, UpstreamSettings
from relay.tables import nearest
from relay.upstreams import Declared, FetchesResults, Submits, Upstream
from relay.upstreams.base import is_item_type
from relay.upstreams.declared.readings import Finding
from relay.upstreams.masking import Masker

__all__ = ["doctor"]

CONNECTING: Final = 10.0
"""Seconds that a connection may take."""


def read_input(text: str) -> dict[str, Any]:
    """The input of a submission, as a type of an option."""
    try:
        input = json.loads(text)
    except ValueError:
        input = None
    if not isinstance(input, dict):
        raise click.BadParameter('this is no JSON object, such as \'{"prompt": "a cat"}\'')
    return cast("dict[str, Any]", input)


@click.command
@config_option
@click.option("--upstream", "name", metavar="NAME", help="Examine this upstream alone.")
@click.option("--task", metavar="ID", help="Ask the upstream about this task, once.")
@click.option("--submit", "input", type=read_input, metavar="JSON", help="Hand this in, once: it may cost money.")
def doctor(config: Path | None, name: str | None, task: str | None, input: dict[str, Any] | None) -> int:
    """Examine the configuration, and try an upstream once.

    With --task, the upstream is asked, and what each expression finds is shown; secrets are not. Nothing is submitted
    without --submit. Status 0 when all is well, 1 when something is amiss.
    """
    if task is not None and input is not None:
        raise click.UsageError("--task asks about a task that exists, and --submit makes one; give one of them")
    settings = settings_from(config, dict(os.environ))
    chosen = _chosen(settings, name, alone=task is not None or input is not None)
    return run(partial(_examine, settings, chosen, task, input))


def _chosen(settings: Settings, name: str | None, *, alone: bool) -> tuple[UpstreamSettings, ...]:
    configured = {upstream.name: upstream for upstream in settings.upstreams}
    if name is None and alone and len(configured) != 1:
        raise click.UsageError("say which upstream with --upstream")
    if name is None:
        return settings.upstreams
    if name not in configured:
        hint = nearest(name, configured) if configured else "add [[upstreams]] to relay.toml"
        raise ConfigError(f"no upstream is called {name!r}; {hint}")
    return (configured[name],)


async def _examine(
    settings: Settings,
    chosen: tuple[UpstreamSettings, ...],
    task: str | None,
    input: Mapping[str, Any] | None,
    stop: asyncio.Event,
) -> int:
    sheet = Sheet()
    adapters = [(one, build_upstream(one, SystemClock()), build_pace(one)) for one in chosen]
    upstreams, sinks = counted(len(settings.upstreams), "upstream"), counted(len(settings.sinks) or 1, "sink")
    sheet.row("configuration", f"{upstreams}, {sinks}")
    _examine_journal(sheet, settings.journal)
    _examine_descriptors(sheet, settings)
    for one, upstream, _ in adapters:
        working = asyncio.create_task(_examine_upstream(sheet, one, upstream, task, input))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        if stop.is_set():
            return INTERRUPTED
    return sheet.end()


def _examine_journal(sheet: Sheet, journal: JournalSettings) -> None:
    if journal.scheme != "sqlite":
        sheet.row("journal", "in memory; a relay that ends forgets its jobs")
        return
    path = Path(journal.path)
    if not path.exists():
        if os.access(path.parent, os.W_OK):
            sheet.row("journal", f"{path} is not there yet, and will be made")
        else:
            sheet.amiss("journal", f"{path} cannot be made: {path.parent} is no folder that can be written to")
        return
    from relay.journal.sqlite import stored_records

    try:
        with closing(stored_records(path, None, notify=lambda _: None)) as records:
            next(records, None)
    except JournalError as error:
        sheet.amiss("journal", str(error))
    else:
        sheet.row("journal", f"{path} can be read")


def _examine_descriptors(sheet: Sheet, settings: Settings) -> None:
    streams = settings.server.max_streams
    if (problem := problem_with(streams, len(settings.upstreams))) is not None:
        sheet.amiss("descriptors", problem)
    else:
        sheet.row("descriptors", f"enough for {counted(streams, 'stream')} (max_streams)")


async def _examine_upstream(
    sheet: Sheet, settings: UpstreamSettings, upstream: Upstream, task: str | None, input: Mapping[str, Any] | None
) -> None:
    given = [getattr(settings, key) for key in settings.__struct_fields__]
    secrets = [one for one in given if isinstance(one, Secret) and one is not NO_SECRET]
    sheet.mask = Masker([secret.reveal() for secret in secrets])
    kind = next(kind for kind, known in UPSTREAM_KINDS.items() if known is type(settings))
    sheet.row("upstream", f"{settings.name}, of kind {kind}, asked {_how(upstream)}")
    sheet.row("token", "is there" if secrets else "none is sent")
    if not await _reaches(sheet, settings.base_url):
        return
    upstream.on_exchange = partial(_show_exchange, sheet)
    if isinstance(upstream, Declared):
        upstream.on_findings = partial(_show_findings, sheet)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(upstream)
            if input is not None:
                task = await _submitted(sheet, upstream, input)
            if task is not None or not is_item_type(upstream):
                await _ask(sheet, upstream, task)
            else:
                sheet.row("not asked", "name a task with --task to see what is found")
        except UpstreamError as error:
            sheet.amiss(error.kind, error.message)
        except RelayError as error:
            sheet.amiss("request", str(error))


def _how(upstream: Upstream) -> str:
    return "about each task by itself" if is_item_type(upstream) else "about all tasks at once"


async def _reaches(sheet: Sheet, base_url: str) -> bool:
    """Whether somebody answers at the address: a connection, and no request."""
    parts = urlsplit(base_url)
    secure = parts.scheme == "https"
    try:
        async with asyncio.timeout(CONNECTING):
            _, writer = await asyncio.open_connection(
                parts.hostname,
                parts.port or (443 if secure else 80),
                ssl=ssl.create_default_context() if secure else None,
            )
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    except (OSError, ValueError) as error:
        sheet.amiss("address", f"no connection to {base_url}: {_why(error)}; check base_url")
        return False
    sheet.row("address", f"{base_url} can be reached")
    return True


def _why(error: Exception) -> str:
    match error:
        case ConnectionRefusedError():
            return "nobody listens there"
        case TimeoutError():
            return f"no answer within {CONNECTING:g} s"
        case socket.gaierror():
            return "the name cannot be resolved"
        case ssl.SSLError():
            return "it is not secure"
        case _:
            return "it broke off"


async def _submitted(sheet: Sheet, upstream: Upstream, input: Mapping[str, Any]) -> str | None:
    if not isinstance(upstream, Submits):
        sheet.amiss("submit", "this upstream takes no submissions")
        return None
    task = await upstream.submit(input)
    sheet.row("task", task)
    return task


async def _ask(sheet: Sheet, upstream: Upstream, task: str | None) -> None:
    """One poll, and a look for the result where the task has succeeded and keeps it elsewhere."""
    asked = [] if task is None else [task]
    answer = await upstream.observe(asked)
    if task is None:
        sheet.row("listed", f"{counted(answer.listed, 'task')}; name one with --task to see what is found")
        return
    seen = _seen(sheet, answer, task)
    gone = seen is None and not is_item_type(upstream)
    succeeded = seen is not None and seen.status == "succeeded" and seen.result is None and seen.failure is None
    if isinstance(upstream, FetchesResults) and (gone or succeeded):
        _seen(sheet, await upstream.fetch_result(asked), task)
    elif gone:
        sheet.amiss("listed", f"{counted(answer.listed, 'task')}, and this is not among them")


def _seen(sheet: Sheet, answer: Answer, task: str) -> Observation | None:
    seen = answer.tasks.get(task)
    if isinstance(seen, UpstreamError):
        sheet.amiss(seen.kind, seen.message)
        return None
    if seen is None:
        sheet.row("means", "nothing is said about this task")
        return None
    sheet.row("means", _meaning(seen))
    if seen.status == "unknown":
        sheet.amiss("state", f"the word {seen.raw_status!r} is not known here; polling goes on, without a state")
    if seen.result is not None and not seen.result.urls:
        sheet.amiss("result", "the task has succeeded, and no file is found")
    return seen


def _meaning(seen: Observation) -> str:
    said: list[str] = [seen.status]
    if seen.percent is not None:
        said.append(f"{seen.percent}%")
    if seen.raw_percent is not None:
        said.append(f"figure {cut(seen.raw_percent)} not used as it is")
    if seen.queue_position is not None:
        said.append(f"position {seen.queue_position} in the queue")
    if seen.eta is not None:
        said.append(f"{seen.eta:g} s left")
    if seen.log:
        said.append(f"{counted(len(seen.log), 'line')} of log")
    if seen.result is not None:
        said += [counted(len(seen.result.urls), "file"), *seen.result.urls[:2]]
    if seen.failure is not None:
        said.append(f"{seen.failure.kind}: {cut(seen.failure.message)}")
    return ", ".join(said)


def _show_exchange(sheet: Sheet, exchange: Exchange) -> None:
    answered = "no answer" if exchange.status is None else f"{exchange.status} in {exchange.seconds:.2f} s"
    sheet.row("request", f"{exchange.method} {exchange.url}: {answered}")


def _show_findings(sheet: Sheet, request: str, _task: str | None, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        label = f"{request}.{finding.key}"
        said = f"{cut(finding.expression)} -> "
        if finding.problem is not None:
            sheet.amiss(label, f"{said}{finding.problem}")
        else:
            sheet.row(label, f"{said}{named(finding.value)}")
