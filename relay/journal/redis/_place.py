"""Where an engine is: the URL of a Redis or Valkey, of its socket, or of the Sentinels that know its primary."""

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from relay.errors import ConfigError
from relay.text import bounded, inert
from relay.wire.addresses import Address, read_address

__all__ = ["EnginePlace", "read_url"]

MESSAGE_LIMIT: Final = 300
"""The most characters of a server's own words in an error."""

_SERVERS: Final[Mapping[str, int | None]] = {"redis": 6379, "rediss": 6379, "valkey": 6379, "valkeys": 6379}
_SOCKETS: Final[Mapping[str, int | None]] = {"unix": None, "redis+unix": None, "valkey+unix": None}
_SENTINELS: Final[Mapping[str, int | None]] = {
    f"{scheme}+sentinel": 26379 for scheme in ("redis", "rediss", "valkey", "valkeys")
}
_CLUSTERS: Final[Mapping[str, int | None]] = {
    f"{scheme}+cluster": 6379 for scheme in ("redis", "rediss", "valkey", "valkeys")
}
_TLS: Final = ("rediss", "valkeys")
_OPTIONS: Final = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_user", "sentinel_password")


class EnginePlace(Struct, frozen=True):
    """An engine's *address*, read: its *database*, and the *service* whose primary the hosts know, which are Sentinels.

    Without a *service* the one host, or the socket, is the engine itself. Its text has no secret.
    """

    address: Address
    database: int
    service: str

    @property
    def tls(self) -> bool:
        """Whether every connection is encrypted, and the certificate of its server verified."""
        return self.address.scheme.startswith(_TLS)

    def __str__(self) -> str:
        return f"the primary of {self.service!r} by {self.address}" if self.service else str(self.address)

    def __repr__(self) -> str:
        return f"EnginePlace({self})"

    def quoted(self, words: object) -> str:
        """*words* of the client or the server as one bounded line that only prints, secrets of the URL masked."""
        return bounded(inert(self.address.masked(words).strip()), MESSAGE_LIMIT)


def read_url(url: str) -> EnginePlace:
    """The place that *url* names.

    `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, with TLS `rediss://`; `unix://[USER:PASSWORD@]/PATH[?db=DATABASE]`;
    `redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]`, any nodes of a cluster, which lead to the one that
    keeps the keys; `redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DATABASE]`, where user and
    password are those of the engine, and `sentinel_user` and `sentinel_password` behind `?` those of the Sentinels.
    `valkey` may stand for `redis`. `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` behind `?` name files for TLS.

    Any other option is refused: the client would let it override what correctness hangs on, such as its own retries.
    Raises ConfigError, which says what is wrong and repeats no part of *url*.
    """
    address = read_address(url, {**_SERVERS, **_SOCKETS, **_SENTINELS, **_CLUSTERS}, options=_OPTIONS)
    sentinels = address.scheme in _SENTINELS
    parts = address.path.strip("/").split("/") if address.scheme not in _SOCKETS else [""]
    service = parts.pop(0) if sentinels else ""
    _check(address, service)
    place = EnginePlace(address, _database(address.options.get("db") or "/".join(parts)), service)
    if place.database and address.scheme in _CLUSTERS:
        raise ConfigError("url names a database, and a cluster has only 0; remove it")
    return place


def _check(address: Address, service: str) -> None:
    if address.scheme in _SOCKETS:
        if address.path.strip("/") == "":
            raise ConfigError("url has no path of a socket; it should look like unix:///run/redis/redis-server.sock")
    elif not address.hosts:
        raise ConfigError("url has no host; it should look like redis://USER:PASSWORD@HOST")
    if address.scheme in _SENTINELS:
        if not service:
            raise ConfigError(
                "url names no service behind its Sentinels; it should look like redis+sentinel://HOST,HOST/SERVICE"
            )
    elif len(address.hosts) > 1 and address.scheme not in _CLUSTERS:
        raise ConfigError(
            "url names several hosts; begin it with redis+cluster:// for nodes of a cluster, or with"
            " redis+sentinel:// for Sentinels, whose service follows them: /SERVICE"
        )
    options = address.options
    if address.scheme not in _SENTINELS and ("sentinel_user" in options or "sentinel_password" in options):
        raise ConfigError("url has a password for Sentinels, and names none; begin it with redis+sentinel://")
    if not address.scheme.startswith(_TLS) and any(key.startswith("ssl_") for key in options):
        raise ConfigError("url has files for TLS, and is without TLS; begin it with rediss:// or rediss+sentinel://")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ConfigError("url has ssl_keyfile without ssl_certfile; name both, or the one file that holds both")


def _database(number: str) -> int:
    if number and not re.fullmatch(r"[0-9]{1,5}", number):
        raise ConfigError("url has a path that is no number of a database, such as /0")
    return int(number or 0)
