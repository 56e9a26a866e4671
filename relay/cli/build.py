"""The composition root: the one place where settings become upstreams, sinks and a journal."""

import inspect
import logging
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from relay import ConfigError, Journal, MemoryJournal, Pace, Record, Relay, SinkOptions, UsageError
from relay.attachments.adapt import as_sink
from relay.attachments.options import check_options, unique_name
from relay.cli.options import LogFormat
from relay.cli.patience import Patience
from relay.cli.redaction import redactor_of, secrets_in
from relay.clock import Clock, SystemClock
from relay.cluster.options import ClusterOptions
from relay.config.settings import ConfiguredSink, CustomSinkSettings, Settings
from relay.config.tables import read_table
from relay.events import Level, Status
from relay.journal.shared import SharedJournal
from relay.pace import MIN_DELAY
from relay.secret import NO_SECRET, Secret
from relay.upstreams import Upstream
from relay.upstreams.registry import adapter
from relay.upstreams.settings import UpstreamSettings, WebhookUpstreamSettings, default_of
from relay.webhooks import WebhookKeys, Webhooks
from relay.wire.redactor import Redactor
from sinks.kinds import SINK_KINDS, SinkSettings, make_sink

__all__ = [
    "build_pace",
    "build_relay",
    "build_sink",
    "build_sinks",
    "build_upstream",
    "build_webhooks",
    "import_from_here",
    "imported",
]


def import_from_here() -> None:
    """Let sinks be imported from the current directory.

    It is looked at behind everything else, so that no file of it stands in for a module that is installed.
    """
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def build_relay(
    settings: Settings,
    log_format: LogFormat | None = None,
    level: Level | None = None,
    *,
    patience: Patience | None = None,
) -> Relay:
    """The relay that *settings* describe; it has a console where they name no sink.

    *log_format* and *level* are the console's, in the place of those in its settings. With *patience*, entering the
    relay waits for the server of a shared journal.

    Raises ConfigError where a sink cannot be imported or made, or an upstream is not what it can be, and JournalError
    where the journal cannot be had. A journal of this relay alone is open: close it, if the relay is not entered.
    """
    clock = SystemClock()
    webhooks = build_webhooks(settings, clock)
    return Relay(
        [build_upstream(upstream, clock) for upstream in settings.upstreams],
        paces={upstream.name: build_pace(upstream) for upstream in settings.upstreams},
        sinks=build_sinks(settings, log_format, level),
        webhooks=webhooks,
        journal=_build_journal(settings, patience),
        cluster=_build_cluster(settings),
        clock=clock,
        max_running=settings.server.max_jobs,
        redactor=redactor_of(settings),
    )


def build_sinks(
    settings: Settings, log_format: LogFormat | None = None, level: Level | None = None
) -> list[SinkOptions]:
    """The sinks that *settings* name, or a console where they name none. Raises ConfigError.

    Without a name of its own, a sink of the box is called by its kind: `console`, `console-2`.
    """
    configured = settings.sinks or (ConfiguredSink(settings=SINK_KINDS["console"]()),)
    used = [sink.attached.name for sink in configured if sink.attached.name is not None]
    if twice := [name for name in used if used.count(name) > 1]:
        raise ConfigError(f"two [[sinks]] are called {twice[0]!r}; give each a name of its own")
    built: list[SinkOptions] = []
    for sink in configured:
        options = build_sink(sink, log_format, level)
        if options.name is None and not isinstance(sink.settings, CustomSinkSettings):
            options = replace(options, name=unique_name(_called(sink), used))
        used += [] if options.name is None else [options.name]
        built.append(options)
    return built


def build_webhooks(settings: Settings, clock: Clock) -> Webhooks | None:
    """The addresses that upstreams call; None if no upstream does. Raises ConfigError."""
    hooks = {
        one.name: one.webhook
        for one in settings.upstreams
        if isinstance(one, WebhookUpstreamSettings) and one.webhook is not None
    }
    if not hooks:
        return None
    if settings.server.public_url is None:
        raise ConfigError(f"upstream {next(iter(hooks))} webhook needs an address to call: say public_url in [server]")
    keys = {
        name: WebhookKeys(hook.secret.reveal, None if hook.signing_secret is NO_SECRET else hook.signing_secret.reveal)
        for name, hook in hooks.items()
    }
    try:
        return Webhooks(settings.server.public_url, keys, clock=clock)
    except UsageError as error:
        raise ConfigError(str(error)) from None


def build_upstream(settings: UpstreamSettings, clock: Clock) -> Upstream:
    """The adapter of one upstream. Raises ConfigError."""
    try:
        return adapter(settings.kind).from_settings(settings, clock)
    except UsageError as error:
        raise ConfigError(f"upstream {settings.name}: {error}") from None


def build_pace(settings: UpstreamSettings) -> Pace:
    """The pace of one upstream. Raises ConfigError if an adaptive pace has bounds that hold nothing."""
    pace = settings.pace
    limits = {"queued": pace.deadlines.queued, "running": pace.deadlines.running, "unknown": pace.deadlines.unknown}
    try:
        return Pace(
            interval=settings.interval,
            deadline=settings.deadline,
            deadlines={cast(Status, status): limit for status, limit in limits.items() if limit is not None},
            jitter=pace.jitter,
            adaptive=pace.adaptive,
            fastest=pace.fastest,
            slowest=pace.slowest,
            requests_per_second=pace.requests_per_second,
            concurrency=getattr(settings, "concurrency", 1),
            floor=settings.interval if settings.interval > default_of(type(settings), "interval") else MIN_DELAY,
        )
    except UsageError as error:
        raise ConfigError(f"upstream {settings.name} pace: {error}") from None


def build_sink(
    configured: ConfiguredSink, log_format: LogFormat | None = None, level: Level | None = None
) -> SinkOptions:
    """One sink. For a console, *log_format* and *level* take precedence over those of its settings.

    Raises ConfigError.
    """
    settings, attached = _overridden(configured.settings, log_format, level), configured.attached
    try:
        options = SinkOptions(
            sink=_made(settings),
            level=cast(SinkSettings, settings).level,
            types=attached.types or None,
            where=_one_of(attached.jobs) if attached.jobs else None,
            since="start" if attached.since == "start" else None,
            name=attached.name,
            durable=attached.durable,
        )
        check_options(options)
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(f"sink {_called(configured)}: {error}") from None
    return options


def _overridden(settings: Struct, log_format: LogFormat | None, level: Level | None) -> Struct:
    if not isinstance(settings, SINK_KINDS["console"]):
        return settings
    said = {"format": log_format, "level": level}
    overridden: Struct = replace(settings, **{key: value for key, value in said.items() if value is not None})
    return overridden


def _made(settings: Struct) -> object:
    if isinstance(settings, CustomSinkSettings):
        return _custom_sink(settings.target, settings.level, settings.options)
    return make_sink(cast(SinkSettings, settings))


def _one_of(jobs: Collection[str]) -> Callable[[Record], bool]:
    """Whether a record is of one of *jobs*, which the relay need not know yet."""
    chosen = frozenset(jobs)
    return lambda record: record.job in chosen


def _called(configured: ConfiguredSink) -> str:
    """What messages call a sink that cannot be made."""
    settings = configured.settings
    kind = settings.target if isinstance(settings, CustomSinkSettings) else cast(SinkSettings, settings).kind
    return configured.attached.name or kind


def _build_journal(all_settings: Settings, patience: Patience | None) -> Journal | SharedJournal:
    settings = all_settings.journal
    if settings.scheme == "memory":
        return MemoryJournal(settings.keep)
    if settings.shared:
        from relay.cli.shared_journal import shared_journal

        return shared_journal(all_settings, patience)
    try:
        from relay import SqliteJournal
    except ImportError:
        raise ConfigError('this Python was built without sqlite3; write url = "memory:" under [journal]') from None
    return SqliteJournal(settings.path, settings.keep)


def _build_cluster(settings: Settings) -> ClusterOptions | None:
    cluster = settings.cluster
    if not settings.journal.shared:
        return None
    return ClusterOptions(lease=cluster.lease, shards=cluster.shards)


def _custom_sink(target: str, level: Level, options: Mapping[str, Any]) -> object:
    """The callable that *target* names; a class is made into one with *options*."""
    made = imported(target)
    if inspect.isclass(made):
        try:
            made = _with_keys(made, target, level, options)
        except ConfigError:
            raise
        except Exception as error:
            reason = Redactor(secret.reveal() for secret in secrets_in(options))(_described(error))
            raise ConfigError(f"sink {target} cannot be made with {_keys(options)}: {reason}") from None
    elif options:
        raise ConfigError(f"sink {target} is no class, so it takes no keys; remove {_keys(options)}")
    _check_callable(target, made)
    return made


def _with_keys(made: Any, target: str, level: Level, options: Mapping[str, Any]) -> object:
    """An object of the class: from its `settings`, if it declares them as a sink of the box does, or from the keys."""
    kind = getattr(made, "settings", None)
    if not (inspect.isclass(kind) and issubclass(kind, Struct) and callable(getattr(made, "from_settings", None))):
        return made(**_revealed(options))
    keys = {**options, "level": level} if "level" in kind.__struct_fields__ else dict(options)
    return made.from_settings(read_table(kind, keys, f"sink {target}", _no_reference))


def _no_reference(_: str) -> Secret:
    raise ConfigError('is a secret; keep it out of the file, and write "env:NAME" or "file:PATH" here')


def _revealed(value: object) -> Any:
    """*value*, with what is secret in it as the sink is to have it."""
    match value:
        case Secret():
            return value.reveal()
        case dict():
            return {key: _revealed(inner) for key, inner in cast("dict[str, Any]", value).items()}
        case list():
            return [_revealed(inner) for inner in cast("Sequence[Any]", value)]
        case _:
            return value


def imported(target: str) -> Any:
    """The object that *target* names, as `package.module:Name`. Raises ConfigError."""
    module_name, _, path = target.partition(":")
    try:
        found = import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"sink {target} cannot be imported: {_described(error)}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            near = get_close_matches(name, dir(found), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"sink {target}: {module_name} has no {name!r}{hint}")
        found = getattr(found, name)
    return found


def _check_callable(target: str, sink: object) -> None:
    if isinstance(sink, logging.Handler):
        return
    if not callable(sink):
        raise ConfigError(f"sink {target} cannot be called; a sink is a callable of one record")
    try:
        as_sink(sink)
    except UsageError as error:
        raise ConfigError(f"sink {target}: {error}") from None
    try:
        inspect.signature(sink).bind(None)
    except TypeError as error:
        raise ConfigError(f"sink {target} cannot be called with a record alone: {error}") from error
    except ValueError:
        pass  # some built-in functions do not say what they take


def _keys(options: Mapping[str, Any]) -> str:
    return ", ".join(options) or "no keys of its table"


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
