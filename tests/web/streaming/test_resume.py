"""Where a stream starts, for a client whose jobs the journal has dropped since."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay import Relay
from relay.events import Accepted, Cancelled, Done, Log, Progress
from relay.jobs import Job
from relay.journal import Journal, MemoryJournal, Retention, SqliteJournal
from relay.testing import ManualClock
from web.streaming.resume import StreamStart, start_stream
from web.streaming.selection import Selection

KEPT = 10


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    keep = Retention(records=KEPT)
    journal = MemoryJournal(keep) if request.param == "memory" else SqliteJournal(tmp_path / "relay.db", keep)
    yield journal
    journal.close()


@pytest.fixture
def relay(journal: Journal) -> Relay:
    return Relay([], journal=journal, clock=ManualClock())


def new_job(relay: Relay) -> Job:
    job = relay.registry.admit()
    relay.bus.publish(job, Accepted(upstream="u", task=job.id))
    return job


def push_out(relay: Relay, but: int = 0) -> None:
    """Publish so much that the journal keeps only the newest *but* of the records before."""
    other = new_job(relay)
    for number in range(KEPT - 1 - but):
        relay.bus.publish(other, Log(line=f"line {number}"))


def start(relay: Relay, jobs: list[Job], last: str | None) -> StreamStart:
    return start_stream(relay.bus, Selection(jobs), last)


def here(relay: Relay) -> str:
    return f"{relay.journal.epoch}-{relay.journal.head}"


def test_a_client_that_has_all_of_an_ended_job_has_all_also_once_the_journal_keeps_nothing_of_it(relay: Relay) -> None:
    job = new_job(relay)
    before_the_end = here(relay)
    relay.bus.publish(job, Done(urls=("https://a/b",)))
    all_of_it = here(relay)
    push_out(relay)
    push_out(relay)
    assert not relay.journal.keeps(job.id)

    assert [start(relay, [job], last).finished for last in (all_of_it, here(relay))] == [True, True]
    late = start(relay, [job], before_the_end)
    assert (late.finished, late.gap is not None, late.snapshot) == (False, True, True)


def test_a_job_that_was_dropped_whole_makes_no_hole_in_the_stream_of_another(relay: Relay) -> None:
    ended, running = new_job(relay), new_job(relay)
    relay.bus.publish(ended, Cancelled())
    last = here(relay)
    relay.bus.publish(new_job(relay), Log(line="of another job"))
    relay.bus.publish(running, Progress(percent=9, status="running"))
    push_out(relay, but=1)
    assert not relay.journal.keeps(ended.id)

    resumed = start(relay, [ended, running], last)
    assert (resumed.gap, resumed.snapshot, resumed.awaiting_end) == (None, False, frozenset({running.id}))
    assert [r.job for r in relay.journal.read(resumed.after.offset, [ended.id, running.id])] == [running.id]


def test_of_a_state_that_an_older_relay_stored_nobody_knows_where_it_ended(relay: Relay) -> None:
    """Its offset is not in it: a client gets the state of the job rather than a 204 that may be wrong."""
    job = new_job(relay)
    relay.bus.publish(job, Done(urls=()))
    last = here(relay)
    push_out(relay)
    push_out(relay)
    job.state = replace(job.state, offset=0)

    assert (start(relay, [job], last).finished, start(relay, [job], last).snapshot) == (False, True)
