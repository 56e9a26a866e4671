"""What the bus and its readers ask of a journal."""

from collections.abc import Collection, Sequence
from typing import Annotated, NamedTuple, Protocol

from msgspec import Meta, Struct

from relay.events import Level, Record
from relay.jobs.state import JobState

__all__ = ["Journal", "JournalReader", "Kept", "Retention", "StoredJob"]


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a journal keeps; the oldest records beyond any bound are dropped.

    *records* and *bytes* (what records take where they are kept) hold, unless a durable sink is behind. *age*, in
    seconds, counts from a job's terminal record, up to the newest record of all: a client that comes late still gets
    the end. A running job does not age, and what lies behind its records waits with them.

    The records that a durable sink has not delivered yet stay whatever the other bounds are, until all that is kept
    takes *bytes* and *pin_bytes*: then the oldest go, and the sink is notified of their number. Records that such a
    sink could not deliver for a while are copied beside the others, up to another *pin_bytes* for each sink.
    """

    records: Annotated[int, Meta(ge=1, description="a number of records, 1 or more")] = 100_000
    bytes: Annotated[int, Meta(ge=1, description="a number of bytes, 1 or more")] = 64 * 1024 * 1024
    age: Annotated[float, Meta(gt=0, description='seconds, or text like "90m", "24h" or "7d"')] = 24 * 3600.0
    pin_bytes: Annotated[int, Meta(ge=0, description="a number of bytes, 0 or more")] = 64 * 1024 * 1024


class StoredJob(Struct, frozen=True, kw_only=True):
    """What a journal knows of a job from before: the fold of its records, its key and its owner."""

    id: str
    state: JobState
    key: str | None = None
    digest: bytes = b""
    owner: str = ""


class Kept(NamedTuple):
    """How many records a journal keeps, and the bytes that they use there. A journal may have it as `kept`."""

    records: int
    bytes: int


class JournalReader(Protocol):
    """Every record, in the order of publication, numbered from 1: its *offset*. Readers need no more of a journal.

    All of it is synchronous, on one thread: it runs on the event loop, and reads what is in this process or close by.
    """

    @property
    def epoch(self) -> str:
        """The name of this numbering: letters and digits. It changes when a journal is begun anew."""
        ...

    @property
    def head(self) -> int:
        """The offset of the newest record committed, kept or not; 0 where there never was one.

        It never goes back, also where a new epoch begins: offsets go on behind all that anybody can have read.
        """
        ...

    def read(
        self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512, level: Level = "debug"
    ) -> Sequence[Record]:
        """The oldest *limit* committed records behind offset *after*, of *jobs* or of all, in order.

        Only those of *level* or above, and terminal ones. It costs what is returned, however many records of lower
        levels lie between: this runs on the event loop.
        """
        ...

    def has_all_since(self, offset: int, jobs: Collection[str] | None = None) -> bool:
        """Whether every record since *offset* (without the one there), of *jobs* or of all, is still kept.

        Not where one of the jobs has an entry without a record since then: see `relay.journal.shared.Entry`.
        """
        ...

    def keeps(self, job: str) -> bool:
        """Whether any record of *job* is still kept."""
        ...


class Journal(JournalReader, Protocol):
    """A journal of this process alone.

    One bus writes, on one thread; many readers read by offset. A record is committed before any sink receives it, and
    not read by anybody before, so no client ever sees a record that a restarted relay does not know.
    """

    @property
    def commit_delay(self) -> float:
        """For how many seconds after a commit the next one may be deferred; 0 if commits are cheap.

        It stays the same.
        """
        ...

    def append(self, record: Record, state: JobState | None = None) -> None:
        """Append *record*, whose offset follows that of the last one appended, for the next `commit`.

        *state* is the state of the job after it, if the caller has already computed it.
        """
        ...

    def remember(self, job: str, key: str | None, digest: bytes) -> None:
        """With the next `commit`, keep that *job* was submitted with *key*, for an input of this *digest*.

        Without a *key*, forget the one that was kept.
        """
        ...

    def remember_owner(self, job: str, owner: str) -> None:
        """With the next `commit`, which has the first record of *job*, keep that it is a job of *owner*.

        Called before the `append` of that record, and not for a job that is nobody's.
        """
        ...

    def commit(self) -> None:
        """Make all appended records durable, as one; drop the oldest beyond the bounds.

        Raises JournalError if it cannot just now, also if nothing was appended; any other exception means that one of
        the appended records can never be stored. Either way they are kept for the next try, or for `discard`.
        """
        ...

    def discard(self) -> None:
        """Drop the records that were appended and not committed."""
        ...

    def check(self) -> None:
        """See, every few seconds, that what was committed is where a restart will look for it, and mend what is not.

        Raises JournalError while that cannot be mended, and where a commit could not be had; nothing is written for it.
        """
        ...

    def recover(self) -> Sequence[StoredJob]:
        """The jobs of an earlier process, oldest first. Called once, before the first `append`."""
        ...

    def close(self) -> None:
        """Let go of files and connections, and of what was not committed. Closing twice does nothing.

        The journal is not used afterwards.
        """
        ...
