"""Whether recordings agree: the same records, in the same order and the same words."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec import Struct

from relay.audit.chats import ChatRecording, compare_chat, read_chat, sniff_chat
from relay.audit.recordings import Defect, RecordedEvent
from relay.audit.tracks import Entry, Findings, Track
from relay.errors import UsageError
from relay.events import LEVELS, TERMINALS, Level
from relay.text import bounded, inert

__all__ = ["Verdict", "audit"]

MAX_FINDINGS: Final = 20
MAX_WAITING: Final = 200_000
"""How many records wait until every recording has reached them. Recordings further apart are read no further."""

HOLE_LIMIT: Final = 1_000
QUOTE_LIMIT: Final = 200

_TERMINAL: Final = frozenset(str(kind.__struct_config__.tag) for kind in TERMINALS)


class Verdict(Struct, frozen=True, kw_only=True):
    """The outcome of an audit. *records* counts those that all agree on; *further* findings are only counted.

    *level* is `info` if records below it were left out of the comparison, as some recording holds none of them.
    """

    recordings: int
    jobs: int
    records: int
    findings: tuple[str, ...]
    further: int = 0
    level: Level = "debug"

    @property
    def same(self) -> bool:
        """Whether all recordings agree."""
        return not self.findings


def audit(
    recordings: Sequence[tuple[str, Iterable[bytes]]],
    *,
    jobs: Collection[str] | None = None,
    max_findings: int = MAX_FINDINGS,
) -> Verdict:
    """Compare two or more *recordings*, each a name and its lines, in one pass side by side.

    Each must also be consistent in itself: a job's seq without holes or repeats from the first on, nothing after a
    terminal record, blocks that every client can parse. A recording of a chat stream, which is known by its content, is
    compared with the records that another one has of its job, those of its level and above. A recording that holds no
    record of level `debug` counts as one of level `info`, the console's default: it is compared as far as it goes.
    *jobs* restricts the audit to these jobs. A finding is one line that names the recordings, and job and seq if known.

    Raises UsageError for fewer than two recordings, and for one that is empty or no recording.
    """
    if len(recordings) < 2:
        raise UsageError("an audit compares two recordings or more")
    chats, others = _sorted(recordings)
    chats = [chat for chat in chats if jobs is None or chat.job in jobs]
    comparison = _Comparison([Track(name, lines) for name, lines in others], jobs, max_findings, chats)
    comparison.run()
    comparison.compare_chats()
    return comparison.verdict()


def _sorted(
    recordings: Sequence[tuple[str, Iterable[bytes]]],
) -> tuple[list[ChatRecording], list[tuple[str, Iterable[bytes]]]]:
    """The recordings of chats, which are read, and the others."""
    chats: list[ChatRecording] = []
    others: list[tuple[str, Iterable[bytes]]] = []
    for name, lines in recordings:
        try:
            is_chat, lines = sniff_chat(lines)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
        if is_chat:
            chats.append(read_chat(name, lines))
        else:
            others.append((name, lines))
    return chats, others


class _Comparison:
    def __init__(
        self, tracks: list[Track], jobs: Collection[str] | None, max_findings: int, chats: Sequence[ChatRecording]
    ) -> None:
        self._tracks = tracks
        self._chats = chats
        self._kept: dict[str, tuple[str, list[RecordedEvent]]] = {}
        self._jobs = jobs
        self._waiting: dict[str, dict[int, Entry]] = {}
        self._waits = 0
        self._records = 0
        self._findings = Findings(max_findings)

    def run(self) -> None:
        while running := [track for track in self._tracks if not track.over]:
            for track in running:
                self._read(track)
            if self._waits > MAX_WAITING:
                names = " and ".join(track.name for track in self._tracks)
                self._findings.add(f"{names} are more than {MAX_WAITING:,} records apart; the rest was not compared")
                return

    def compare_chats(self) -> None:
        """Compare each chat with what a recording of records has of its job, or else with the first chat of it."""
        alone = {chat.job: chat.name for chat in self._chats if chat.job not in self._kept}
        same, without_records = 0, set(alone)
        for chat in self._chats:
            if chat.job not in self._kept:
                self._kept[chat.job] = (chat.name, chat.as_records())
                for defect in chat.defects:
                    self._findings.add(f"{chat.name}: {defect}")
                continue
            name, records = self._kept[chat.job]
            alone.pop(chat.job, None)
            if chat.job in without_records and records and records[0].level != chat.level:
                levels = f"{records[0].level} and {chat.level}"
                raise UsageError(f"{name} and {chat.name} are chats of the levels {levels}; add a recording of records")
            quiet = any(track.quiet for track in self._tracks if track.name == name)
            findings, number = compare_chat(chat, name, records, quiet=quiet)
            same += number
            for finding in findings:
                self._findings.add(finding)
        for job, name in alone.items():
            self._findings.add(f"{inert(job)}: {name} has it, and no other recording does")
        if len(self._tracks) < 2:
            self._records = same

    def verdict(self) -> Verdict:
        jobs = {job for track in self._tracks for job in track.last}
        if self._chats and len(self._tracks) < 2:
            jobs = {chat.job for chat in self._chats}
        findings, further, quiet = self._findings.settled()
        if not jobs and not findings:
            raise UsageError(f"no recording holds a record of {', '.join(sorted(self._jobs or ()))}")
        return Verdict(
            recordings=len(self._tracks) + len(self._chats),
            jobs=len(jobs),
            records=self._records,
            findings=findings,
            further=further,
            level="info" if quiet else "debug",
        )

    def _read(self, track: Track) -> None:
        match track.next():
            case None:
                for job in list(self._waiting):
                    self._settle(job, sorted(self._waiting[job]), track)
            case Defect(what=what, job=job):
                if self._wanted(job):
                    self._findings.add(f"{track.name}: {what}")
            case RecordedEvent() as said:
                if self._wanted(said.job):
                    self._hear(track, said)

    def _wanted(self, job: str | None) -> bool:
        return self._jobs is None or job is None or job in self._jobs

    def _hear(self, track: Track, said: RecordedEvent) -> None:
        last = track.last.get(said.job)
        if said.job in track.ended:
            self._findings.add(f"{track.name}: {said} comes after the end of the job, seq {track.ended[said.job]}")
        if last is not None and said.seq <= last:
            again = "comes twice" if said.seq == last else f"comes after seq {last}"
            self._findings.add(f"{track.name}: {said} {again}")
            return
        if said.type in _TERMINAL:
            track.ended.setdefault(said.job, said.seq)
        track.last[said.job] = said.seq
        self._keep(track, said)
        self._entry(said.job, said.seq).said[track] = (said, track.read)
        if last is not None and said.seq > last + 1:
            self._note_hole(track, said, last)
        waiting = self._waiting[said.job]
        passed = range((last or 0) + 1, said.seq + 1)
        # Whichever is shorter: a recording may begin late, or be far behind another.
        self._settle(
            said.job, passed if len(passed) <= len(waiting) else sorted(seq for seq in waiting if seq in passed), track
        )

    def _keep(self, track: Track, said: RecordedEvent) -> None:
        """Keep the first recording's records of a job that a chat is about."""
        if any(chat.job == said.job for chat in self._chats):
            name, records = self._kept.setdefault(said.job, (track.name, []))
            if name == track.name:
                records.append(said)

    def _note_hole(self, track: Track, said: RecordedEvent, last: int) -> None:
        """Make sure that missing records are reported, whether or not another recording has them."""
        if said.seq - last > HOLE_LIMIT:
            self._findings.add(f"{track.name}: {said} follows seq {last}", unless_quiet=[track])
            return
        for seq in range(last + 1, said.seq):
            self._entry(said.job, seq)

    def _entry(self, job: str, seq: int) -> Entry:
        waiting = self._waiting.setdefault(job, {})
        if seq not in waiting:
            waiting[seq] = Entry()
            self._waits += 1
        return waiting[seq]

    def _settle(self, job: str, seqs: Iterable[int], reader: Track) -> None:
        """Compare those of *seqs* that every recording has reached, or never will; *reader* was read last."""
        waiting = self._waiting[job]
        for seq in seqs:
            if seq in waiting and all(track.past(job, seq) for track in self._tracks):
                self._compare(job, seq, waiting.pop(seq), reader)
                self._waits -= 1
        if not waiting:
            del self._waiting[job]

    def _compare(self, job: str, seq: int, entry: Entry, reader: Track) -> None:
        where = inert(f"{job} seq {seq}")
        first = next((track for track in self._tracks if track in entry.said), None)
        if first is None:
            names = " and ".join(track.name for track in self._tracks)
            self._findings.add(f"{where}: {names} say nothing, though more follows", unless_quiet=self._tracks)
            return
        said, _ = entry.said[first]
        alike = True
        for track in self._tracks:
            other, _ = entry.said.get(track, (None, 0))
            if other is None or (other.type, other.text) != (said.type, said.text):
                alike = False
                finding = f"{where}: {first.name} says {_quoted(said)}, {track.name} says {_quoted(other)}"
                left_out = other is None and said.level == LEVELS[0]
                self._findings.add(finding, unless_quiet=[track] if left_out else ())
        if alike:
            self._records += 1
        if len(entry.said) == len(self._tracks):
            self._check_order(said, entry, reader)

    def _check_order(self, said: RecordedEvent, entry: Entry, reader: Track) -> None:
        """If all recordings have the same order, records complete in that order.

        Otherwise some recording has a record before one that completed earlier; *reader*, which has delivered it last,
        has it after that one.
        """
        for track, (_, place) in entry.said.items():
            if place > track.agreed:
                track.agreed, track.agreed_on = place, said
            else:
                self._findings.add(f"{said}: {reader.name} has it after {track.agreed_on}, {track.name} before it")


def _quoted(said: RecordedEvent | None) -> str:
    return f"{inert(said.type)} {bounded(inert(said.text), QUOTE_LIMIT)!r}" if said is not None else "nothing"
