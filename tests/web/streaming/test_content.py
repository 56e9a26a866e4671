"""What a client is told, block by block, with what happens between two blocks."""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from relay import Relay
from relay.errors import JournalError
from relay.events import Done, Log, Position, Progress
from relay.jobs import Job
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock
from web.streaming.content import SNAPSHOT_JOBS, StreamContent
from web.streaming.resume import start_stream
from web.streaming.selection import Selection
from web.streaming.wire import SSE


class Block(NamedTuple):
    id: str
    event: str
    data: dict[str, Any]


def blocks(page: bytes) -> list[Block]:
    fields = [dict(line.split(b": ", 1) for line in block.split(b"\n")) for block in page.split(b"\n\n")[:-1]]
    return [Block(of[b"id"].decode(), of[b"event"].decode(), json.loads(of[b"data"])) for of in fields]


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay that keeps ten records."""
    async with Relay([], journal=MemoryJournal(Retention(records=10), epoch="e"), clock=ManualClock()) as relay:
        yield relay


def job_of(relay: Relay, records: int) -> Job:
    job = relay.registry.admit()
    for number in range(records):
        relay.bus.publish(job, Log(line=f"line {number}"))
    return job


def content(relay: Relay, last_event_id: str | None, jobs: list[Job] | None = None) -> StreamContent:
    return StreamContent(relay, SSE, start_stream(relay.bus, Selection(jobs), last_event_id))


def test_a_client_cut_off_between_gap_and_snapshot_is_told_both_again(relay: Relay) -> None:
    job_of(relay, 30)

    (gap,) = blocks(content(relay, "e-5").next_page())
    again = content(relay, gap.id)
    told = blocks(again.next_page() + again.next_page())

    assert gap == ("e-5", "gap", {"from": "e-5", "to": "e-30", "missed": 25})
    assert [(block.event, block.id) for block in told] == [("gap", "e-5"), ("snapshot", "e-30")]
    assert again.next_page() == b""


@pytest.mark.parametrize("named", ["nonsense", "other-7", "e-999", None])
def test_a_client_cut_off_within_a_long_snapshot_is_given_it_again(relay: Relay, named: str | None) -> None:
    for _ in range(SNAPSHOT_JOBS + 1):
        job_of(relay, 1)
    first = content(relay, named)
    parts = blocks(b"".join(iter(first.next_page, b"")))

    again = [blocks(b"".join(iter(content(relay, part.id).next_page, b""))) for part in parts]

    here = f"e-{SNAPSHOT_JOBS + 1}"
    assert [part.event for part in parts] == ["gap", "snapshot", "snapshot"][named is None :]
    assert [told[0].event if told else None for told in again] == ["gap"] * (len(parts) - 1) + [None]
    assert [part.id for part in parts] == ["e-0" if named is None else "unknown-0"] * (len(parts) - 1) + [here]


def test_what_is_forgotten_while_a_gap_is_told_is_a_gap_of_its_own(relay: Relay) -> None:
    job = job_of(relay, 30)
    told = content(relay, "e-5")

    heard = blocks(told.next_page())
    for _ in range(30):
        relay.bus.publish(job, Log(line="meanwhile"))
    heard += blocks(told.next_page() + told.next_page() + told.next_page())
    relay.bus.publish(job, Log(line="after"))
    heard += blocks(told.next_page())

    assert [(block.event, block.id) for block in heard] == [
        ("gap", "e-5"),
        ("snapshot", "e-30"),
        ("gap", "e-30"),
        ("snapshot", "e-60"),
        ("log", "e-61"),
    ]
    assert [block.data["jobs"][0]["seq"] for block in heard if block.event == "snapshot"] == [30, 60]


def test_what_is_skipped_is_said_before_it_is_skipped_so_that_no_cut_can_hide_it(relay: Relay) -> None:
    """Cut off behind the notice, a client comes back to where it was. Behind the records, it would have a hole."""
    relay = Relay([], journal=MemoryJournal(epoch="e"), clock=ManualClock())
    job = job_of(relay, 3)
    told = content(relay, None)
    while told.next_page():
        pass
    for percent in range(100):
        relay.bus.publish(job, Progress(percent=percent, status="running"))

    page = blocks(told.next_page(slow=True))

    assert [(block.event, block.id) for block in page] == [("skipped", "e-3"), ("progress", "e-103")]
    assert page[0].data == {"missed": 99}
    assert told.position == Position("e", 103)


class Full(MemoryJournal):
    """A journal whose disk is full, as long as it is."""

    full = True

    def commit(self) -> None:
        if self.full:
            raise JournalError("the disk is full")
        super().commit()


def test_while_the_journal_cannot_be_written_nobody_is_told_that_a_job_has_ended(relay: Relay) -> None:
    """Least of all by 204: the end is still to be said."""
    journal = Full(Retention(records=2), epoch="e")
    journal.full = False
    relay = Relay([], journal=journal, clock=ManualClock(), notify=lambda _: None)
    job, other = job_of(relay, 4), relay.registry.admit()
    journal.full = True
    relay.bus.publish(job, Done(urls=("https://a/b",)))

    resumed, new = content(relay, "e-4", [job]), content(relay, None, [job])
    (snapshot,) = blocks(new.next_page())
    assert not start_stream(relay.bus, Selection([job]), "e-4").finished
    assert (resumed.next_page(), resumed.ended) == (b"", False)
    assert [(stand["seq"], stand["status"]) for stand in snapshot.data["jobs"]] == [(4, "queued")]

    journal.full = False
    relay.bus.publish(other, Log(line="there is room again"))
    assert [block.event for block in blocks(resumed.next_page() + new.next_page())] == ["done", "done"]
    assert (resumed.ended, new.ended) == (True, True)


def test_who_was_told_of_a_jobs_end_is_told_of_no_gap_when_the_journal_forgets_that_job(relay: Relay) -> None:
    ended, running, other = job_of(relay, 1), job_of(relay, 1), job_of(relay, 1)
    told = content(relay, None, [ended, running])
    relay.bus.publish(ended, Done(urls=("https://a/b",)))
    while told.next_page():
        pass
    for number in range(9):
        relay.bus.publish(other, Log(line=f"elsewhere {number}"))
    relay.bus.publish(running, Log(line="still here"))

    assert not relay.journal.keeps(ended.id)
    assert [block.event for block in blocks(told.next_page())] == ["log"]
