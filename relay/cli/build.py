"""What is configured, built: the one place where settings become upstreams, sinks and a journal."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from types import TracebackType
from typing import Any, Final, cast

from relay import upstreams
from relay.cadence import Pace
from relay.callbacks import CallbackKeys, Callbacks
from relay.clock import Clock, SystemClock
from relay.errors import ConfigError, UsageError
from relay.events import Level, Record, Status, at_least
from relay.journal import Journal, MemoryJournal
from relay.relay import Relay
from relay.secret import NO_SECRET
from relay.settings import (
    CallingSettings,
    ComfyUISettings,
    ConsoleSettings,
    CustomSinkSettings,
    DebugSettings,
    FalSettings,
    HttpSettings,
    JournalSettings,
    KlingSettings,
    LogFormat,
    LumaSettings,
    MiniMaxSettings,
    NewApiSettings,
    OpenAIVideosSettings,
    ReplicateSettings,
    RunwaySettings,
    Settings,
    SinkSettings,
    SoraSettings,
    UpstreamSettings,
    VeoSettings,
)
from relay.subscription import Sink
from relay.upstreams import Upstream
from relay.upstreams.signed import SignedToken
from sinks import ConsoleSink, DebugSink

__all__ = ["ADAPTERS", "adapter", "build_callbacks", "build_pace", "build_relay", "build_sink", "build_upstream"]

ADAPTERS: Final[Mapping[type[UpstreamSettings], str]] = {
    SoraSettings: "Sora",
    OpenAIVideosSettings: "OpenAIVideos",
    NewApiSettings: "NewApi",
    RunwaySettings: "Runway",
    LumaSettings: "Luma",
    ReplicateSettings: "Replicate",
    FalSettings: "Fal",
    VeoSettings: "Veo",
    KlingSettings: "Kling",
    MiniMaxSettings: "MiniMax",
    HttpSettings: "Declared",
    ComfyUISettings: "ComfyUI",
}
"""What of `relay.upstreams` is made of each upstream's settings; a dialect that nobody configured is not loaded."""


def adapter(settings: type[UpstreamSettings]) -> Callable[..., Upstream]:
    """What is made of *settings*: their keys are what it is called with."""
    return cast("Callable[..., Upstream]", getattr(upstreams, ADAPTERS[settings]))


def build_relay(settings: Settings, log_format: LogFormat | None = None) -> Relay:
    """The relay that *settings* describe; it has a console where they name no sink. *log_format* is the console's.

    Raises ConfigError where a sink cannot be imported or made, or an upstream is not what it can be, and JournalError
    where the journal cannot be had. The journal is open: close it, if the relay is not entered.
    """
    clock = SystemClock()
    callbacks = build_callbacks(settings, clock)
    sinks = settings.sinks or (ConsoleSettings(),)
    return Relay(
        [build_upstream(upstream, clock) for upstream in settings.upstreams],
        paces={upstream.name: build_pace(upstream) for upstream in settings.upstreams},
        sinks=[build_sink(sink, log_format) for sink in sinks],
        callbacks=callbacks,
        journal=_build_journal(settings.journal),
        clock=clock,
    )


def build_callbacks(settings: Settings, clock: Clock) -> Callbacks | None:
    """The addresses that upstreams are asked to call; None where none is. Raises ConfigError."""
    hooks = {one.name: one.webhook for one in settings.upstreams if isinstance(one, CallingSettings) and one.webhook}
    if not hooks:
        return None
    if settings.server.public_url is None:
        raise ConfigError(f"upstream {next(iter(hooks))} webhook needs an address to call: say public_url in [server]")
    keys = {
        name: CallbackKeys(hook.secret.reveal, None if hook.signing_secret is NO_SECRET else hook.signing_secret.reveal)
        for name, hook in hooks.items()
    }
    try:
        return Callbacks(settings.server.public_url, keys, clock=clock)
    except UsageError as error:
        raise ConfigError(str(error)) from None


def build_upstream(settings: UpstreamSettings, clock: Clock) -> Upstream:
    """The adapter of one upstream."""
    own = ("base_url", "token", "pace", "access_key", "secret_key", "webhook")
    options = {key: getattr(settings, key) for key in settings.__struct_fields__ if key not in own}
    try:
        return adapter(type(settings))(settings.base_url, _token(settings, clock), clock=clock, **options)
    except UsageError as error:
        raise ConfigError(f"upstream {settings.name}: {error}") from None


def _token(settings: UpstreamSettings, clock: Clock) -> Callable[[], str] | None:
    """What the adapter reads before each request, so that the file a secret comes from can be replaced."""
    if not isinstance(settings, KlingSettings):
        return None if settings.token is NO_SECRET else settings.token.reveal
    given = [secret is not NO_SECRET for secret in (settings.token, settings.access_key, settings.secret_key)]
    if given == [True, False, False]:
        return settings.token.reveal
    if given == [False, True, True]:
        return SignedToken(settings.access_key.reveal, settings.secret_key.reveal, clock=clock)
    raise UsageError("give either token, or access_key and secret_key")


def build_pace(settings: UpstreamSettings) -> Pace:
    """When one upstream may be asked. Raises ConfigError where an adaptive pace has bounds that hold nothing."""
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
            connections=getattr(settings, "concurrency", 1),
        )
    except UsageError as error:
        raise ConfigError(f"upstream {settings.name} pace: {error}") from None


def build_sink(settings: SinkSettings, log_format: LogFormat | None = None) -> Sink:
    """One sink."""
    match settings:
        case ConsoleSettings(level=level, format=format):
            return ConsoleSink(format=log_format or format, level=level)
        case DebugSettings(level=level):
            return _at_level(DebugSink(), level)
        case CustomSinkSettings(target=target, level=level, options=options):
            return _at_level(_custom_sink(target, options), level)


def _build_journal(settings: JournalSettings) -> Journal:
    if settings.scheme == "memory":
        return MemoryJournal(settings.keep)
    try:
        from relay.journal.sqlite import SqliteJournal
    except ImportError:
        raise ConfigError('this Python was built without sqlite3; write url = "memory:" under [journal]') from None
    return SqliteJournal(settings.path, settings.keep)


def _custom_sink(target: str, options: Mapping[str, Any]) -> Sink:
    """The callable that *target* names; a class is made into one with *options*."""
    made = _imported(target)
    if inspect.isclass(made):
        try:
            made = made(**options)
        except Exception as error:
            raise ConfigError(f"sink {target} cannot be made with {_keys(options)}: {_described(error)}") from error
    elif options:
        raise ConfigError(f"sink {target} is no class, so it takes no keys; remove {_keys(options)}")
    _check_callable(target, made)
    return cast(Sink, made)


def _imported(target: str) -> Any:
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
    if not callable(sink):
        raise ConfigError(f"sink {target} cannot be called; a sink is a callable of one record")
    if inspect.iscoroutinefunction(sink) or inspect.iscoroutinefunction(type(sink).__call__):
        raise ConfigError(f"sink {target} is asynchronous; a sink is a plain callable of one record")
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


def _at_level(sink: Sink, level: Level) -> Sink:
    if level == "debug":
        return sink
    managed = hasattr(sink, "__aenter__") and hasattr(sink, "__aexit__")
    return (_ManagedAtLevel if managed else _AtLevel)(sink, level)


class _AtLevel:
    """A sink that hears what matters as much as *level*, and every terminal record: it ends the story."""

    def __init__(self, sink: Sink, level: Level) -> None:
        self.__qualname__ = getattr(sink, "__qualname__", type(sink).__qualname__)
        self.exchange = getattr(sink, "exchange", None)
        self._sink: Any = sink
        self._level: Level = level

    def __call__(self, record: Record) -> None:
        if record.terminal or at_least(record.event.level, self._level):
            self._sink(record)


class _ManagedAtLevel(_AtLevel):
    async def __aenter__(self) -> object:
        return await self._sink.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        return await self._sink.__aexit__(kind, error, trace)
