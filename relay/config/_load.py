"""`relay.toml` and the environment as settings. Nothing is built here: see `relay.cli.build`."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from msgspec import Struct
from msgspec.structs import replace

from relay.config.access import read_access
from relay.config.access_settings import AccessSettings
from relay.config.environment import injected, overridden
from relay.config.journal import check_shared, read_cluster, read_journal
from relay.config.server import check_host, read_server
from relay.config.settings import (
    AttachSettings,
    ClusterSettings,
    ConfiguredSink,
    CustomSinkSettings,
    GatewayModel,
    GatewaySettings,
    JournalSettings,
    LevelSettings,
    RedactSettings,
    ServerSettings,
    Settings,
)
from relay.config.tables import FromEnvironment, ReadSecret, read_table
from relay.errors import ConfigError
from relay.hints import nearest, unknown
from relay.secret import Secret, is_reference, problem_of_token, read_secret, read_text
from relay.upstreams.registry import UPSTREAM_KINDS
from relay.upstreams.settings import UpstreamSettings

__all__ = ["load", "load_access", "passed_over"]

CONFIG_LIMIT: Final = 1024 * 1024
"""The most bytes a configuration has."""

_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")

_FROM_ENVIRONMENT: Final[Mapping[str, type[Struct]]] = {
    "server": ServerSettings,
    "journal": JournalSettings,
    "cluster": ClusterSettings,
    "gateway": GatewaySettings,
}
"""The sections whose keys the environment may say."""


class _SinkKinds(NamedTuple):
    settings: Mapping[str, type[Struct]]
    target: Callable[[str], str | None]


def load(
    path: Path | None,
    environ: Mapping[str, str],
    sink_kinds: Mapping[str, type[Struct]] = MappingProxyType({}),
    sink_target: Callable[[str], str | None] = lambda _: None,
) -> Settings:
    """The settings in the file at *path*, or the defaults without one; `RELAY_<SECTION>_<KEY>` of *environ* wins.

    *sink_kinds* are the settings of each kind of sink; without it, only sinks of the operator's own are known.
    *sink_target* is called with any other kind, and returns the `package.module:Name` that it stands for, if any.
    A variable that is empty, or that an orchestrator has put there for a service (see `passed_over`), says nothing.
    Raises ConfigError, in one line that names the file, the key and what to write instead.
    """
    document = _document(path) if path is not None else {}
    secrets = _Secrets(environ, path.parent if path is not None else Path())
    kinds = _SinkKinds(sink_kinds, sink_target)
    return _settings(document, f"{path}: " if path is not None else "", environ, secrets, kinds)


def load_access(path: Path, environ: Mapping[str, str]) -> AccessSettings | None:
    """[access] alone of the file at *path*, None if it has none: no other table is read. Raises ConfigError."""
    return _access(_document(path), f"{path}: ", _Secrets(environ, path.parent))


def _access(document: Mapping[str, object], at: str, secret: "_Secrets") -> AccessSettings | None:
    if "access" not in document:
        return None
    return read_access(document["access"], at, secret, secret.text, secret.folder)


class _Secrets:
    """Reads what references name: `env:NAME` in *environ*, `file:PATH` relative to *folder*."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self.folder: Path = folder

    def __call__(self, reference: str) -> Secret:
        return read_secret(reference, self._environ, self.folder)

    def text(self, reference: str) -> Secret:
        """As a call, for text of any shape, such as a key of several lines."""
        return read_text(reference, self._environ, self.folder)

    def within(self, value: object, where: str) -> object:
        """*value* with the secret in the place of each text, at any depth, that is a reference to one.

        Raises ConfigError, which names the key behind *where*.
        """
        match value:
            case dict():
                table = cast("dict[str, object]", value)
                return {key: self.within(inner, f"{where}.{key}") for key, inner in table.items()}
            case list():
                listed = cast("list[object]", value)
                return [self.within(inner, f"{where}[{place}]") for place, inner in enumerate(listed)]
            case str() if is_reference(value):
                try:
                    return read_text(value, self._environ, self.folder)
                except ConfigError as error:
                    raise ConfigError(f"{where} {error}") from None
            case _:
                return value


def passed_over(environ: Mapping[str, str]) -> list[str]:
    """The variables of *environ* that `load` passes over, since an orchestrator has put them there for a service."""
    return sorted(name for section in _FROM_ENVIRONMENT for name in injected(environ, section))


def _document(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; name the right file with --config") from None
    if len(content) > CONFIG_LIMIT:
        raise ConfigError(f"{path} is over the limit of {CONFIG_LIMIT:,} bytes")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} is not UTF-8 text, in line {line}; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} has numbers too long or tables too deep to be read") from None


def _settings(
    document: Mapping[str, object],
    at: str,
    environ: Mapping[str, str],
    secret: _Secrets,
    sink_kinds: "_SinkKinds",
) -> Settings:
    """*document* as settings; *at* is the file, as messages begin with it."""
    for key in document:
        if key not in Settings.__struct_fields__:
            raise ConfigError(f"{at}unknown table {key!r}; {unknown(key, Settings.__struct_fields__)}")
    tables = {
        section: overridden(document.get(section, {}), section, kind, environ)
        for section, kind in _FROM_ENVIRONMENT.items()
    }
    server = read_server(tables["server"], f"{at}[server]", secret, secret.folder)
    journal = read_journal(tables["journal"], f"{at}[journal]", secret)
    clustered = "cluster" in document or bool(tables["cluster"])
    cluster = read_cluster(tables["cluster"] if clustered else None, f"{at}[cluster]", secret, journal)
    upstreams = tuple(_upstream(table, where, secret) for where, table in _tables(document, "upstreams", at))
    _check_names(upstreams, at)
    gateway = _gateway(tables["gateway"], f"{at}[gateway]", secret, upstreams)
    redact = _redact(document.get("redact", {}), f"{at}[redact]", secret)
    access = _access(document, at, secret)
    check_host(server.host, access=access is not None)
    sinks = tuple(_sink(table, where, secret, sink_kinds) for where, table in _tables(document, "sinks", at))
    check_shared(at, journal, access, durable=any(sink.attached.durable for sink in sinks))
    return Settings(
        server=server,
        journal=journal,
        cluster=cluster,
        gateway=gateway,
        redact=redact,
        access=access,
        upstreams=upstreams,
        sinks=sinks,
    )


def _tables(document: Mapping[str, object], section: str, at: str) -> list[tuple[str, dict[str, object]]]:
    """Each table of a list of tables, with what messages call it."""
    tables = document.get(section, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in cast("list[object]", tables)):
        raise ConfigError(f"{at}{section} is a list of tables; write [[{section}]] above each")
    listed = cast("list[dict[str, object]]", tables)
    numbers = [f" {number}" if len(listed) > 1 else "" for number in range(1, len(listed) + 1)]
    return [(f"{at}[[{section}]]{number}", table) for number, table in zip(numbers, listed, strict=True)]


def _upstream(table: dict[str, object], where: str, secret: ReadSecret) -> UpstreamSettings:
    kind, rest = _kind(table, where, UPSTREAM_KINDS)
    if kind not in UPSTREAM_KINDS:
        raise ConfigError(f"{where} has an unknown kind {kind!r}; {nearest(kind, UPSTREAM_KINDS)}")
    table_of: type[Any] = UPSTREAM_KINDS[kind]
    settings: UpstreamSettings = read_table(table_of, {"name": kind, **rest}, where, secret)
    if (problem := problem_of_token(settings.token.reveal())) is not None:
        raise ConfigError(f"{where} token comes from {settings.token.source}, which {problem}")
    return settings


def _sink(table: dict[str, object], where: str, secret: _Secrets, sink_kinds: "_SinkKinds") -> ConfiguredSink:
    kind, rest = _kind(table, where, sink_kinds.settings)
    common = {key: rest.pop(key) for key in AttachSettings.__struct_fields__ if key in rest}
    attached = read_table(AttachSettings, common, where, secret)
    return ConfiguredSink(settings=_sink_of_kind(kind, rest, where, secret, sink_kinds), attached=attached)


def _sink_of_kind(kind: str, rest: dict[str, object], where: str, secret: _Secrets, sink_kinds: "_SinkKinds") -> Struct:
    if kind in sink_kinds.settings:
        return read_table(sink_kinds.settings[kind], rest, where, secret)
    target = kind if ":" in kind else sink_kinds.target(kind)
    if target is None:
        own = "a sink of your own is written package.module:Name"
        raise ConfigError(f"{where} has an unknown kind {kind!r}; {nearest(kind, sink_kinds.settings)}; {own}")
    level = read_table(LevelSettings, {"level": rest.pop("level", "debug")}, where, secret).level
    options = {key: secret.within(value, f"{where} {key}") for key, value in rest.items()}
    return CustomSinkSettings(target=target, level=level, options=options)


def _redact(table: object, where: str, secret: ReadSecret) -> RedactSettings:
    settings = read_table(RedactSettings, table, where, secret)
    for number, pattern in enumerate(settings.patterns, 1):
        try:
            matches_all = re.compile(pattern).search("") is not None
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(f"{where} patterns: number {number} is no regular expression ({error})") from None
        if matches_all:
            raise ConfigError(f"{where} patterns: number {number} matches an empty text, so it would mask everything")
    return settings


def _gateway(table: object, where: str, secret: ReadSecret, upstreams: tuple[UpstreamSettings, ...]) -> GatewaySettings:
    """[gateway], whose `models` are a table of tables."""
    if not isinstance(table, dict):
        return read_table(GatewaySettings, table, where, secret)
    rest = dict(cast("dict[str, object]", table))
    named = rest.pop("models", {})
    if not isinstance(named, dict):
        named_by = named.variable if isinstance(named, FromEnvironment) else f"{where} models"
        raise ConfigError(f'{named_by} must be a table for each model: write [gateway.models."sora-video"] in the file')
    settings = read_table(GatewaySettings, rest, where, secret)
    known = [upstream.name for upstream in upstreams]
    models: dict[str, GatewayModel] = {}
    for name, model in cast("dict[str, object]", named).items():
        models[name] = _model(name, model, f"{where.removesuffix(']')}.models.{json.dumps(name)}]", secret, known)
    return replace(settings, models=models)


def _model(name: str, table: object, where: str, secret: ReadSecret, upstreams: list[str]) -> GatewayModel:
    """One model, whose upstream is one of *upstreams*."""
    if not _MODEL_NAME.fullmatch(name):
        raise ConfigError(
            f"{where} must be a name of up to 128 letters, digits, '.', '_', ':', '/', '@' and '-' that begins with a"
            " letter or a digit"
        )
    model = read_table(GatewayModel, table, where, secret)
    if model.upstream not in upstreams:
        hint = nearest(model.upstream, upstreams) if upstreams else "add [[upstreams]]"
        raise ConfigError(f"{where} has an unknown upstream {model.upstream!r}; {hint}")
    return model


def _kind(table: dict[str, object], where: str, known: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    rest = dict(table)
    kind = rest.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{where} needs the key 'kind', as text; known are {', '.join(known)}")
    return kind, rest


def _check_names(upstreams: tuple[UpstreamSettings, ...], at: str) -> None:
    names = [upstream.name for upstream in upstreams]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{at}two [[upstreams]] are called {name!r}; give each a name of its own")
