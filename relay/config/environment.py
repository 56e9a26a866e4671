"""`RELAY_<SECTION>_<KEY>` in the place of a section's keys, without what an orchestrator puts beside them."""

import re
from collections.abc import Mapping
from types import UnionType
from typing import Final, cast, get_args

import msgspec
from msgspec import Struct

from relay.config.tables import FromEnvironment
from relay.errors import ConfigError
from relay.hints import unknown

__all__ = ["injected", "overridden"]

_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://\S+")
"""What a variable of a port says, in Kubernetes and of a Docker link: an address, and never a number alone."""

_OF_A_SERVICE: Final = re.compile(
    r".+_("
    r"SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"  # Kubernetes, each port by its name as well
    r"|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR|START|END))?"  # both
    r"|ENV_.+"  # a Docker link repeats the environment of the other container
    r")"
)
"""The names of variables that are injected for a service, whatever they say."""


def injected(environ: Mapping[str, str], section: str) -> frozenset[str]:
    """The variables of *section* in *environ* that an orchestrator has put there for a service of a similar name.

    A Kubernetes service `relay-server` (and a Docker link of that alias) makes variables that begin with RELAY_SERVER_,
    among them RELAY_SERVER_PORT with an address. They are known by these shapes alone.
    """
    prefix = _prefix(section)
    return frozenset(name for name, text in environ.items() if name.startswith(prefix) and _is_injected(name, text))


def _is_injected(name: str, text: str) -> bool:
    if _OF_A_SERVICE.fullmatch(name):
        return True
    if name.endswith("_PORT"):
        return _ADDRESS.fullmatch(text.strip()) is not None
    return name.endswith("_NAME") and text.startswith("/")  # a Docker link: /consumer/alias


def overridden(table: object, section: str, kind: type[Struct], environ: Mapping[str, str]) -> object:
    """*table*, which is the *section* of a configuration, with what *environ* says put in its place.

    An empty variable is as one that is not set. Raises ConfigError for a variable that is no key of *kind*.
    """
    if not isinstance(table, dict):
        return table
    prefix, passed_over = _prefix(section), injected(environ, section)
    known = _variables(prefix, kind)
    merged = dict(cast("dict[str, object]", table))
    for variable, text in environ.items():
        if not variable.startswith(prefix) or variable in passed_over or not text.strip():
            continue
        if variable not in known:
            raise ConfigError(f"the environment variable {variable} is not known; {unknown(variable, known)}")
        _put(merged, known[variable], FromEnvironment(variable, text))
    return merged


def _prefix(section: str) -> str:
    return f"RELAY_{section.upper()}_"


def _variables(prefix: str, kind: type[Struct]) -> dict[str, tuple[str, ...]]:
    """The environment variable of each key of *kind*, and the way to that key."""
    names: dict[str, tuple[str, ...]] = {}
    for field in msgspec.structs.fields(kind):
        name = f"{prefix}{field.name.upper()}"
        # A table that may be left out, as `tls`, has its type beside None.
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else [field.type]
        tables = [one for one in kinds if isinstance(one, type) and issubclass(one, Struct)]
        if tables:
            inner = _variables(f"{name}_", tables[0])
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
