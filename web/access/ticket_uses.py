"""The first use of a ticket among several nodes: one of them has it, whichever node issued the ticket."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from web.access.denied import unavailable

__all__ = ["Announcements", "TicketUses"]

TOPIC: Final = "tickets"

CONFIRMED_WITHIN: Final = 5.0
"""Seconds in which the engine brings back what this node has announced, or it is away."""

REMEMBERED_FOR: Final = 120.0
"""Seconds: longer than a ticket waits for its first use, also by a clock that differs."""


class Announcements(Protocol):
    """The announcements of a cluster, of which its node is one."""

    @property
    def started_at(self) -> float:
        """When this node began to read them, in seconds since 1970; infinite before."""
        ...

    def announce(self, topic: str, what: Mapping[str, str]) -> None:
        """Send *what* to all nodes, this one too."""
        ...

    def when_announced(
        self, topic: str, listener: Callable[[Mapping[str, str]], object], *, own: bool
    ) -> Callable[[], None]:
        """Call *listener* with each announcement on *topic*, until the returned function is called."""
        ...


class TicketUses:
    """Announces each use to all nodes. They read the announcements in one order, and the first of a ticket counts.

    This node reads its own as well, and waits for that. It refuses what was issued before it began to read. *now* is in
    seconds since 1970; *on_use* is called with the digest of each ticket that is used.
    """

    def __init__(self, cluster: Announcements, now: Callable[[], float], on_use: Callable[[str], object]) -> None:
        self._cluster = cluster
        self._now = now
        self._on_use = on_use
        self._used: dict[str, float] = {}
        self._awaited: dict[str, asyncio.Future[bool]] = {}
        self._leave: Callable[[], None] | None = None

    def start(self) -> None:
        """Read announcements from now on."""
        if self._leave is None:
            self._leave = self._cluster.when_announced(TOPIC, self._receive, own=True)

    def close(self) -> None:
        """Read no more."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    async def is_first(self, digest: str, issued: float) -> bool:
        """Whether this call is the first use of the ticket of *digest* in the cluster.

        False as well if that is not known here, since the ticket is older than this node. Raises DeniedError (503) if
        the engine does not answer: another node may have the use then.
        """
        if self._leave is None or issued <= self._cluster.started_at or digest in self._used:
            return False
        number = secrets.token_hex(8)
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._awaited[number] = confirmed
        try:
            self._cluster.announce(TOPIC, {"digest": digest, "number": number})
            async with asyncio.timeout(CONFIRMED_WITHIN):
                return await confirmed
        except TimeoutError:
            raise unavailable("the nodes of this relay cannot agree on a ticket now; try again", 2) from None
        finally:
            del self._awaited[number]

    def _receive(self, what: Mapping[str, str]) -> None:
        digest, now = what["digest"], self._now()
        while self._used and self._used[oldest := next(iter(self._used))] < now - REMEMBERED_FOR:
            del self._used[oldest]
        first = digest not in self._used
        if first:
            self._used[digest] = now
            self._on_use(digest)
        confirmed = self._awaited.get(what["number"])
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(first)
