"""How many files this process may have open: each stream is a connection, and each connection is one."""

import sys
from contextlib import suppress
from typing import Final

from relay.cli import say

__all__ = ["fd_shortage", "raise_fd_limit"]

OWN: Final = 128
"""Descriptors that are open besides streams: journal, sinks, the listener, and clients that ask for something else."""

EACH_UPSTREAM: Final = 100
"""The most connections that aiohttp has to one upstream."""


def raise_fd_limit(streams: int, upstreams: int) -> None:
    """Raise this process's soft limit to what so many *streams* need, and say so where the hard limit is less.

    1,024 is the usual soft limit, from when `select` could take no more. Nothing here uses that, and up to the hard
    limit a process needs no leave. A limit that is higher already stays as it is.
    """
    if sys.platform == "win32":
        return
    import resource

    needed = _needed(streams, upstreams)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _suffices(soft, needed):
        return
    # macOS has a limit below the one that it reports.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if _suffices(hard, needed) else hard, hard))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _suffices(most, needed):
        say(_too_few(streams, upstreams, most))


def fd_shortage(streams: int, upstreams: int) -> str | None:
    """Why so many *streams* could not be served at once, and what to do; None where they could. Changes nothing."""
    if sys.platform == "win32":
        return None
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if _suffices(hard, _needed(streams, upstreams)) else _too_few(streams, upstreams, hard)


def _needed(streams: int, upstreams: int) -> int:
    return streams + OWN + EACH_UPSTREAM * upstreams


def _suffices(limit: int, needed: int) -> bool:
    import resource

    return limit == resource.RLIM_INFINITY or limit >= needed


def _too_few(streams: int, upstreams: int, most: int) -> str:
    own = _needed(0, upstreams)
    lower = f", or lower [server] max_streams to {most - own}" if most > own else ""
    return (
        f"{streams:,} streams (max_streams) and what else is open need {streams + own:,} descriptors, and this process"
        f" may have {most:,}; raise its hard limit (ulimit -Hn, LimitNOFILE= of systemd){lower}"
    )
