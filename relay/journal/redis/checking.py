"""Whether a journal in an engine is what its nodes promise: no hole, no record of a stale owner, one end of a job."""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from relay.events import TERMINALS, Record
from relay.journal.base import StoredJob
from relay.journal.redis._entries import KeptEntry
from relay.journal.redis.reading import Claim, StoredJournal
from relay.notices import Notify, notice
from relay.text import inert

__all__ = ["Checker", "JournalCheck", "check"]

MAX_FINDINGS: Final = 20


class JournalCheck(Struct, frozen=True, kw_only=True):
    """How much was read, and what is wrong with it, each a line; *further* findings are only counted."""

    records: int
    jobs: int
    findings: tuple[str, ...]
    further: int = 0


async def check(
    journal: StoredJournal, *, each: Callable[[Record], object] = lambda _: None, notify: Notify = notice
) -> JournalCheck:
    """Read *journal* once, and pass each of its records to *each*. Raises JournalError where it cannot be read on."""
    checker = Checker(journal.epoch, journal.base, await journal.claims())
    async for kept in journal.entries(notify):
        checker.read(kept)
        if kept.entry.record is not None:
            each(kept.entry.record)
    async for job, state in journal.states(checker.seqs):
        checker.compare(job, state, journal.head)
    return checker.outcome()


class Checker:
    """Follows a journal from entry to entry, in the epoch that began with the offset *base*.

    The first entry that is kept may lie anywhere behind that. The *claims* that are kept say up to which offset a token
    is valid: once a newer token was claimed for a shard at some head, the older one has nothing behind that.
    """

    def __init__(self, epoch: str, base: int, claims: Iterable[Claim]) -> None:
        self._base = base
        self._last: int | None = None
        self._whole = False
        self._owners: dict[int, str] = {}
        self._ends: dict[int, int] = {}
        self.seqs: dict[str, tuple[int, int]] = {}
        """The seq and the offset of the newest entry of each job."""
        self._ended: set[str] = set()
        self._newest: dict[int, int] = {}
        self._records = 0
        self._findings: list[str] = []
        self._found = 0
        for claim in claims:
            self._owners[claim.token] = claim.node
            if claim.shard in self._newest and claim.epoch == epoch:
                self._ends[self._newest[claim.shard]] = claim.head
            self._newest[claim.shard] = claim.token

    def read(self, kept: KeptEntry) -> None:
        """Look at the next entry."""
        entry = kept.entry
        offset, token = entry.offset, entry.token
        if self._last is not None and offset != self._last + 1:
            self._find(f"offsets {self._last + 1} to {offset - 1} are missing")
        if self._last is None:
            self._whole = offset == self._base + 1
        self._last = offset
        if token in self._ends and offset > self._ends[token]:
            self._find(f"offset {offset} was appended with token {token}, which ended at {self._ends[token]}")
        if self._owners.get(token, entry.node) != entry.node:
            self._find(
                f"offset {offset} was appended by {inert(entry.node)} with a token of {inert(self._owners[token])}"
            )
        if entry.record is not None:
            self._records += 1
            self._follow(entry.record.job, entry.record.seq, offset)
            if isinstance(entry.record.event, TERMINALS):
                self._ended.add(entry.record.job)
        elif entry.stored is not None:
            self.seqs[entry.stored.id] = entry.stored.state.seq, offset
            if entry.stored.state.ended:
                self._ended.add(entry.stored.id)

    def compare(self, job: str, stored: StoredJob | None, head: int) -> None:
        """Look at the state of *job* that is kept beside the entries, which were read up to *head*."""
        if stored is None:
            if job not in self._ended:
                self._find(f"{inert(job)} runs, and has no state")
            return
        kept, newest = (stored.state.seq, stored.state.offset), self.seqs[job]
        if stored.state.offset <= head and kept != newest:
            self._find(
                f"{inert(job)} has the state of seq {kept[0]} at offset {kept[1]}, and its newest entry is seq"
                f" {newest[0]} at offset {newest[1]}"
            )

    def outcome(self) -> JournalCheck:
        return JournalCheck(
            records=self._records,
            jobs=len(self.seqs),
            findings=tuple(self._findings),
            further=self._found - len(self._findings),
        )

    def _follow(self, job: str, seq: int, offset: int) -> None:
        before, _ = self.seqs.get(job, (None, 0))
        if before is None and self._whole:
            before = 0
        if before is not None and seq != before + 1:
            self._find(f"{inert(job)} has seq {seq} at offset {offset} behind seq {before}")
        if job in self._ended:
            self._find(f"{inert(job)} has seq {seq} at offset {offset} behind its end")
        self.seqs[job] = seq, offset

    def _find(self, finding: str) -> None:
        self._found += 1
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding)
