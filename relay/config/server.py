"""[server]: where the relay may listen, and whose pages may use it."""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from relay.config.settings import ServerSettings
from relay.config.tables import ReadSecret, read_table
from relay.errors import ConfigError

__all__ = ["SYSTEMD", "UNIX", "check_host", "check_origins", "is_loopback", "public_origin", "read_server"]

UNIX: Final = "unix:"
"""Begins a `host` that is the path of a unix socket."""

SYSTEMD: Final = "systemd"
"""The `host` that stands for the sockets that systemd passes on."""

PATH_LIMIT: Final = 107
"""[spec] unix(7): bytes of the path of a socket, without the NUL behind it."""

_ORIGIN: Final = re.compile(
    r"https?://(?P<host>[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:(?P<port>[1-9]\d{0,4}))?"
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def read_server(table: object, where: str, secret: ReadSecret, folder: Path) -> ServerSettings:
    """[server] as settings; the paths of its certificate are relative to *folder*. Raises ConfigError."""
    server = read_table(ServerSettings, table, where, secret)
    check_origins(server.origins, f"{where} origins")
    if server.public_url is not None:
        try:
            check_origins([public_origin(server.public_url)], "")
        except (ConfigError, ValueError):
            raise ConfigError(f"{where} public_url has a name or a port that no browser can go to") from None
    if server.tls is None:
        return server
    tls = replace(server.tls, cert=str(folder / server.tls.cert), key=str(folder / server.tls.key))
    return replace(server, tls=tls)


def check_host(host: str, *, access: bool) -> None:
    """Raise ConfigError if *host* is no place to listen, or other machines reach it while no *access* is configured.

    A unix socket is as private as its folder and its mode. The sockets of systemd are examined once they are here.
    """
    if host.startswith(UNIX):
        _check_path(host.removeprefix(UNIX))
    elif host != SYSTEMD and not is_loopback(host) and not access:
        raise ConfigError(
            f"will not serve on {host!r} to other machines while [access] is not configured, as everybody there could"
            " read, submit and cancel; add [[access.keys]], [access.jwt] or [access.proxy], or serve on a unix socket"
            ' (host = "unix:/run/relay/relay.sock") or on 127.0.0.1 behind a reverse proxy that authenticates'
        )
    elif not host.strip():
        raise ConfigError('an empty host is no address; write "0.0.0.0" or "::" for every address of this machine')


def is_loopback(host: str) -> bool:
    """Whether *host* is an address that this machine alone reaches."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    # Not until Python 3.13 does a mapped address count as the address that it is.
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def public_origin(url: str) -> str:
    """The origin of the pages at *url*, as a browser sends it. Raises ValueError for a name or a port that is none."""
    parts = urlsplit(url)
    name, port = parts.hostname or "", "" if parts.port is None else f":{parts.port}"
    host = f"[{ip_address(name).compressed}]" if ":" in name else name.encode("idna").decode()
    return f"{parts.scheme}://{host}{port.removesuffix(f':{_DEFAULT_PORTS[parts.scheme]}')}"


def check_origins(origins: Iterable[str], where: str) -> None:
    """Raise ConfigError unless each of *origins* is written exactly as a browser sends it; *where* names the key."""
    for origin in origins:
        if (problem := _problem(origin)) is not None:
            raise ConfigError(f"{where}: {origin[:200]!r} {problem}")


def _check_path(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise ConfigError('the path of a unix socket begins with a slash, as in "unix:/run/relay/relay.sock"')
    if len(path.encode("utf-8", "surrogateescape")) > PATH_LIMIT:
        raise ConfigError(f"the path of a unix socket has at most {PATH_LIMIT} bytes; choose a shorter one")


def _problem(origin: str) -> str | None:
    """Why *origin* is not what a browser sends ([spec] HTML, 7.1.1: scheme, host, and a port that is no default)."""
    if origin in ("null", "*", ""):
        return 'is no origin: any page can have it; name each one, such as "https://app.example"'
    if origin != origin.lower():
        return "has upper case, which no browser sends; write it in lower case"
    if (match := _ORIGIN.fullmatch(origin)) is None:
        return 'is no origin; write scheme, host and perhaps a port and nothing behind, as in "https://app.example"'
    scheme, port = origin.partition(":")[0], match["port"]
    if port == _DEFAULT_PORTS[scheme]:
        return f"has the default port of {scheme}, which no browser sends; leave it out"
    if port is not None and int(port) > 65_535:
        return "has a port above 65535"
    if (host := match["host"]).startswith("[") and not _is_canonical(host[1:-1]):
        return "has an IPv6 address that is not in its canonical form"
    return None


def _is_canonical(address: str) -> bool:
    try:
        return ip_address(address).compressed == address
    except ValueError:
        return False
