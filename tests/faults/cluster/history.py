"""The history of a cluster: all that its readers, nodes, upstreams and engine have seen, for the checker. No I/O."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from relay.events import Level
from relay.journal import StoredJob
from relay.journal.shared import Entry

__all__ = [
    "Account",
    "Answer",
    "Block",
    "Call",
    "Claim",
    "Connection",
    "Draft",
    "Epoch",
    "FaultNote",
    "History",
    "Request",
    "Story",
    "Task",
]


class Block(NamedTuple):
    """One block of a stream, as it was on the wire."""

    event: str
    data: str
    id: str

    @property
    def is_record(self) -> bool:
        return '"seq":' in self.data and self.event != "snapshot"


class Connection(Struct, frozen=True, kw_only=True):
    """One connection of a reader: the node, the cursor that it sent ("" for none), and the blocks that came."""

    node: str
    cursor: str
    blocks: list[Block]


class Story(Struct, frozen=True, kw_only=True):
    """One reader, in all its connections, of all jobs or of one *job*, from *level* on."""

    reader: str
    connections: list[Connection]
    job: str = ""
    level: Level = "debug"


class Epoch(Struct, frozen=True, kw_only=True):
    """One stream of the engine: its entries in order. The offsets of its entries begin behind *base*.

    *states* is what the engine keeps of each job beside the stream: its seq, its offset and the job; None where that
    was not read. With *trimmed*, the oldest entries may be missing here; with *tidied*, the states of ended jobs.
    """

    name: str
    base: int
    entries: list[Entry]
    states: Mapping[str, tuple[int, int, StoredJob]] | None = None
    trimmed: bool = False
    tidied: bool = False


class Claim(NamedTuple):
    """A lease that was claimed, as the engine has noted it in *epoch*; *at* is a time of day in seconds."""

    shard: int
    token: int
    node: str
    head: int
    at: float = 0.0
    epoch: str = "e1"


class Draft(NamedTuple):
    """A record that a node wanted to append; *refusal* is "" if it was not refused, or nothing is known of it."""

    job: str
    seq: int
    body: bytes
    refusal: str = ""


class Call(Struct, frozen=True, kw_only=True):
    """A batch that *node* sent, once or several times under one *number*, and whether an answer ever came.

    So many of these times (*unanswered*) it was not known whether it was appended.
    """

    node: str
    number: int
    epoch: str
    drafts: list[Draft]
    outcome: Literal["answered", "unknown"]
    unanswered: int = 0


class Request(NamedTuple):
    """A request that reached the upstream, at a time of day in seconds: a poll of an account, or a submit of *key*."""

    at: float
    account: str
    kind: Literal["poll", "submit"]
    node: str
    key: str = ""


class Answer(NamedTuple):
    """An answer of a node to a client that has submitted *key*."""

    key: str
    job: str


class FaultNote(NamedTuple):
    """A fault: its kind, the node that it was of ("" for the engine), and a time of day in seconds."""

    at: float
    kind: str
    node: str = ""


class Task(NamedTuple):
    """A task at the upstream: how it ends, and the *key* that it was submitted with."""

    id: str
    key: str
    end: Literal["done", "failed"]


class Account(NamedTuple):
    """An account whose tasks are listed in one answer, which the owner of *shard* polls every *interval* seconds."""

    shard: int
    interval: float


class History(Struct, frozen=True, kw_only=True):
    """All of it. *shards* has the shard of each job, and *accounts* each account by its name.

    *lease* is in seconds. *epochs* is in order; if *losses* is set, the engine has lost what it had acknowledged.
    *gone* has the jobs of callers that no node knew in the end.
    """

    epochs: list[Epoch]
    claims: list[Claim]
    shards: Mapping[str, int]
    accounts: Mapping[str, Account]
    lease: float
    calls: list[Call] = []
    stories: list[Story] = []
    requests: list[Request] = []
    answers: list[Answer] = []
    tasks: list[Task] = []
    faults: list[FaultNote] = []
    most_epochs: int = 1
    losses: bool = False
    gone: list[str] = []
