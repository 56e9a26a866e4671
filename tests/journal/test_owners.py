"""The owner of a job in the file: there from the job's first record on, and no matter to versions without owners."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from relay.bus import Bus
from relay.errors import JournalError, UnavailableError
from relay.events import Accepted, Checking, Done, Log, Record
from relay.jobs import Job, JobState
from relay.journal import Retention, SqliteJournal
from relay.journal.sqlite import stored_records
from relay.testing import ManualClock
from tests.journal.telling import Teller
from tests.journal.test_cursors import RELEASED

POISON = "poison"
OWNER = "jwt:Zoë\n日本"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@contextmanager
def opened(path: Path, keep: Retention | None = None) -> Generator[SqliteJournal]:
    with closing(SqliteJournal(path, keep)) as journal:
        yield journal


class Choosy(SqliteJournal):
    """Can never store what mentions POISON; nothing at all while it is full."""

    full = False

    def append(self, record: Record, state: JobState | None = None) -> None:
        if POISON.encode() in record.json:
            raise ValueError("cannot be stored")
        super().append(record, state)

    def commit(self) -> None:
        if self.full:
            raise JournalError("the disk is full")
        super().commit()


def owners(journal: SqliteJournal) -> dict[str, str]:
    return {job.id: job.owner for job in journal.recover()}


def bus_on(journal: SqliteJournal) -> Bus:
    return Bus(journal, clock=ManualClock(), notify=lambda _: None)


def test_an_owner_is_kept_with_the_first_record_by_whichever_way_that_is_published(path: Path) -> None:
    with opened(path) as journal:
        bus = bus_on(journal)
        bus.publish_first(Job("a", owner=OWNER), Accepted(upstream="u"), key="k", digest=b"d")
        bus.publish(Job("b", owner="bob"), Accepted(upstream="u"))
        with bus.batch():
            for job in (Job("c", owner="ann"), Job("d")):
                bus.publish(job, Accepted(upstream="u"))
                bus.publish(job, Checking(attempt=1, of=2))
    with opened(path) as journal:
        assert owners(journal) == {"a": OWNER, "b": "bob", "c": "ann", "d": ""}
        assert [(job.key, job.digest) for job in journal.recover()][:2] == [("k", b"d"), (None, b"")]


def test_a_job_and_its_owner_are_in_the_file_together_or_not_at_all(path: Path) -> None:
    """Another process that looks at any moment never sees a job without the owner that it has."""
    with opened(path) as journal, closing(sqlite3.connect(path)) as looking:
        seen: list[list[tuple[str, str, int]]] = []

        def look(_: str = "") -> None:
            query = "SELECT id, owner, (SELECT count(*) FROM records) FROM jobs"
            seen.append(looking.execute(query).fetchall())

        journal._file.sql.set_trace_callback(look)
        bus_on(journal).publish_first(Job("a", owner="ann"), Accepted(upstream="u"))
        journal._file.sql.set_trace_callback(None)
        look()
    assert len(seen) > 3
    assert seen[-1] == [("a", "ann", 1)]
    assert all(rows in ([], [("a", "ann", 1)]) for rows in seen)


PUBLISHES_AND_WAITS = """
import sys
from relay.bus import Bus
from relay.events import Accepted
from relay.jobs import Job
from relay.journal import SqliteJournal
bus = Bus(SqliteJournal(sys.argv[1]))
for number in range(20):
    bus.publish_first(Job(f"job_{number}", owner=f"owner {number % 3}"), Accepted(upstream="u"))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_kill_loses_no_owner(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHES_AND_WAITS, str(path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        finally:
            os.kill(process.pid, signal.SIGKILL)
    with opened(path) as journal:
        assert owners(journal) == {f"job_{number}": f"owner {number % 3}" for number in range(20)}


def test_an_owner_outlives_the_records_of_a_running_job(path: Path) -> None:
    with opened(path, Retention(records=3)) as journal:
        bus, other = bus_on(journal), Job("b")
        bus.publish(Job("a", owner="ann"), Accepted(upstream="u"))
        for number in range(8):
            bus.publish(other, Log(line=f"line {number}"))
        assert not journal.keeps("a")
    with opened(path, Retention(records=3)) as journal:
        assert owners(journal) == {"a": "ann", "b": ""}


def test_what_was_discarded_leaves_no_owner_behind(path: Path) -> None:
    with closing(Choosy(path)) as journal:
        bus = bus_on(journal)
        journal.full = True
        with pytest.raises(UnavailableError):
            bus.publish_first(Job("a", owner="ann"), Accepted(upstream="u"))
        journal.full = False
        with bus.batch():
            pass
        bus.publish_first(Job("a"), Accepted(upstream="u"))
        assert owners(journal) == {"a": ""}


def test_a_first_record_that_waited_for_the_journal_brings_its_owner(path: Path) -> None:
    with closing(Choosy(path)) as journal:
        bus = bus_on(journal)
        journal.full = True
        bus.publish(Job("a", owner="ann"), Accepted(upstream="u"))
        assert journal.recover() == []
        journal.full = False
        bus.publish(Job("b", owner="bob"), Accepted(upstream="u"))
        assert owners(journal) == {"a": "ann", "b": "bob"}


def test_the_substitute_of_a_first_record_that_can_never_be_stored_brings_its_owner(path: Path) -> None:
    with closing(Choosy(path)) as journal:
        bus = bus_on(journal)
        with bus.batch():
            bus.publish(Job("a", owner="ann"), Log(line=POISON))
            bus.publish(Job("b", owner="bob"), Log(line="harmless"))
        assert owners(journal) == {"a": "ann", "b": "bob"}
        assert [(record.job, record.seq) for record in journal.read(0)] == [("a", 1), ("b", 1)]


def before_owners(path: Path, old: Path) -> None:
    """Make a journal of the released version at *old*, of the records and jobs of the one at *path*."""
    with closing(sqlite3.connect(old)) as sql:
        sql.execute("PRAGMA application_id = 1919249529")
        sql.execute("PRAGMA user_version = 1")
        for statement in RELEASED:
            sql.execute(statement)
        sql.execute("ATTACH ? AS new", (str(path),))
        sql.execute(
            "INSERT INTO jobs (number, id, key, digest, state, folded_to, trimmed_to)"
            " SELECT number, id, key, digest, state, folded_to, trimmed_to FROM new.jobs"
        )
        sql.execute("INSERT INTO journal SELECT epoch, boot FROM new.journal")
        sql.execute("INSERT INTO records SELECT offset, job, crc, body FROM new.records")
        sql.commit()


def test_jobs_of_a_file_from_before_are_nobodys_and_new_ones_have_their_owner(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with opened(path) as journal:
        journal.remember("a", "k", b"d")
        records, epoch = Teller(journal).tell("abab"), journal.epoch
    before_owners(path, old)
    assert list(stored_records(old)) == records

    for _ in range(2):
        with opened(old) as journal:
            assert (journal.epoch, journal.read(0)[:4]) == (epoch, records)
            assert [(job.id, job.owner, job.key) for job in journal.recover()][:2] == [("a", "", "k"), ("b", "", None)]
            bus_on(journal).publish(Job(f"new_{journal.head}", owner="ann"), Done())
    with opened(old) as journal:
        assert owners(journal) == {"a": "", "b": "", "new_4": "ann", "new_5": "ann"}
    assert [record.job for record in stored_records(old)] == ["a", "b", "a", "b", "new_4", "new_5"]


def test_the_version_before_adds_jobs_that_are_nobodys_and_leaves_owners_alone(path: Path) -> None:
    """It names the columns that it writes, and asks nothing of the rest; the format of the file is its own."""
    with opened(path) as journal:
        bus_on(journal).publish(Job("a", owner="ann"), Accepted(upstream="u"))
    with closing(sqlite3.connect(path)) as sql:
        assert sql.execute("PRAGMA user_version").fetchone() == (1,)
        sql.execute("INSERT INTO jobs (number, id) VALUES (2, 'b')")
        sql.execute("UPDATE jobs SET key = 'k', digest = x'00' WHERE id = 'a'")
        sql.commit()
    with opened(path) as journal:
        assert owners(journal) == {"a": "ann", "b": ""}


def test_no_record_and_no_state_in_the_file_has_the_owner(path: Path) -> None:
    with opened(path) as journal:
        bus, job = bus_on(journal), Job("a", owner="canary0a7f3C9e5Bd1")
        bus.publish(job, Accepted(upstream="u"))
        bus.publish(job, Done())
    with closing(sqlite3.connect(path)) as sql:
        rows = sql.execute("SELECT body FROM records").fetchall() + sql.execute("SELECT state FROM jobs").fetchall()
        assert len(rows) == 3
        assert b"canary" not in b"".join(body for (body,) in rows)
