"""How many files this process may have open: each stream is a connection, and each connection is one."""

import sys
from contextlib import suppress
from typing import Final

from relay.cli import say

__all__ = ["allow_streams"]

OWN: Final = 128
"""What is open besides streams: journal, sinks, the listener, and clients that ask for something else."""

EACH_UPSTREAM: Final = 100
"""The most connections that aiohttp has to one upstream."""


def allow_streams(streams: int, upstreams: int) -> None:
    """Raise this process's soft limit to what so many *streams* need, and say so where the hard limit is less.

    1,024 is the usual soft limit, from when `select` could take no more. Nothing here uses that, and up to the hard
    limit a process needs no leave. What is higher already stays as it is.
    """
    if sys.platform == "win32":
        return
    import resource

    own = OWN + EACH_UPSTREAM * upstreams
    needed = streams + own

    def suffices(limit: int) -> bool:
        return limit == resource.RLIM_INFINITY or limit >= needed

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if suffices(soft):
        return
    # macOS has a limit below the one that it tells of.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if suffices(hard) else hard, hard))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not suffices(most):
        lower = f", or lower [server] max_streams to {most - own}" if most > own else ""
        say(
            f"{streams:,} streams (max_streams) and what else is open need {needed:,} descriptors, and this process may"
            f" have {most:,}; raise its hard limit (ulimit -Hn, LimitNOFILE= of systemd){lower}"
        )
