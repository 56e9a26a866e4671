"""A file that goes from an earlier version to this one and back: the earlier one had an index of jobs."""

import sqlite3
from contextlib import closing
from pathlib import Path

from relay.journal import SqliteJournal
from tests.journal.telling import Teller

INDEX = "CREATE INDEX records_by_job ON records (job)"
OF_ONE_JOB = "SELECT offset, job, crc, body FROM records WHERE job = ? AND offset > ? ORDER BY offset"
"""The queries of such a version at its start of each job, and for each stream that comes back late."""


def test_the_index_of_an_earlier_version_is_removed_and_nothing_else_changes(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    with closing(SqliteJournal(path)) as journal:
        teller, epoch = Teller(journal), journal.epoch
        records = teller.tell("abc" * 50)
        ended = teller.end("c")
        journal.commit()
    with closing(sqlite3.connect(path)) as sql:
        sql.execute(INDEX)
        sql.commit()
    with closing(SqliteJournal(path)) as journal:
        assert not journal._file.sql.execute("SELECT 1 FROM sqlite_master WHERE name = 'records_by_job'").fetchall()
        assert (journal.epoch, journal.head) == (epoch, ended.position.offset)
        assert list(journal.read(0, ["a"])) == records[::3]
        assert {job.id: job.state.seq for job in journal.recover()} == {"a": 50, "b": 50, "c": 51}


def test_an_earlier_version_finds_all_records_of_each_job_without_its_index(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    with closing(SqliteJournal(path)) as journal:
        records = Teller(journal).tell("abc" * 50)
    with closing(sqlite3.connect(path)) as sql:
        numbers = dict(sql.execute("SELECT id, number FROM jobs"))
        found = {job: sql.execute(OF_ONE_JOB, (numbers[job], 60)).fetchall() for job in "abc"}
    for first, job in enumerate("abc"):
        expected = [record for record in records[first::3] if record.position.offset > 60]
        assert [(offset, body) for offset, _, _, body in found[job]] == [
            (record.position.offset, record.json) for record in expected
        ]


def test_jobs_whose_records_alternate_for_long_are_what_they_were_after_a_restart(tmp_path: Path) -> None:
    """Each state goes on from what the file holds of it, in the one walk that checks all records."""
    path = tmp_path / "relay.db"
    with closing(SqliteJournal(path)) as journal:
        teller = Teller(journal)
        teller.tell("ab" * 20)
        teller.end("a")
        teller.tell("bcd" * 20)
        teller.end("d")
        journal.commit()
        states = {entry.id: (entry.state, entry.last) for entry in journal._index.numbered.values()}
    with closing(SqliteJournal(path)) as journal:
        assert {entry.id: (entry.state, entry.last) for entry in journal._index.numbered.values()} == states
