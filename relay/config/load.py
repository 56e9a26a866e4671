"""`relay.toml` and the environment as settings. Nothing is built here: see `relay.cli.build`."""

import ipaddress
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, cast

import msgspec
from msgspec import Struct

from relay.errors import ConfigError
from relay.secret import read_secret
from relay.settings import (
    SINK_KINDS,
    UPSTREAM_KINDS,
    CustomSinkSettings,
    DebugSettings,
    JournalSettings,
    ServerSettings,
    Settings,
    SinkSettings,
    UpstreamSettings,
)
from relay.tables import FromEnvironment, ReadSecret, nearest, read_table, unknown

__all__ = ["JOURNALS", "check_host", "load"]

CONFIG_LIMIT: Final = 1024 * 1024
"""The most bytes a configuration has."""

JOURNALS: Final = ("memory", "sqlite")
"""The schemes of journal URLs that this version keeps records in."""

_LATER_JOURNALS: Final = ("redis", "rediss")


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings in the file at *path*, or the defaults without one; `RELAY_<SECTION>_<KEY>` of *environ* wins.

    Raises ConfigError, in one line that names the file, the key and what to write instead.
    """
    document = _document(path) if path is not None else {}
    secret = partial(read_secret, environ=environ, folder=path.parent if path is not None else Path())
    return _settings(document, f"{path}: " if path is not None else "", environ, secret)


def check_host(host: str) -> None:
    """Raise ConfigError unless *host* is reached from this machine alone."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"will not serve on {host!r}: there is no authentication yet, so only loopback is allowed; serve on"
            " 127.0.0.1 and let a reverse proxy that authenticates face the network"
        )


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


def _settings(document: Mapping[str, object], at: str, environ: Mapping[str, str], secret: ReadSecret) -> Settings:
    """*document* as settings; *at* is the file, as messages begin with it."""
    for key in document:
        if key not in Settings.__struct_fields__:
            raise ConfigError(f"{at}unknown table {key!r}; {unknown(key, Settings.__struct_fields__)}")
    tables = {
        section: _overridden(document.get(section, {}), f"RELAY_{section.upper()}_", kind, environ)
        for section, kind in (("server", ServerSettings), ("journal", JournalSettings))
    }
    server = read_table(ServerSettings, tables["server"], f"{at}[server]", secret)
    check_host(server.host)
    journal = read_table(JournalSettings, tables["journal"], f"{at}[journal]", secret)
    _check_journal(journal)
    upstreams = tuple(_upstream(table, where, secret) for where, table in _tables(document, "upstreams", at))
    _check_names(upstreams, at)
    sinks = tuple(_sink(table, where, secret) for where, table in _tables(document, "sinks", at))
    return Settings(server=server, journal=journal, upstreams=upstreams, sinks=sinks)


def _overridden(table: object, prefix: str, kind: type[Struct], environ: Mapping[str, str]) -> object:
    """*table* with what the environment says, in variables that begin with *prefix*, put in its place."""
    if not isinstance(table, dict):
        return table
    known = _variables(prefix, kind)
    merged = dict(cast("dict[str, object]", table))
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        if variable not in known:
            raise ConfigError(f"the environment variable {variable} is not known; {unknown(variable, known)}")
        _put(merged, known[variable], FromEnvironment(variable, text))
    return merged


def _variables(prefix: str, kind: type[Struct]) -> dict[str, tuple[str, ...]]:
    """The environment variable of each key of *kind*, and the way to that key."""
    names: dict[str, tuple[str, ...]] = {}
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}{field.name.upper()}"
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            inner = _variables(f"{name}_", field.type)
            names.update({variable: (field.name, *way) for variable, way in inner.items()})
        else:
            names[name] = (field.name,)
    return names


def _put(table: dict[str, object], way: tuple[str, ...], value: object) -> None:
    key, *rest = way
    if not rest:
        table[key] = value
        return
    inner = table.get(key, {})
    if isinstance(inner, dict):
        table[key] = copy = dict(cast("dict[str, object]", inner))
        _put(copy, tuple(rest), value)


def _check_journal(journal: JournalSettings) -> None:
    """Refuse what is no journal here, naming no more than the scheme: the rest of the URL may hold a password."""
    if journal.scheme not in JOURNALS:
        where = journal.scheme if journal.scheme in _LATER_JOURNALS else "such a place"
        raise ConfigError(
            f'[journal] url: this version keeps no journal in {where}; write url = "sqlite:relay.db" or "memory:"'
        )
    if journal.scheme == "sqlite":
        if journal.path == ":memory:":
            raise ConfigError('[journal] url: a journal that need not outlive the relay is url = "memory:"')
        if not journal.path or journal.path.startswith(("//", "file:")):
            raise ConfigError(
                '[journal] url needs a path behind "sqlite:", as it is: "sqlite:relay.db" or "sqlite:/var/lib/relay.db"'
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
    return read_table(UPSTREAM_KINDS[kind], {"name": kind, **rest}, where, secret)


def _sink(table: dict[str, object], where: str, secret: ReadSecret) -> SinkSettings:
    kind, rest = _kind(table, where, SINK_KINDS)
    if kind in SINK_KINDS:
        return read_table(SINK_KINDS[kind], rest, where, secret)
    if ":" not in kind:
        own = "a sink of your own is written package.module:Name"
        raise ConfigError(f"{where} has an unknown kind {kind!r}; {nearest(kind, SINK_KINDS)}; {own}")
    level = read_table(DebugSettings, {"level": rest.pop("level", "debug")}, where, secret).level
    return CustomSinkSettings(target=kind, level=level, options=rest)


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
