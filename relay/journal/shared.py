"""What the bus and the cluster ask of a journal that several nodes share: an engine across the network.

An engine is awaited, and its outcome may be unknown; a journal of this process alone (`base`) is neither. Redis and
Valkey are the first engines. Another one, PostgreSQL say, needs what is in this file and no more.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from relay.events import Record
from relay.journal.base import JournalReader, StoredJob

__all__ = [
    "EVERYBODY",
    "Claimed",
    "ClusterView",
    "Command",
    "Commands",
    "Draft",
    "Entry",
    "Fence",
    "Lease",
    "LeaseStore",
    "Receiver",
    "Refusal",
    "SharedJournal",
]

EVERYBODY: Final = -1
"""In place of a shard: a command is for every node."""


class Fence(NamedTuple):
    """The right to append for the jobs of *shard*: the fencing token of the lease. A higher *token* ends it."""

    shard: int
    token: int


class Draft(Struct, frozen=True, kw_only=True):
    """A record to append: all but its offset, which the engine gives. *body* is its JSON, which has no offset.

    *stored* is the job after it, with offset 0 in its state; the engine keeps that as well, so that trimming takes no
    state of a running job. *unique*, with the first record of a job, is what no other job of the journal may have:
    the key that it was submitted with, or the task that it follows.
    """

    seq: int
    body: bytes
    fence: Fence
    stored: StoredJob
    unique: str = ""


class Refusal(NamedTuple):
    """The reason why a draft was not appended, and never will be.

    `fenced`: another node owns the shard by now, or nobody. `hole`: the journal has another newest record of the job
    than the one before the draft. `taken`: *job* has what was to be *unique*.
    """

    reason: Literal["fenced", "hole", "taken"]
    job: str = ""


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of the journal, as every node reads it: appended by *node*, with the fencing *token* of its shard.

    *stored* comes with the first *record* of a job (its owner, its key, the digest of its input; its state is of no
    use), and whole without a record: the state of a job that an owner has carried over into a new epoch. Other nodes
    may have read other records of that job, so the copy lacks something since every cursor before such an entry.
    """

    offset: int
    node: str
    token: int
    record: Record | None = None
    stored: StoredJob | None = None


class Lease(NamedTuple):
    """The owner of a shard: *owner* is "" if nobody does. *beat* grows with each renewal; no clock is in it."""

    owner: str
    token: int
    beat: int


class ClusterView(NamedTuple):
    """The leases by shard, and the beats of the nodes by name. A shard that nobody ever claimed has no lease.

    *time* is the engine's time of day as it answered, in UTC, if it has one. No lease depends on it; the records of all
    nodes have their times from it.
    """

    leases: Mapping[int, Lease]
    nodes: Mapping[str, int]
    time: datetime | None = None


class Claimed(NamedTuple):
    """A lease that was just claimed: its *token*, and the newest offset of the journal at that moment.

    All that the previous owner appended is up to there; a later append of it is refused.
    """

    token: int
    head: int


class LeaseStore(Protocol):
    """The leases of all shards. Each method is one script or command; raises JournalError if the outcome is unknown."""

    async def view(self) -> ClusterView:
        """All leases and nodes, as they are now."""
        ...

    async def beat(self, held: Mapping[int, int]) -> frozenset[int]:
        """Show that this node lives, and renew the leases that it holds: shard and token. Return the shards it lost.

        It needs no memory of the engine beyond what the leases have already, so that a full engine ends no lease.
        """
        ...

    async def claim(self, shard: int, seen: Lease | None) -> Claimed | None:
        """Become the owner of *shard*, if its lease is still as it was *seen*; None if it is not.

        The claim is also noted where `relay audit` and the checker of histories find it: shard, token, node, head.
        """
        ...

    async def release(self, held: Mapping[int, int]) -> None:
        """Give leases back at once, where they are still held."""
        ...

    async def leave(self) -> None:
        """Take this node out of the view."""
        ...


class Command(Struct, frozen=True, kw_only=True):
    """A message from one node to the owner of a *shard*, to the node *to*, or to EVERYBODY. *body* is JSON.

    *re* is the id of the command that this one answers.
    """

    id: str
    op: str
    sender: str
    shard: int = EVERYBODY
    to: str = ""
    re: str = ""
    body: bytes = b"{}"


class Commands(Protocol):
    """Messages between nodes, in the order in which they were sent; each node reads all of them. Old ones go."""

    async def send(self, command: Command) -> None:
        """Raises JournalError if it may not have been sent."""
        ...


class Receiver(Protocol):
    """What a journal passes on to, on the thread of the event loop; none of it may raise."""

    def receive(self, entries: Sequence[Entry]) -> None:
        """The next entries in the order of their offsets, no hole within one epoch; the copy has them already."""
        ...

    def begin_anew(self) -> None:
        """Entries that were not received are lost to this node: the copy is empty, and goes on behind them.

        The journal has a new epoch, or the same one, in which some entries cannot be read any more. The states of its
        jobs are received next then, each without a record and of no node; they may be newer than the entries to come.
        """
        ...

    def command(self, command: Command) -> None:
        """A command that is for this node or for a shard, whether this node owns that or not."""
        ...


@runtime_checkable
class SharedJournal(JournalReader, Protocol):
    """A journal that several nodes append to. To readers it is a copy, in this process, of the newest records.

    An entry is in the copy, and passed on, once the engine has stored it, in the order of the offsets that the engine
    gave: the same on every node.
    """

    @property
    def node(self) -> str:
        """The name of this process among the nodes: different after a restart."""
        ...

    @property
    def leases(self) -> LeaseStore:
        """The leases of the cluster, in the same engine."""
        ...

    @property
    def commands(self) -> Commands:
        """The messages between its nodes."""
        ...

    @property
    def problem(self) -> str | None:
        """Why the engine cannot be read at present, a sentence that says what to do; None while it can."""
        ...

    async def open(self) -> Sequence[StoredJob]:
        """Connect, load the copy, and return the jobs of the journal, oldest first. Called once.

        Raises JournalError for an engine that cannot be reached or used; ConfigError for what no retry mends.
        """
        ...

    async def append(self, number: int, drafts: Sequence[Draft]) -> Sequence[Refusal | None]:
        """Append *drafts* as one, in order; return for each why it was refused, or None.

        Raises JournalError if the outcome is unknown. Call it again with the same *number* and the same drafts then,
        until it is known: the engine remembers the last number of each node, so a batch is appended once. Numbers grow.
        A refused draft of a job lets all later ones of the job in the batch be refused.
        """
        ...

    def states(self, job: str) -> bool:
        """Whether the journal has, in its present epoch, a state of *job*."""
        ...

    async def carry_over(self, fence: Fence, jobs: Sequence[StoredJob]) -> bool:
        """In a new epoch: append the states of *jobs*, which are of one shard; False if *fence* does not hold any more.

        The fence is that of whichever node owns the shard. The state of a job that the epoch has already stays as it
        is. Raises JournalError; repeating it does no harm.
        """
        ...

    async def run(self, receiver: Receiver) -> None:
        """Pass on what is appended, by whichever node, until this is cancelled. Entries go into the copy first.

        It survives every failure of the engine, and reports them as `problem`.
        """
        ...

    async def catch_up(self) -> None:
        """Return once the copy has all that the engine had when this was called, while `run` runs.

        Raises JournalError if the engine cannot be reached, or if that takes some seconds.
        """
        ...

    async def tidy(self) -> None:
        """Remove what is beyond the bounds, and the states of jobs that ended and have no record any more.

        One node does it now and then: the owner of shard 0.
        """
        ...

    async def close(self) -> None:
        """Close connections. Idempotent; nothing is called afterwards."""
        ...
