"""The names by which a relay is reached, and the origin of its own pages."""

from typing import Final
from urllib.parse import urlsplit

from relay.config.server import SYSTEMD, UNIX, is_loopback, public_origin
from web.middleware.origin_check import LOCAL_HOSTS

__all__ = ["own_names", "own_origins"]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def own_origins(public_url: str | None) -> set[str]:
    """The origin of the relay's own pages, as a browser sends it, if it is not that of the server itself."""
    return {public_origin(public_url)} if public_url is not None else set()


def own_names(host: str, public_url: str | None) -> set[str]:
    """The names, as in a Host header without the port, by which a relay that listens on *host* is reached.

    On loopback these are the names of loopback. Elsewhere other machines reach it by addresses and names that it does
    not know, so it answers to all that no site of the public DNS can own.
    """
    public = urlsplit(public_origin(public_url)).hostname if public_url is not None else None
    names = {*(LOOPBACK if is_loopback(host) else (LOCAL_HOSTS,))}
    if not host.startswith(UNIX) and host != SYSTEMD:
        names.add(host)
    if public:
        names.add(public)
    return {_bracketed(name) for name in names}


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
