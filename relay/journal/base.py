"""What the bus and its readers ask of a journal."""

from collections.abc import Collection, Sequence
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from relay.events import Record
from relay.jobs import JobState

__all__ = ["Journal", "Keep", "StoredJob"]


class Keep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a journal keeps; what is over any of the bounds goes, oldest first.

    *records* and *bytes* (what records take where they are kept) hold whatever else is true. *age*, in seconds, counts
    from a job's terminal record, up to the newest record of all: who comes late still gets the end. A running job does
    not age, and what lies behind its records waits with them.
    """

    records: Annotated[int, Meta(ge=1, description="a number of records, 1 or more")] = 100_000
    bytes: Annotated[int, Meta(ge=1, description="a number of bytes, 1 or more")] = 64 * 1024 * 1024
    age: Annotated[float, Meta(gt=0, description='seconds, or text like "90m", "24h" or "7d"')] = 24 * 3600.0


class StoredJob(Struct, frozen=True, kw_only=True):
    """What a journal knows of a job from before: the fold of its records, and the key it was submitted with."""

    id: str
    state: JobState
    key: str | None = None
    digest: bytes = b""


class Journal(Protocol):
    """Every record, in the order of publication, numbered from 1: its *offset*.

    One bus writes, on one thread; many readers read by offset. A record is committed before any sink hears of it, and
    not read by anybody before, so no client ever sees a record that a restarted relay does not know.
    """

    @property
    def epoch(self) -> str:
        """The name of this numbering: letters and digits. It changes when a journal is begun anew."""
        ...

    @property
    def head(self) -> int:
        """The offset of the newest record committed, kept or not; 0 where there never was one."""
        ...

    @property
    def gather(self) -> float:
        """Seconds after a commit in which what can wait is gathered for the next; 0 where a commit costs nothing."""
        ...

    def append(self, record: Record, state: JobState | None = None) -> None:
        """Take *record*, whose offset follows that of the last one taken, for the next `commit`.

        *state* is what the job has become with it, from who has worked that out already.
        """
        ...

    def remember(self, job: str, key: str, digest: bytes) -> None:
        """With the next `commit`, keep that *job* was submitted with *key*, for an input of this *digest*."""
        ...

    def commit(self) -> None:
        """Make all that was taken durable, as one; forget what is over the bounds.

        Raises JournalError where it cannot; what was taken is kept for the next try.
        """
        ...

    def recover(self) -> Sequence[StoredJob]:
        """The jobs of an earlier process, oldest first. Called once, before the first `append`."""
        ...

    def read(self, after: int, jobs: Collection[str] | None = None, *, limit: int = 512) -> Sequence[Record]:
        """The oldest *limit* committed records behind offset *after*, of *jobs* or of all, in order."""
        ...

    def complete(self, after: int, jobs: Collection[str] | None = None) -> bool:
        """Whether every record behind offset *after*, of *jobs* or of all, is still kept."""
        ...

    def keeps(self, job: str) -> bool:
        """Whether any record of *job* is still kept."""
        ...

    def close(self) -> None:
        """Let go of files and connections, and of what was not committed. Closing twice does nothing.

        The journal is not used afterwards.
        """
        ...
