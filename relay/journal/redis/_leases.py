"""Leases in Redis or Valkey: each step is one script, no clock is in it, and renewing needs no memory of the server."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from relay.journal.redis._client import EngineClient
from relay.journal.redis._scripts import Script
from relay.journal.shared import Claimed, ClusterView, Lease

__all__ = ["CLAIMS", "RedisLeases"]

CLAIMS: Final = 10_000
"""About how many claims are kept, the newest."""

FORGET_AFTER: Final = 30
"""A node that did not beat while this one did so this often, three times a lease, is removed from the view."""

BEAT_ZERO: Final = 100_000_000_000_000
"""The milliseconds since 1970 that stand for beat 0, in the year 5138: a key with that expiry never expires."""

_VIEW: Final = Script("view")
_CLAIM: Final = Script("claim", shared=True)
_BEAT: Final = Script("beat")
_RELEASE: Final = Script("release")


class RedisLeases:
    """A `relay.journal.shared.LeaseStore` for *node*. Keys begin with `{name}:`.

    `l`: a hash of shard and "owner token beat"; `n`: the set of nodes. The beats that grow are in the expiry of
    `l:SHARD` and `n:NODE`. `t`: the counter of tokens; `claims`: a stream of claims. [measured] At maxmemory a server
    refuses HSET and INCR, and sets an expiry: a full engine takes no lease away, and gives none.

    A claim fails while the journal has no epoch: after FLUSHALL, until a node has begun a new one. It fails too until a
    node has looked at an engine that was started again; a new epoch begins without leases, and with higher tokens.
    """

    def __init__(self, client: EngineClient, name: str, node: str) -> None:
        self._client = client
        self._prefix = f"{{{name}}}"
        self._node = node
        self._beats = 0
        self._others: dict[str, tuple[int, int]] = {}
        self.highest_token: int = 0
        """The highest fencing token that this process has seen."""

    async def view(self) -> ClusterView:
        """All leases and nodes, as they are now. Raises JournalError."""
        async with self._client.talk() as redis:
            owned, alive, now = await _VIEW(redis, self._keys("l", "n"), [BEAT_ZERO])
        leases = {int(shard): _lease(lease, beat) for shard, lease, beat in owned}
        nodes = {node.decode(): beat for node, beat in alive}
        self.highest_token = max([self.highest_token, *(lease.token for lease in leases.values())])
        self._note(nodes)
        return ClusterView(leases, nodes, datetime.fromtimestamp(now / 1000, UTC))

    async def beat(self, held: Mapping[int, int]) -> frozenset[int]:
        """Show that this node lives, and renew the leases that it holds; the shards it lost. Raises JournalError.

        A node that was silent for `FORGET_AFTER` beats of this one is removed from the view. If it lives it comes back
        with its next beat.
        """
        self._beats += 1
        silent = [node for node, (_, since) in self._others.items() if self._beats - since > FORGET_AFTER]
        pairs = [part for lease in held.items() for part in lease]
        arguments: list[str | bytes | int] = [self._node, self._beats, BEAT_ZERO, len(held), *pairs, *silent]
        async with self._client.talk() as redis:
            return frozenset(await _BEAT(redis, self._keys("l", "n"), arguments))

    async def claim(self, shard: int, seen: Lease | None) -> Claimed | None:
        """Become the owner of *shard*, if its lease is still as it was *seen*. Raises JournalError.

        The stream of claims gets its shard, token, node, and the epoch and head of the journal at that moment.
        """
        keys = self._keys("l", "t", "m", "claims", f"l:{shard}")
        was = (seen.owner, seen.token, seen.beat) if seen is not None else ("", "", 0)
        async with self._client.talk() as redis:
            answer = await _CLAIM(redis, keys, [shard, self._node, self._beats, BEAT_ZERO, CLAIMS, *was])
        if answer is None:
            return None
        claimed = Claimed(*answer)
        self.highest_token = max(self.highest_token, claimed.token)
        return claimed

    async def release(self, held: Mapping[int, int]) -> None:
        """Give leases back at once, where they are still held. Raises JournalError."""
        pairs = [part for lease in held.items() for part in lease]
        async with self._client.talk() as redis:
            await _RELEASE(redis, self._keys("l"), [self._node, *pairs])

    async def leave(self) -> None:
        """Take this node out of the view. Raises JournalError."""
        async with self._client.talk() as redis:
            client: Any = redis
            await client.srem(*self._keys("n"), self._node)
            await client.delete(*self._keys(f"n:{self._node}"))

    def _keys(self, *names: str) -> list[str]:
        return [f"{self._prefix}:{name}" for name in names]

    def _note(self, nodes: Mapping[str, int]) -> None:
        """Note since which beat of this node each other one has been silent."""
        before = self._others
        self._others = {
            node: before[node] if node in before and before[node][0] == beat else (beat, self._beats)
            for node, beat in nodes.items()
            if node != self._node
        }


def _lease(lease: bytes, beat: int) -> Lease:
    owner, token, first = lease.decode().rsplit(" ", 2)
    return Lease(owner, int(token), beat if beat >= 0 else int(first))
