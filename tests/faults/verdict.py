"""What rounds of faults have shown: each reader's story against what the journal holds at the end."""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct

from relay.events import Failed, Received, Record, Retrying, at_least
from relay.journal import SqliteJournal
from tests.faults.killing import Reader, Submitter, Upstream

__all__ = ["DEADLINE", "Crowd", "Replay", "Verdict", "judge"]

DEADLINE: Final = 15.0
"""Seconds a job may take; some four are enough, and a relay that is frozen is so for longer than this."""

EXPECTED: Final = r"the journal .*cannot be written|can be written again|cannot be moved into it"
"""What the operator is told of a disk without room."""


class Replay(NamedTuple):
    """What `relay replay` of a journal that is being written has printed."""

    status: int
    lines: list[str]
    complaints: str


class Crowd(Struct, kw_only=True):
    """Everybody at a relay, at the end of all rounds."""

    rounds: int
    submitter: Submitter
    prompts: dict[str, str]
    of_all: list[Reader]
    of_errors: list[Reader]
    of_one: dict[str, Reader]
    replays: list[Replay]
    complaints: list[str]


class Verdict(Struct, kw_only=True):
    """What the rounds have shown; the first figures say how much was tried, those from *lost* on must be 0."""

    rounds: int
    jobs: int
    records: int
    deliveries: int
    connections: int
    requests_repeated: int
    requests_put_off: int
    replays: int
    longest_hold_ms: float
    cut_off_submissions: int = 0
    cut_off_but_taken: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    altered: int = 0
    notices: int = 0
    holes: int = 0
    without_one_end: int = 0
    submitted_twice: int = 0
    never_submitted: int = 0
    keys_of_another_job: int = 0
    given_up_unasked: int = 0
    replayed_wrongly: int = 0
    complaints: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """What must be nothing, and is not."""
        fields = self.__struct_fields__
        must_be_zero = fields[fields.index("lost") :]
        return {name: count for name in must_be_zero if (count := getattr(self, name))}


def judge(path: Path, crowd: Crowd, upstream: Upstream, holds: Path | None) -> Verdict:
    """Compare what everybody received with the journal at *path*."""
    with closing(SqliteJournal(path)) as journal:
        written = list(journal.read(0, limit=10_000_000))
        keys = {stored.key: stored.id for stored in journal.recover()}
    jobs: dict[str, list[Record]] = {}
    for record in written:
        jobs.setdefault(record.job, []).append(record)
    readers = [*crowd.of_all, *crowd.of_one.values()]
    verdict = Verdict(
        rounds=crowd.rounds,
        jobs=len(jobs),
        records=len(written),
        deliveries=sum(len(reader.story) for reader in readers),
        connections=sum(reader.connections for reader in readers),
        requests_repeated=crowd.submitter.repeated,
        requests_put_off=crowd.submitter.put_off,
        replays=len(crowd.replays),
        longest_hold_ms=max(map(_milliseconds, holds.read_text().splitlines())) if holds is not None else 0.0,
    )
    errors = [record for record in written if record.terminal or at_least(record.event.level, "error")]
    for reader in crowd.of_errors:
        _compare(verdict, errors, reader)
    for replay in crowd.replays:
        verdict.replayed_wrongly += not _is_replayed(replay, written)
    for reader in crowd.of_all:
        _compare(verdict, written, reader)
    for job, reader in crowd.of_one.items():
        _compare(verdict, jobs[job], reader)
    for story in jobs.values():
        verdict.holes += [record.seq for record in story] != list(range(1, len(story) + 1))
        verdict.given_up_unasked += _is_given_up_unasked(story)
        verdict.without_one_end += [record.terminal for record in story] != [False] * (len(story) - 1) + [True]
    verdict.holes += [record.position.offset for record in written] != list(range(1, len(written) + 1))
    taken = Counter(task.input["prompt"] for task in upstream.tasks.values())
    verdict.submitted_twice = sum(taken.values()) - len(taken) + max(0, upstream.requests["nf/create"] - len(jobs))
    prompts = {job: crowd.prompts[key] for key, job in crowd.submitter.jobs.items()}
    lost = [job for job, story in jobs.items() if _is_lost(story)]
    verdict.cut_off_submissions = len(lost)
    verdict.cut_off_but_taken = sum(taken[prompts[job]] for job in lost)
    verdict.never_submitted = sum(not taken[prompts[job]] for job in jobs.keys() - set(lost))
    verdict.keys_of_another_job = sum(keys.get(key) != job for key, job in crowd.submitter.jobs.items())
    verdict.keys_of_another_job += len(keys) != len(crowd.prompts)
    verdict.complaints = sum(not re.search(EXPECTED, line) for line in crowd.complaints)
    return verdict


def _compare(verdict: Verdict, written: Sequence[Record], reader: Reader) -> None:
    """Count in what a reader's story differs from what is *written*."""
    expected = {str(record.position): record for record in written}
    told = Counter(block.id for block in reader.story)
    verdict.lost += len(expected.keys() - told.keys())
    verdict.duplicated += len(reader.story) - len(told)
    verdict.reordered += sum(later.offset < earlier.offset for earlier, later in pairwise(reader.story))
    verdict.notices += len(reader.notices)
    for block in reader.story:
        record = expected.get(block.id)
        verdict.altered += record is None or (record.event.type, record.json.decode()) != (block.event, block.data)


def _is_lost(story: Sequence[Record]) -> bool:
    end = story[-1].event
    return isinstance(end, Failed) and end.kind == "lost"


def _is_given_up_unasked(story: Sequence[Record]) -> bool:
    """Whether a job was given up for its deadline without another try after that."""
    begins, end = story[0].at, story[-1].event
    if not (isinstance(end, Failed) and end.kind == "timeout"):
        return False
    tried = [record.at for record in story if isinstance(record.event, Received | Retrying)]
    return not tried or tried[-1] < begins + timedelta(seconds=DEADLINE)


def _is_replayed(replay: Replay, written: Sequence[Record]) -> bool:
    """Whether a replay has printed what was written up to some moment, and had nothing to complain of."""
    expected = [record.json.decode() for record in written[: len(replay.lines)]]
    return (replay.status, replay.complaints, replay.lines) == (0, "", expected)


def _milliseconds(line: str) -> float:
    """The CPU time of a hold, as `tests.faults.watched` notes it."""
    return float(line.split()[0])
