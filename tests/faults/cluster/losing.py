"""What a loss of the engine may take with it for good: jobs that no living node had read of, and their keys."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from tests.faults.cluster.history import Epoch, History
from tests.faults.cluster.violation import Violation

__all__ = ["accepted_again", "check_gone", "forgotten"]

RECENT: Final = 10.0
"""Seconds before the end of an epoch, or after its beginning, in which nodes may lag behind on a busy machine."""


class _Accepted(NamedTuple):
    """A job, in which epoch it was accepted, and how long after its first record and before its last one."""

    job: str
    key: str
    epoch: int
    after: float
    before: float


def forgotten(history: History) -> set[str]:
    """The jobs that may be nowhere: accepted shortly before the end of an epoch, and in none behind it."""
    return {one.job for one in _acceptances(history) if _is_forgotten(history, one)}


def accepted_again(history: History) -> set[str]:
    """The keys that may have been accepted in two epochs.

    Their job is forgotten, or the node that accepted them again had just begun and did not know it yet.
    """
    by_key: dict[str, list[_Accepted]] = defaultdict(list)
    for one in _acceptances(history):
        by_key[one.key].append(one)
    return {
        key
        for key, ones in by_key.items()
        if len({one.epoch for one in ones}) > 1
        and any(_is_forgotten(history, one) or (one.epoch > 0 and one.after <= RECENT) for one in ones)
    }


def check_gone(history: History) -> Iterator[Violation]:
    """Jobs that no node knows when all has settled are among those that may be forgotten."""
    for job in set(history.gone) - forgotten(history):
        yield Violation("lost", f"{job} is known to no node, and was not accepted just before a loss")


def _is_forgotten(history: History, one: _Accepted) -> bool:
    later = history.epochs[one.epoch + 1 :]
    return bool(later) and one.before <= RECENT and not any(one.job in _jobs(epoch) for epoch in later)


def _acceptances(history: History) -> Iterator[_Accepted]:
    keys = {answer.job: answer.key for answer in history.answers}
    for number, epoch in enumerate(history.epochs):
        times: list[datetime] = [entry.record.at for entry in epoch.entries if entry.record is not None]
        for entry in epoch.entries:
            if (record := entry.record) is not None and record.seq == 1:
                key = (entry.stored.key if entry.stored is not None else None) or keys.get(record.job, record.job)
                after, before = (record.at - times[0]).total_seconds(), (times[-1] - record.at).total_seconds()
                yield _Accepted(record.job, key, number, after, before)


def _jobs(epoch: Epoch) -> set[str]:
    records = {entry.record.job for entry in epoch.entries if entry.record is not None}
    return records | {entry.stored.id for entry in epoch.entries if entry.stored is not None}
