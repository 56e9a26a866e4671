"""`relay doctor`: whether the configuration can work, and how an upstream's answer is read."""

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import click

from relay import ConfigError, Exchange, RelayError, UpstreamError
from relay.cli import INTERRUPTED
from relay.cli.access_checks import examine_access
from relay.cli.build import build_pace, build_upstream, import_from_here
from relay.cli.journal_checks import examine_shared_journal
from relay.cli.options import config_option, settings_from
from relay.cli.readiness import examine
from relay.cli.redaction import redactor_of, secrets_in
from relay.cli.report import Report, counted, cut, named
from relay.cli.running import run
from relay.clock import SystemClock
from relay.config.settings import Settings
from relay.hints import nearest
from relay.jobs.observations import Answer, Observation
from relay.text import brief, in_passing
from relay.upstreams import Declared, FetchesResults, Submits, Upstream
from relay.upstreams.base import polls_each_task
from relay.upstreams.declared.readings import Finding
from relay.upstreams.settings import UpstreamSettings

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
@click.option("--task", metavar="ID", help="Poll the upstream for this task, once.")
@click.option("--submit", "input", type=read_input, metavar="JSON", help="Submit this, once: it may cost money.")
def doctor(config: Path | None, name: str | None, task: str | None, input: dict[str, Any] | None) -> int:
    """Examine the configuration, and try an upstream once.

    With --task, the upstream is polled, and the result of each expression is shown; secrets are not. Nothing is
    submitted without --submit. Status 0 when all is well, 1 when a problem is found.
    """
    if task is not None and input is not None:
        raise click.UsageError("--task asks about a task that exists, and --submit makes one; give one of them")
    notices: list[str] = []
    settings = settings_from(config, os.environ, notify=notices.append)
    import_from_here()
    chosen = _chosen(settings, name, alone=task is not None or input is not None)
    return run(partial(_examine, settings, chosen, task, input, notices))


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
    notices: Sequence[str],
    stop: asyncio.Event,
) -> int:
    report = Report(redactor_of(settings))
    adapters = [(one, build_upstream(one, SystemClock()), build_pace(one)) for one in chosen]
    upstreams, sinks = counted(len(settings.upstreams), "upstream"), counted(len(settings.sinks) or 1, "sink")
    report.row("configuration", f"{upstreams}, {sinks}")
    for notice in notices:
        report.row("notice", notice)
    examine(report, settings)
    await examine_shared_journal(report, settings)
    await examine_access(report, settings)
    for one, upstream, _ in adapters:
        working = asyncio.create_task(_examine_upstream(report, one, upstream, task, input))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        if stop.is_set():
            return INTERRUPTED
    return report.end()


async def _examine_upstream(
    report: Report, settings: UpstreamSettings, upstream: Upstream, task: str | None, input: Mapping[str, Any] | None
) -> None:
    secrets = list(secrets_in(settings))
    report.row("upstream", f"{settings.name}, of kind {settings.kind}, polled {_how(upstream)}")
    report.row("token", "is there" if secrets else "none is sent")
    if not await _reaches(report, settings.base_url):
        return
    upstream.on_exchange = partial(_show_exchange, report)
    if isinstance(upstream, Declared):
        upstream.on_findings = partial(_show_findings, report)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(upstream)
            if input is not None:
                task = await _submitted(report, upstream, input)
            if task is not None or not polls_each_task(upstream):
                await _ask(report, upstream, task)
            else:
                report.row("not polled", "name a task with --task to see what is found")
        except UpstreamError as error:
            report.problem(error.kind, error.message)
        except RelayError as error:
            report.problem("request", str(error))


def _how(upstream: Upstream) -> str:
    return "for each task by itself" if polls_each_task(upstream) else "for all tasks at once"


async def _reaches(report: Report, base_url: str) -> bool:
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
        report.problem("address", f"no connection to {base_url}: {_why(error)}; check base_url")
        return False
    report.row("address", f"{base_url} can be reached")
    return True


def _why(error: Exception) -> str:
    match error:
        case ConnectionRefusedError():
            return "nobody listens there"
        case TimeoutError():
            return f"no answer within {in_passing(CONNECTING)}"
        case socket.gaierror():
            return "the name cannot be resolved"
        case ssl.SSLError():
            return "it is not secure"
        case _:
            return "it broke off"


async def _submitted(report: Report, upstream: Upstream, input: Mapping[str, Any]) -> str | None:
    if not isinstance(upstream, Submits):
        report.problem("submit", "this upstream takes no submissions")
        return None
    task = await upstream.submit(input)
    report.row("task", task)
    return task


async def _ask(report: Report, upstream: Upstream, task: str | None) -> None:
    """One poll, and a look for the result where the task has succeeded and keeps it elsewhere."""
    asked = [] if task is None else [task]
    answer = await upstream.observe(asked)
    if task is None:
        report.row("listed", f"{counted(answer.listed, 'task')}; name one with --task to see what is found")
        return
    seen = _seen(report, answer, task)
    gone = seen is None and not polls_each_task(upstream)
    succeeded = seen is not None and seen.status == "succeeded" and seen.result is None and seen.failure is None
    if isinstance(upstream, FetchesResults) and (gone or succeeded):
        _seen(report, await upstream.fetch_result(asked), task)
    elif gone:
        report.problem("listed", f"{counted(answer.listed, 'task')}, and this is not among them")


def _seen(report: Report, answer: Answer, task: str) -> Observation | None:
    seen = answer.tasks.get(task)
    if isinstance(seen, UpstreamError):
        report.problem(seen.kind, seen.message)
        return None
    if seen is None:
        report.row("means", "the answer does not mention this task")
        return None
    report.row("means", _meaning(seen))
    if (problem := _problem_of_figure(seen)) is not None:
        report.problem("progress", problem)
    if seen.status == "unknown":
        report.problem("state", f"the word {seen.raw_status!r} is not known here; polling goes on, without a state")
    empty = seen.result is not None and not seen.result.urls and seen.result.value is None
    if seen.warning is not None:
        report.row("warning", seen.warning)
    if empty and (seen.warning is not None or not (seen.result and seen.result.fileless)):
        report.problem("result", "the task has succeeded, and no file is found")
    return seen


def _problem_of_figure(seen: Observation) -> str | None:
    """Why the figure that was sent is not what is shown; a text such as "42%" is shown as it is meant."""
    if seen.raw_percent is None or seen.source == "parsed":
        return None
    if seen.percent is None:
        return f"{cut(seen.raw_percent)!r} is no figure, so no percentage is shown"
    return f"{cut(seen.raw_percent)} is beyond its scale, and is shown as {seen.percent}%"


def _meaning(seen: Observation) -> str:
    said: list[str] = [seen.status]
    if seen.percent is not None:
        said.append(f"{seen.percent}%")
    if seen.queue_position is not None:
        said.append(f"position {seen.queue_position} in the queue")
    if seen.eta is not None:
        said.append(f"{in_passing(seen.eta)} left")
    if seen.log:
        said.append(f"{counted(len(seen.log), 'line')} of log")
    if seen.result is not None:
        said += [counted(len(seen.result.urls), "file"), *seen.result.urls[:2]]
        said += [] if seen.result.value is None else [f"result {cut(brief(seen.result.value))}"]
    if seen.failure is not None:
        said.append(f"{seen.failure.kind}: {cut(seen.failure.message)}")
    return ", ".join(said)


def _show_exchange(report: Report, exchange: Exchange) -> None:
    answered = "no answer" if exchange.status is None else f"{exchange.status} in {exchange.seconds:.2f} s"
    report.row("request", f"{exchange.method} {exchange.url}: {answered}")


def _show_findings(report: Report, request: str, _task: str | None, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        label = f"{request}.{finding.key}"
        said = f"{cut(finding.expression)} -> "
        if finding.problem is not None:
            report.problem(label, f"{said}{finding.problem}")
        else:
            report.row(label, f"{said}{named(finding.value)}")
