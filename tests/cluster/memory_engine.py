"""An engine in this process, for tests: what its scripts decide, without a network, a server or a clock.

`MemoryNode` (tests/cluster/memory_node.py) is one node's journal on it. The rules are those of `relay.journal.shared`;
that a server keeps them too is for the tests of the real journal to show.
"""

import copy
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from msgspec.structs import replace

from relay.events import Position
from relay.journal.base import StoredJob
from relay.journal.shared import Claimed, ClusterView, Command, Draft, Entry, Fence, Lease, Refusal
from relay.wire.record_json import read_record

__all__ = ["BEHIND_ALL", "AnotherEpochError", "Known", "MemoryEngine", "Meta"]

BEHIND_ALL: Final = 2**20
"""By how much a new epoch begins behind what any node has read."""


class AnotherEpochError(Exception):
    """The engine has another epoch, another process or less than the node knows: it has to look, and to call again."""


class Meta(NamedTuple):
    """What the engine says of itself: *since* is the head at which the generation *gen* began."""

    epoch: str
    head: int
    gen: int
    since: int
    base: int


class Known(NamedTuple):
    """What a node knows of the engine: the newest offset it has seen, and the highest token."""

    epoch: str = ""
    head: int = 0
    gen: int = 0
    token: int = 0


@dataclass
class _Data:
    """What a dump holds. All of it goes back together."""

    meta: Meta | None = None
    rid: str = ""
    token: int = 0
    trimmed_to: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])
    states: dict[str, StoredJob] = field(default_factory=dict[str, StoredJob])
    unique: dict[str, str] = field(default_factory=dict[str, str])
    batches: dict[str, tuple[int, list[Refusal | None]]] = field(
        default_factory=dict[str, tuple[int, "list[Refusal | None]"]]
    )
    leases: dict[int, Lease] = field(default_factory=dict[int, Lease])
    nodes: dict[str, int] = field(default_factory=dict[str, int])

    def copied(self) -> "_Data":
        """A copy, whose values are shared: they are frozen."""
        other = copy.copy(self)
        for name in ("entries", "states", "unique", "batches", "leases", "nodes"):
            setattr(other, name, copy.copy(getattr(self, name)))
        return other


class MemoryEngine:
    """The data, and one method for each script. A script is one step: it does all it decides, or nothing.

    *down*: every call fails. *refusing*: each write fails with that text, and nothing is changed. *time* returns its
    time of day; without one, it has none.
    """

    def __init__(self) -> None:
        self.time: Callable[[], datetime] | None = None
        self._data = _Data()
        self._down = False
        self._listeners: list[Callable[[], None]] = []
        self._run_id = secrets.token_hex(4)
        self.refusing: str | None = None
        self.commands: list[Command] = []
        self.claims: list[tuple[int, int, str, int]] = []
        """Shard, token, node and head of each claim, in order."""

    # What a test does to it.

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        self.announce()

    @property
    def entries(self) -> Sequence[Entry]:
        """All that the present epoch keeps, oldest first."""
        return self._data.entries

    @property
    def trimmed_to(self) -> int:
        """The offset up to which entries are gone."""
        return self._data.trimmed_to

    def state(self, job: str) -> StoredJob | None:
        """The state of *job* as it is kept beside the entries."""
        return self._data.states.get(job)

    def dump(self) -> _Data:
        """A copy of all data, for `restore`."""
        return self._data.copied()

    def restore(self, dump: _Data) -> None:
        """Go on from *dump* as another process: a failover that lost what came behind it, or an older dump."""
        self._data = dump.copied()
        self.restart()

    def restart(self) -> None:
        """Be another process with the same data."""
        self._run_id = secrets.token_hex(4)
        self.announce()

    def flush(self) -> None:
        """FLUSHALL: every key is gone, and nobody is woken by it but to look."""
        self._data = _Data()
        self.announce()

    def trim(self, keep: int) -> None:
        """Drop all but the newest *keep* entries."""
        data = self._data
        if dropped := data.entries[: max(0, len(data.entries) - keep)]:
            data.trimmed_to = dropped[-1].offset
            data.entries = data.entries[len(dropped) :]
            self.announce()

    # The scripts.

    def listen(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever there may be something to read."""
        self._listeners.append(listener)

    def announce(self) -> None:
        for listener in self._listeners:
            listener()

    def open(self, known: Known) -> Meta:
        """Adopt this process, or begin a new epoch where it lacks what the node has seen."""
        data = self._data
        meta = data.meta
        if meta is None or self._lacks(meta, known):
            base = max(meta.head if meta else 0, known.head) + BEHIND_ALL if known.epoch else 0
            meta = Meta("e" + secrets.token_hex(4), base, 0, base, base)
            kept = data
            self._data = data = _Data(
                meta, self._run_id, max(kept.token, known.token), base, leases=kept.leases, nodes=kept.nodes
            )
            self.announce()
        elif data.rid != self._run_id:
            data.rid = self._run_id
            data.meta = meta = meta._replace(gen=meta.gen + 1, since=meta.head)
            self.announce()
        return meta

    def meta(self) -> Meta | None:
        """What a node looks at that has read nothing new; None where this process is not adopted yet."""
        return self._data.meta if self._data.rid == self._run_id else None

    def behind(self, offset: int) -> list[Entry]:
        return [entry for entry in self._data.entries if entry.offset > offset]

    def jobs(self) -> tuple[int, list[StoredJob]]:
        """Up to where the stream is trimmed, and the state of every job."""
        return self._data.trimmed_to, list(self._data.states.values())

    def append(self, epoch: str, node: str, number: int, drafts: Sequence[Draft]) -> Sequence[Refusal | None]:
        meta, data = self._checked(epoch), self._data
        remembered, answer = data.batches.get(node, (0, []))
        if number < remembered:
            raise AnotherEpochError  # a request that comes late: its batch is settled, and a newer one with it
        if number == remembered:
            return answer
        answer = [verdict for verdict, _ in self._verdicts(node, drafts)]
        head = meta.head
        for draft, refusal in zip(drafts, answer, strict=True):
            if refusal is None:
                head += 1
                self._add(meta.epoch, head, node, draft)
        data.batches[node] = (number, answer)
        data.meta = meta._replace(head=head)
        self.announce()
        return answer

    def carry_over(self, epoch: str, node: str, fence: Fence, jobs: Sequence[StoredJob]) -> bool:
        meta, data = self._checked(epoch), self._data
        lease = data.leases.get(fence.shard)
        if lease is None or lease.token != fence.token:
            return False
        head = meta.head
        for job in jobs:
            if job.id not in data.states:
                head += 1
                data.states[job.id] = stored = replace(job, state=replace(job.state, offset=head))
                data.entries.append(Entry(offset=head, node=node, token=fence.token, stored=stored))
        data.meta = meta._replace(head=head)
        self.announce()
        return True

    def view(self) -> ClusterView:
        return ClusterView(dict(self._data.leases), dict(self._data.nodes), self.time and self.time())

    def beat(self, node: str, held: Mapping[int, int]) -> frozenset[int]:
        data = self._data
        data.nodes[node] = data.nodes.get(node, 0) + 1
        lost = frozenset(shard for shard, token in held.items() if not self._holds(node, Fence(shard, token)))
        for shard in held.keys() - lost:
            lease = data.leases[shard]
            data.leases[shard] = lease._replace(beat=lease.beat + 1)
        return lost

    def claim(self, node: str, shard: int, seen: Lease | None) -> Claimed | None:
        data = self._data
        if data.meta is None or data.leases.get(shard) != seen:
            return None
        data.token += 1
        data.leases[shard] = Lease(node, data.token, 1)
        self.claims.append((shard, data.token, node, data.meta.head))
        return Claimed(data.token, data.meta.head)

    def release(self, node: str, held: Mapping[int, int]) -> None:
        for shard, token in held.items():
            if self._holds(node, Fence(shard, token)):
                lease = self._data.leases[shard]
                self._data.leases[shard] = Lease("", lease.token, lease.beat + 1)

    def leave(self, node: str) -> None:
        self._data.nodes.pop(node, None)

    def send(self, command: Command) -> None:
        self.commands.append(command)
        self.announce()

    def tidy(self) -> None:
        entries = self._data.entries
        recorded = {entry.record.job for entry in entries if entry.record is not None}
        recorded |= {entry.stored.id for entry in entries if entry.stored is not None}
        states = self._data.states
        self._data.states = {job: kept for job, kept in states.items() if job in recorded or not kept.state.ended}

    def _lacks(self, meta: Meta, known: Known) -> bool:
        """Whether the node has seen what this process never had, or had lost when its generation began."""
        if meta.epoch != known.epoch:
            return meta.base < known.head  # a dump of an older epoch: a newer one begins behind all that nodes know
        return meta.head < known.head or (meta.gen > known.gen and meta.since < known.head)

    def _checked(self, epoch: str) -> Meta:
        meta = self.meta()
        if meta is None or meta.epoch != epoch:
            raise AnotherEpochError
        return meta

    def _holds(self, node: str, fence: Fence) -> bool:
        lease = self._data.leases.get(fence.shard)
        return lease is not None and (lease.owner, lease.token) == (node, fence.token)

    def _verdicts(self, node: str, drafts: Sequence[Draft]) -> Iterator[tuple[Refusal | None, Draft]]:
        newest: dict[str, int] = {}
        unique: dict[str, str] = {}
        for draft in drafts:
            job = draft.stored.id
            known = self._data.states.get(job)
            seq = newest.get(job, known.state.seq if known is not None else 0)
            holder = unique.get(draft.unique) or self._data.unique.get(draft.unique)
            if not self._holds(node, draft.fence):
                yield Refusal("fenced"), draft
            elif draft.seq != seq + 1:
                yield Refusal("hole"), draft
            elif draft.unique and holder is not None:
                yield Refusal("taken", holder), draft
            else:
                newest[job] = draft.seq
                unique[draft.unique] = job
                yield None, draft

    def _add(self, epoch: str, offset: int, node: str, draft: Draft) -> None:
        data, job = self._data, draft.stored
        record = read_record(draft.body, Position(epoch, offset))
        data.entries.append(
            Entry(
                offset=offset,
                node=node,
                token=draft.fence.token,
                record=record,
                stored=job if draft.seq == 1 else None,
            )
        )
        data.states[job.id] = replace(job, state=replace(job.state, offset=offset))
        if draft.unique:
            data.unique[draft.unique] = job.id
