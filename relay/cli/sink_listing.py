"""The kinds of sinks as `relay sinks` lists them: where each comes from, its keys and their defaults."""

import inspect
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, get_args

import msgspec
from msgspec import Meta, Struct

from relay.cli.build import imported
from relay.cli.sink_packages import packaged_sinks
from relay.config.settings import AttachSettings
from relay.notices import describe
from relay.secret import Secret
from relay.text import inert
from sinks.kinds import SINKS, sink_class

__all__ = ["ListedKey", "ListedKind", "common_keys", "listed_kinds", "own_kinds"]

_REFERENCE: Final = "env:NAME or file:PATH"


class ListedKey(Struct, frozen=True, kw_only=True):
    """One key of a table: its default as in TOML, None where it has none; *required* if it has to be written."""

    name: str
    default: str | None = None
    required: bool = False
    about: str = ""


class ListedKind(Struct, frozen=True, kw_only=True):
    """One kind: *source* is `box`, `package` or `relay.toml`; *problem* says why it cannot be used."""

    kind: str
    source: str
    package: str | None = None
    target: str
    about: str = ""
    keys: tuple[ListedKey, ...] = ()
    problem: str | None = None


def listed_kinds(config: Path | None) -> list[ListedKind]:
    """The kinds in the box, those of packages, and those that *config* names, each with its keys."""
    box = [_listed(kind, "box", target, partial(sink_class, kind)) for kind, target in SINKS.items()]
    packaged = packaged_sinks()
    names = [one.kind for one in packaged]
    found: list[ListedKind] = []
    for one in packaged:
        kind = _listed(one.kind, "package", one.target, one.load, package=one.distribution)
        others = [other.distribution for other in packaged if other.kind == one.kind and other is not one]
        if one.kind in SINKS:
            kind = msgspec.structs.replace(kind, problem=f"the kind {one.kind!r} in the box is used in its place")
        elif names.count(one.kind) > 1:
            kind = msgspec.structs.replace(kind, problem=f"also brought by {' and '.join(others)}; remove one")
        found.append(kind)
    own = [_listed(kind, "relay.toml", kind, partial(imported, kind)) for kind in own_kinds(config)]
    return [*box, *found, *own]


def common_keys() -> tuple[ListedKey, ...]:
    """The keys that every sink has."""
    return tuple(_of_struct(AttachSettings))


def own_kinds(config: Path | None) -> list[str]:
    """The kinds `package.module:Name` that *config* names; none if it cannot be read, which other commands report."""
    try:
        document = tomllib.loads(config.read_text("utf-8-sig")) if config is not None else {}
    except (OSError, ValueError):
        return []
    tables = document.get("sinks", [])
    listed = cast("list[object]", tables) if isinstance(tables, list) else []
    kinds = [cast("dict[str, object]", table).get("kind") for table in listed if isinstance(table, dict)]
    return list(dict.fromkeys(kind for kind in kinds if isinstance(kind, str) and ":" in kind))


def _listed(kind: str, source: str, target: str, load: Callable[[], Any], *, package: str | None = None) -> ListedKind:
    try:
        found = load()
        if not callable(found):
            raise TypeError(f"{type(found).__name__} is no sink and makes none")
        about = (inspect.getdoc(found) or "").strip().splitlines()
        return ListedKind(
            kind=kind,
            source=source,
            package=package,
            target=target,
            about=inert(about[0]) if about else "",
            keys=tuple(_keys_of(found)),
        )
    except (Exception, SystemExit) as error:
        problem = f"it cannot be loaded: {inert(describe(error))}"
        return ListedKind(kind=kind, source=source, package=package, target=target, problem=problem)


def _keys_of(found: Any) -> Iterator[ListedKey]:
    settings = getattr(found, "settings", None)
    if inspect.isclass(settings) and issubclass(settings, Struct):
        yield from _of_struct(settings)
    elif inspect.isclass(found):
        for name, parameter in inspect.signature(found).parameters.items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                missing = parameter.default is parameter.empty
                yield ListedKey(name=name, default=None if missing else _toml(parameter.default), required=missing)


def _of_struct(settings: type[Struct], prefix: str = "") -> Iterator[ListedKey]:
    for field in msgspec.structs.fields(settings):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if isinstance(default, Struct):
            yield from _of_struct(type(default), f"{prefix}{field.name}.")
        else:
            shown = None if default is msgspec.NODEFAULT else _toml(default)
            name = f"{prefix}{field.name}"
            yield ListedKey(name=name, default=shown, required=field.required, about=_about(field.type))


def _about(annotation: Any) -> str:
    """The words of the first `Meta` that *annotation* has, at any depth."""
    if annotation is Secret:
        return _REFERENCE
    metas: tuple[object, ...] = getattr(annotation, "__metadata__", ())
    found = [meta.description for meta in metas if isinstance(meta, Meta) and meta.description]
    if found or metas:
        return found[0] if found else ""
    inner: tuple[object, ...] = get_args(annotation)
    return next((words for one in inner if (words := _about(one))), "")


def _toml(value: object) -> str | None:
    """*value* as TOML writes it; None for what TOML cannot: no value, and a secret that is not set."""
    match value:
        case None | Secret():
            return None
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return json.dumps(value, ensure_ascii=False)
        case list() | tuple():
            return f"[{', '.join(str(_toml(one)) for one in cast('Sequence[object]', value))}]"
        case Mapping():
            return "{}" if not value else None
        case _:
            return None
