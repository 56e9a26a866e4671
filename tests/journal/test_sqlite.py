"""The journal on disk: what survives, what is refused, and what is said of damage."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.errors import JournalError
from relay.events import Accepted, Log, Record
from relay.jobs import recall
from relay.journal import Retention, SqliteJournal
from relay.journal import sqlite as module
from tests.journal.telling import Teller

NEEDLE = "a needle in the haystack"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@contextmanager
def opened(path: Path, keep: Retention | None = None, **options: Any) -> Generator[SqliteJournal]:
    with closing(SqliteJournal(path, keep, **options)) as journal:
        yield journal


def refused(path: Path) -> str:
    """The sentence with which *path* is refused; what is there stays byte by byte as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(JournalError) as caught:
        SqliteJournal(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "relay.db").replace(str(path.parent), "FOLDER")


def written(path: Path, jobs: str = "abab") -> list[Record]:
    """A journal that was closed in order, with a record for each of *jobs*."""
    with opened(path) as journal:
        return Teller(journal).tell(jobs)


def alter(path: Path, *statements: str) -> None:
    """Change the file as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def damage(path: Path, found: bytes, put: bytes) -> None:
    content = path.read_bytes()
    assert found in content
    path.write_bytes(content.replace(found, put))


@contextmanager
def elsewhere(program: str, path: Path) -> Generator[subprocess.Popen[str]]:
    """Run *program* in a process of its own, up to its first line; it is killed in the end."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


WRITES_AND_WAITS = """
import sys
from relay.journal import SqliteJournal
from tests.journal.telling import Teller
journal = SqliteJournal(sys.argv[1])
teller = Teller(journal)
for _ in range(50):
    teller.tell("abc")
teller.say("a")
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_kill_loses_nothing_that_was_committed_and_the_epoch_stays(path: Path) -> None:
    first = written(path, "a")
    with elsewhere(WRITES_AND_WAITS, path):
        pass
    with opened(path) as journal:
        assert journal.head == 151
        assert [record.position.offset for record in journal.read(0)] == list(range(1, 152))
        assert journal.read(0)[:1] == first


def test_a_second_relay_on_the_same_file_is_refused_until_the_first_has_ended(path: Path) -> None:
    line = "the journal relay.db is in use by another relay; stop that one, or name another file"
    with elsewhere(WRITES_AND_WAITS, path):
        assert refused(path) == line
    with opened(path):
        assert refused(path) == line
        assert refused(path) == line, "being refused must not break the lock"
    written(path, "a")


def test_two_names_of_one_file_are_one_journal(path: Path) -> None:
    other = path.with_name("other.db")
    other.symlink_to(path)
    with opened(path), pytest.raises(JournalError, match="is in use"):
        SqliteJournal(other)


def test_a_journal_is_for_its_user_alone(path: Path) -> None:
    with opened(path) as journal:
        Teller(journal).tell("a")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["relay.db", "relay.db-lock", "relay.db-shm", "relay.db-wal"], 0o600)
    assert path.with_name("relay.db-lock").read_bytes() == b""


def test_a_journal_begun_anew_has_another_epoch(path: Path) -> None:
    epochs = set()
    for _ in range(3):
        with opened(path) as journal:
            epochs.add(journal.epoch)
        path.unlink()
    assert len(epochs) == 3


def test_after_the_machine_stopped_a_new_epoch_begins_since_the_end_may_be_missing(path: Path, tmp_path: Path) -> None:
    notices: list[str] = []
    left = tmp_path / "left.db"
    with opened(path) as journal:
        records = Teller(journal).tell("ab")
        for ending in ("", "-wal"):
            shutil.copy(path.with_name(f"relay.db{ending}"), left.with_name(f"left.db{ending}"))
    alter(left, "UPDATE journal SET boot = 'of another run of the machine'")

    with opened(left, notify=notices.append) as after:
        assert (len(after.epoch), after.epoch != journal.epoch) == (8, True)
        assert [record.json for record in after.read(0)] == [record.json for record in records]
    assert notices == [
        f"the machine stopped while the journal {left} was in use, so its last records may be missing;"
        " a new epoch begins, and every reader gets a gap"
    ]
    with opened(left) as again:
        assert again.epoch == after.epoch


def test_what_was_closed_in_order_is_one_file_that_any_machine_goes_on_with(path: Path) -> None:
    written(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT boot FROM journal").fetchall() == [("",)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["relay.db", "relay.db-lock"]


def test_a_job_that_goes_on_after_a_restart_is_read_from_its_beginning(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is kept in memory as well, only a part is left after a restart; the rest is in the file."""
    monkeypatch.setattr(module, "RECENT_RECORDS", 2)
    records = written(path, "aabbbb")
    with opened(path) as journal:
        records += Teller(journal).tell("a")
        assert journal.read(0, ["a"]) == [record for record in records if record.job == "a"]
        assert journal.read(0, ["a", "b"]) == records


# What is refused


def test_a_newer_version_is_refused(path: Path) -> None:
    written(path)
    alter(path, "PRAGMA user_version = 2")
    assert refused(path) == (
        "the journal relay.db is of format 2, and this version reads up to 1; upgrade progress-relay, or name another"
        " file"
    )


@pytest.mark.parametrize("statement", ["CREATE TABLE t (x)", "PRAGMA application_id = 7"])
def test_the_database_of_another_program_is_refused(path: Path, statement: str) -> None:
    alter(path, statement)
    assert refused(path) == "relay.db is no journal, but the database of another program; name another file"


@pytest.mark.parametrize("content", [b"x", b"[server]\n" * 1_000, b"SQLite format 3\0" + bytes(5_000)])
def test_what_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refused(path) == "relay.db is no journal: it is not even an SQLite database; name another file"


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lose_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 3] = bytes(4096)
    path.write_bytes(content)


def lose_the_index(path: Path) -> None:
    """An index that lacks a row would hide it from those who look there alone."""
    alter(
        path,
        "INSERT INTO parked (name, offset, job, crc, body, dead) VALUES ('hook', 1, 'a', 0, x'', 1)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'dead = 0', 'dead = 1') WHERE name = 'parked_by_job'",
    )


def lose_a_table(path: Path) -> None:
    alter(path, "DROP TABLE jobs")


@pytest.mark.parametrize("harm", [cut_in_half, lose_a_page, lose_the_index, lose_a_table])
def test_a_file_damaged_as_a_whole_is_refused_with_the_way_out(path: Path, harm: Callable[[Path], None]) -> None:
    written(path, "abc" * 500)
    harm(path)
    line = refused(path)
    assert line.startswith("the journal relay.db is damaged (")
    assert line.endswith(
        "); move it away to begin a new one; `relay replay relay.db --speed 0` prints the records that can still"
        " be read, and so does `sqlite3 relay.db .recover`"
    )


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("none/relay.db", "cannot open the journal PLACE: there is no folder FOLDER/none; make it"),
        (".", "cannot open the journal PLACE: Is a directory; name another file"),
        ("/proc/relay.db", "cannot open the journal PLACE: no file can be written there; name another one"),
    ],
)
def test_where_no_file_can_be_made_it_says_so(place: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(JournalError) as caught:
        SqliteJournal(tmp_path / place)
    said = str(caught.value).replace(f" {tmp_path / place}:", " PLACE:").replace(str(tmp_path), "FOLDER")
    assert said == line


def test_an_empty_file_is_taken(path: Path) -> None:
    path.touch()
    assert len(written(path)) == 4


# What is skipped


def haystack(path: Path) -> list[Record]:
    """Job a says something that can be found in the file, between other things."""
    with opened(path) as journal:
        teller = Teller(journal)
        teller.say("a", Accepted(upstream="sora", task="t"))
        teller.say("b")
        teller.say("a", Log(line=NEEDLE))
        teller.say("a")
        teller.say("b")
        journal.commit()
        return list(journal.read(0))


def test_a_record_that_cannot_be_read_is_left_out_with_a_report_and_is_a_hole(path: Path) -> None:
    records = haystack(path)
    damage(path, NEEDLE.encode(), NEEDLE.replace("e", "o").encode())
    notices: list[str] = []

    with opened(path, notify=notices.append) as journal:
        assert journal.read(0) == [*records[:2], *records[3:]]
        assert journal.read(0, ["a"]) == [records[0], records[3]]
        assert [journal.has_all_since(after) for after in (0, 2, 3)] == [False, False, True]
        assert [journal.has_all_since(after, ["a"]) for after in (0, 2, 3)] == [False, False, True]
        assert journal.has_all_since(0, ["b"])
    assert notices == [
        f"the journal {path} has 1 that cannot be read among its 5 records, the first at offset 3; they are left out,"
        " and readers get a gap"
    ]


def test_a_page_that_begins_with_records_that_cannot_be_read_is_not_the_end(path: Path) -> None:
    records = written(path, "a" * 30)
    alter(path, "UPDATE records SET body = X'00' WHERE offset BETWEEN 2 AND 25")
    with opened(path, notify=lambda _: None) as journal:
        assert journal.read(1, limit=3) == records[25:28]
        assert journal.read(1, ["a"], limit=3) == records[25:28]


def test_a_running_jobs_seq_goes_on_behind_a_record_that_cannot_be_read(path: Path) -> None:
    with opened(path) as journal:
        teller = Teller(journal)
        teller.tell("aaa")
        teller.say("a", Log(line=NEEDLE))
        journal.commit()
    damage(path, NEEDLE.encode(), NEEDLE.upper().encode())
    with opened(path, notify=lambda _: None) as journal:
        (job,) = journal.recover()
        assert (job.id, job.state.seq, job.state.attempt) == ("a", 4, 3)
        assert Teller(journal).tell("a")[0].seq == 5


def test_a_record_of_nobody_is_a_hole_for_everybody(path: Path) -> None:
    written(path, "abab")
    alter(path, "UPDATE records SET job = 77 WHERE offset = 2")
    with opened(path, notify=lambda _: None) as journal:
        assert [journal.has_all_since(1, [job]) for job in "ab"] == [False, False]
        assert [journal.has_all_since(2, [job]) for job in "ab"] == [True, True]
        assert len(journal.read(0)) == 3


def test_a_record_that_goes_bad_meanwhile_is_found_when_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT_RECORDS", 2)
    notices: list[str] = []
    with opened(path, notify=notices.append) as journal:
        records = Teller(journal).tell("a" * 10)
        journal._file.sql.execute("UPDATE records SET body = X'7B7D' WHERE offset = 5")
        assert journal.has_all_since(0)
        for _ in range(2):
            assert journal.read(0) == [*records[:4], *records[5:]]
        assert not journal.has_all_since(4)
    assert notices == [f"the journal {path} cannot be read at offset 5"]


def test_a_state_that_cannot_be_read_is_made_anew_from_the_records(path: Path) -> None:
    with opened(path) as journal:
        teller = Teller(journal)
        teller.tell("aa")
        teller.end("a")
        journal.commit()
        story = recall(journal.read(0))
    alter(path, 'UPDATE jobs SET state = \'{"seq": "three"}\'')
    with opened(path) as journal:
        assert [job.state for job in journal.recover()] == [story]


# What fails, and goes on


def test_where_no_room_is_left_records_wait_and_none_is_lost(path: Path) -> None:
    with opened(path) as journal:
        teller = Teller(journal)
        first = teller.tell("ab")
        (pages,) = journal._file.sql.execute("PRAGMA page_count").fetchone()
        journal._file.sql.execute(f"PRAGMA max_page_count = {pages}")
        waiting = [teller.say(job, Log(line="x" * 8_000)) for job in "abc"]
        for _ in range(2):
            with pytest.raises(JournalError, match=r"cannot be written: no room is left; make room on its disk"):
                journal.commit()
            assert (journal.read(0), journal.head) == (first, 2)

        journal._file.sql.execute("PRAGMA max_page_count = 1000000")
        waiting.append(teller.say("c"))
        journal.commit()
        assert journal.read(0) == [*first, *waiting]
    with opened(path) as journal:
        assert journal.read(0) == [*first, *waiting]


def test_while_another_program_locks_the_file_records_wait(path: Path) -> None:
    with opened(path) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        teller = Teller(journal)
        other.execute("BEGIN IMMEDIATE")
        record = teller.say("a")
        with pytest.raises(JournalError, match="is locked by another program; let that one end"):
            journal.commit()
        other.execute("ROLLBACK")
        journal.commit()
        assert journal.read(0) == [record]


def test_a_failed_commit_forgets_nothing_early(path: Path) -> None:
    """Trimming belongs to the commit: where that fails, what it would have dropped is still there."""
    with opened(path, Retention(records=3)) as journal:
        teller = Teller(journal)
        records = teller.tell("aab")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            more = [teller.say("b"), teller.end("b")]
            with pytest.raises(JournalError):
                journal.commit()
            assert (journal.read(0), journal.has_all_since(0)) == (records, True)
            other.execute("ROLLBACK")
        journal.commit()
        assert (journal.read(0), journal.has_all_since(0)) == ([*records[2:], *more], False)
    with opened(path) as journal:
        assert {job.id: job.state.seq for job in journal.recover()} == {"a": 2, "b": 3}


def test_what_is_discarded_was_never_there(path: Path) -> None:
    """As a bus does: what could not be committed is discarded, and appended again as a whole."""
    with opened(path) as journal:
        Teller(journal).tell("ab")
        before = [(entry.id, entry.state, entry.last) for entry in journal._index.jobs.values()]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            teller = Teller(journal)
            for job in "aacc":
                teller.say(job)
            with pytest.raises(JournalError):
                journal.commit()
        journal.discard()
        assert [(entry.id, entry.state, entry.last) for entry in journal._index.jobs.values()] == before
        assert not journal.keeps("c")
        records = Teller(journal).tell("aacc")
        assert journal.read(2) == records
    with opened(path) as journal:
        assert {job.id: job.state.seq for job in journal.recover()} == {"a": 3, "b": 1, "c": 2}
        assert (journal.read(2, ["c"]), journal.has_all_since(0)) == (records[2:], True)


def test_a_closed_journal_says_that_it_is(path: Path) -> None:
    with opened(path) as journal:
        teller = Teller(journal)
    teller.say("a")
    with pytest.raises(JournalError, match=r"the journal .* cannot be used: Cannot operate on a closed database"):
        journal.commit()


# How it grows


def test_a_bound_that_was_lowered_is_reached_over_many_commits(path: Path) -> None:
    with opened(path) as journal:
        records = Teller(journal).tell("ab" * 1_000)
    with opened(path, Retention(records=100)) as journal:
        teller, kept = Teller(journal), []
        for _ in range(5):
            records += teller.tell("a")
            kept.append(len(journal.read(0, limit=3_000)))
        assert kept == [2_001 - 512, 2_002 - 1_024, 2_003 - 1_536, 100, 100]
        assert journal.read(0, limit=3_000) == records[-100:]


def test_a_running_jobs_state_outlives_its_records(path: Path) -> None:
    with opened(path, Retention(records=20)) as journal:
        teller = Teller(journal)
        story = [teller.say("a", Accepted(upstream="sora", task="t"))]
        journal.commit()
        for _ in range(100):
            story += teller.tell("a")
            teller.tell("bb")
        teller.tell("b" * 50)
    with opened(path, Retention(records=20)) as journal:
        states = {job.id: job.state for job in journal.recover()}
        assert states["a"] == recall(story)
        assert (journal.keeps("a"), journal.has_all_since(0, ["a"])) == (False, False)
        assert journal.has_all_since(story[-1].position.offset, ["a"])


def test_after_a_restart_it_is_known_from_where_on_all_records_are_there(path: Path) -> None:
    keep = Retention(records=5)
    with closing(SqliteJournal(path, keep)) as journal:
        Teller(journal).tell("abcabcabc")
        before = [journal.has_all_since(offset) for offset in range(9)]
    with closing(SqliteJournal(path, keep)) as again:
        assert [again.has_all_since(offset) for offset in range(9)] == before == [False] * 4 + [True] * 5


def test_the_log_is_moved_into_the_file_beside_the_loop(path: Path) -> None:
    with opened(path) as journal:
        teller = Teller(journal)
        before = path.stat().st_size
        for _ in range(300):
            teller.tell("ab")
        assert journal._file._checkpoint is not None
        assert journal._file._checkpoint.result() == ""
        assert path.stat().st_size > before + 100 * 600


def test_a_log_that_cannot_be_moved_is_reported_once(path: Path) -> None:
    notices: list[str] = []
    with opened(path, notify=notices.append) as journal:
        teller = Teller(journal)
        journal._file._beside.close()
        for _ in range(3):
            for _ in range(300):
                teller.tell("a")
            assert journal._file._checkpoint is not None
            journal._file._checkpoint.result()
    assert notices == [
        f"the log of the journal {path} cannot be moved into it, and grows: Cannot operate on a closed database."
    ]


def test_reading_a_hundred_jobs_looks_records_up_and_sorts_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a page costs what is on it, however many records there are."""
    monkeypatch.setattr(module, "RECENT_RECORDS", 1)
    jobs = [f"job{number}" for number in range(100)]
    executed: set[str] = set()
    with opened(path) as journal:
        records = Teller(journal).tell(jobs * 30)
        wanted = jobs[10:]
        journal._file.sql.set_trace_callback(executed.add)
        seen: list[Record] = []
        while page := journal.read(seen[-1].position.offset if seen else 0, wanted, limit=100):
            seen += page
        journal._file.sql.set_trace_callback(None)
        plans = {step for query in executed for (*_, step) in journal._file.sql.execute(f"EXPLAIN QUERY PLAN {query}")}
    assert seen == [record for record in records if record.job in wanted]
    assert plans == {"SEARCH records USING INTEGER PRIMARY KEY (rowid=?)"}


def test_a_level_is_found_without_a_look_at_the_records_between_also_in_a_file_from_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of the words of an upstream that look like a level."""
    monkeypatch.setattr(module, "RECENT_RECORDS", 1)
    executed: list[str] = []
    with opened(path) as journal:
        teller = Teller(journal)
        first = teller.say("a", Log(line='"type":"log","level":"debug"', severity="error"))
        teller.tell("a" * 3_000)
        teller.say("b", Log(line='"type":"log","level":"error"', severity="debug"))
        last = teller.end("b")
        teller.tell("a")
    with opened(path) as journal:
        Teller(journal).tell("a")
        journal._file.sql.set_trace_callback(executed.append)
        found = [journal.read(0, jobs, level="error") for jobs in (None, ["a", "b"], ["a"], ["b"], ["c"])]
        behind = journal.read(last.position.offset, level="error")
        journal._file.sql.set_trace_callback(None)

    assert found == [[first, last], [first, last], [first], [last], []]
    assert behind == []
    assert len(executed) == 4, "one for each page that has records"


def test_a_page_behind_a_cursor_takes_as_many_steps_however_many_records_there_are(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of SQLite's machine: one finds a place in an index, and each row that is walked over takes several."""
    monkeypatch.setattr(module, "RECENT_RECORDS", 1)
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    def steps(cursor: int) -> int:
        nonlocal taken
        taken = 0
        assert [record.position.offset for record in journal.read(cursor, ["a"], limit=3)] == [
            cursor + 1,
            cursor + 2,
            cursor + 3,
        ]
        return taken

    with opened(path) as journal:
        teller = Teller(journal)
        teller.tell("a" * 1_000)
        journal._file.sql.set_progress_handler(count, 1)
        steps(500)  # the first time, SQLite 3.53 takes one more to begin
        among_few = steps(500)
        journal._file.sql.set_progress_handler(None, 1)
        teller.tell("a" * 31_000)
        journal._file.sql.set_progress_handler(count, 1)

        assert 3 < among_few < 100
        assert {steps(500), steps(16_000), steps(31_900)} == {among_few}
