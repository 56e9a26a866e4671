"""[access] of a configuration, read and checked as a whole."""

import ipaddress
import re
from pathlib import Path
from typing import Final, cast

from msgspec.structs import replace

from relay.config.access_settings import AccessSettings, JobsSetting, JwtSettings, KeySettings, ProxySettings
from relay.config.tables import ReadSecret, read_table
from relay.errors import ConfigError
from relay.hints import nearest

__all__ = ["LEAST_KEY", "SCOPES", "is_job_id", "read_access"]

SCOPES: Final = ("jobs:read", "jobs:submit", "jobs:cancel", "operate")
"""What an access may allow. `operate`: all jobs, raw exchanges, metrics and sinks."""

LEAST_KEY: Final = 32
"""The least characters of a secret that signs or opens something: 190 bits if they are letters and digits at random."""

MOST_KEYS: Final = 1_000
MOST_JOBS: Final = 1_000

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_NO_WAY: Final = "names no way in; add [[access.keys]], [access.jwt] or [access.proxy]"
_SHORT: Final = f"has fewer than {LEAST_KEY} characters; make one with `relay token --new-key`"


def read_access(table: object, at: str, secret: ReadSecret, text: ReadSecret, folder: Path) -> AccessSettings:
    """The table [access]; *at* is the file, as messages begin with it, in *folder*. Raises ConfigError.

    *text* reads a secret that may have several lines, as a key in PEM has.
    """
    where = f"{at}[access]"
    if not isinstance(table, dict):
        return read_table(AccessSettings, table, where, secret)
    rest = dict(cast("dict[str, object]", table))
    keys, jwt, proxy = rest.pop("keys", []), rest.pop("jwt", None), rest.pop("proxy", None)
    settings = read_table(AccessSettings, rest, where, secret)
    if (signing := settings.signing_key) is not None and len(signing.reveal()) < LEAST_KEY:
        raise ConfigError(f"{where} signing_key comes from {signing.source}, which {_SHORT}")
    settings = replace(
        settings,
        keys=_keys(keys, at, secret),
        jwt=None if jwt is None else _jwt(jwt, f"{at}[access.jwt]", text, folder),
        proxy=None if proxy is None else _proxy(proxy, f"{at}[access.proxy]", secret),
    )
    if not (settings.keys or settings.jwt or settings.proxy):
        raise ConfigError(f"{where} {_NO_WAY}")
    return settings


def is_job_id(text: str) -> bool:
    """Whether *text* can be the id of a job that an access names."""
    return _JOB_ID.fullmatch(text) is not None


def _keys(tables: object, at: str, secret: ReadSecret) -> tuple[KeySettings, ...]:
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in cast("list[object]", tables)):
        raise ConfigError(f"{at}access.keys is a list of tables; write [[access.keys]] above each")
    listed = cast("list[dict[str, object]]", tables)
    if len(listed) > MOST_KEYS:
        raise ConfigError(f"{at}[[access.keys]] has {len(listed):,} tables; {MOST_KEYS:,} are the most")
    return tuple(_key(one, f"{at}[[access.keys]] {number}", secret) for number, one in enumerate(listed, 1))


def _key(table: object, where: str, secret: ReadSecret) -> KeySettings:
    key = read_table(KeySettings, table, where, secret)
    value = key.key.reveal()
    if len(value) < LEAST_KEY:
        raise ConfigError(f"{where} key comes from {key.key.source}, which {_SHORT}")
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ConfigError(f"{where} key comes from {key.key.source}, which has a character that no header can carry")
    _check_rights(key.scopes, key.jobs, where)
    return key


def _jwt(table: object, where: str, text: ReadSecret, folder: Path) -> JwtSettings:
    jwt = read_table(JwtSettings, table, where, text)
    if (jwt.key is None) == (jwt.jwks is None):
        raise ConfigError(f"{where} needs either `key` or `jwks`, with which signatures are verified")
    if jwt.jwks is not None and jwt.jwks.startswith("file:"):
        return replace(jwt, jwks=f"file:{folder / jwt.jwks.removeprefix('file:')}")
    return jwt


def _proxy(table: object, where: str, secret: ReadSecret) -> ProxySettings:
    proxy = read_table(ProxySettings, table, where, secret)
    for network in proxy.networks:
        if network != "unix" and not _is_network(network):
            raise ConfigError(f'{where} from: {network!r} is neither "unix" nor an IP network such as "10.0.0.0/24"')
    if proxy.secret is None and set(proxy.networks) != {"unix"}:
        raise ConfigError(
            f"{where} needs `secret`, which the proxy sends in {proxy.secret_header}: an address alone, also that of"
            " this machine, proves nothing"
        )
    if proxy.secret is not None and len(proxy.secret.reveal()) < LEAST_KEY:
        raise ConfigError(f"{where} secret comes from {proxy.secret.source}, which {_SHORT}")
    _check_rights(proxy.scopes, proxy.jobs, where)
    return proxy


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _check_rights(scopes: str, jobs: JobsSetting, where: str) -> None:
    for scope in scopes.split():
        if scope not in SCOPES:
            raise ConfigError(f"{where} has an unknown scope {scope!r}; {nearest(scope, SCOPES)}")
    if isinstance(jobs, str):
        if jobs not in ("own", "*"):
            raise ConfigError(f'{where} jobs is "own", "*" or a list of ids of jobs')
    elif len(jobs) > MOST_JOBS or not all(map(is_job_id, jobs)):
        raise ConfigError(f"{where} jobs has what is no id of a job, or more than {MOST_JOBS:,} of them")
