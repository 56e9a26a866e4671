"""What waits for one sink apart: in order per job, bounded, and there after a restart."""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.errors import JournalError
from relay.events import Log, Record
from relay.journal import Parked, Retention, SqliteJournal
from relay.journal._index import size_of
from tests.journal.telling import Teller


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@contextmanager
def opened(path: Path, keep: Retention | None = None, **options: Any) -> Generator[SqliteJournal]:
    with closing(SqliteJournal(path, keep, **options)) as journal:
        yield journal


def shown(parked: Sequence[Parked]) -> list[tuple[int, int, float | None]]:
    """Offset, failed attempts and time of each."""
    return [(one.record.position.offset, one.attempts, one.due) for one in parked]


def test_only_the_first_of_a_job_has_a_time_and_the_others_queue_behind_it(path: Path) -> None:
    with opened(path) as journal:
        parking, records = journal.parking, Teller(journal).tell("abab")
        parking.park("hook", [records[0]], attempts=3, since=5.0, due=20.0)
        parking.park("hook", [records[2]], due=0.0)
        parking.park("hook", [records[1], records[3]], attempts=1, since=6.0, due=10.0)
        parking.park("other", [records[1]], due=0.0)

        assert shown(parking.heads("hook", 20.0, 5)) == [(2, 1, 10.0), (1, 3, 20.0)]
        assert shown(parking.heads("hook", 19.0, 5)) == [(2, 1, 10.0)]
        assert shown(parking.heads("hook", 20.0, 1)) == [(2, 1, 10.0)]
        assert shown(parking.heads("hook", 20.0, 1, ["b"])) == [(1, 3, 20.0)]
        assert (parking.next_due("hook"), parking.next_due("hook", ["b"]), parking.next_due("hook", "ab")) == (
            10.0,
            20.0,
            None,
        )
        assert parking.heads("hook", 20.0, 5)[1].record == records[0]
        assert parking.heads("hook", 20.0, 5)[1].since == 5.0
        assert [parking.waiting(name) for name in ("hook", "other", "nobody")] == [4, 1, 0]
        assert [parking.holds("hook", job) for job in "abc"] == [True, True, False]


def test_a_head_that_is_delivered_makes_room_for_the_next_of_its_job(path: Path) -> None:
    with opened(path) as journal:
        parking, records = journal.parking, Teller(journal).tell("aab")
        parking.park("hook", records[:2], attempts=3, since=5.0, due=20.0)
        parking.put_off("hook", 1, 4, 30.0)
        assert shown(parking.heads("hook", 99.0, 5)) == [(1, 4, 30.0)]
        parking.unpark("hook", 1, 31.0)
        assert shown(parking.heads("hook", 99.0, 5)) == [(2, 0, 31.0)]
        parking.unpark("hook", 2, 32.0)
        assert (parking.waiting("hook"), parking.holds("hook", "a"), parking.next_due("hook")) == (0, False, None)
        parking.unpark("hook", 2, 33.0)
        assert parking.waiting("hook") == 0


def test_what_is_read_once_more_after_a_restart_is_there_once_and_in_its_place(path: Path) -> None:
    """Where the mark was behind, a record comes again that was delivered; those behind it must follow it again."""
    with opened(path) as journal:
        records = Teller(journal).tell("aaa")
        journal.parking.park("hook", records[1:], attempts=3, since=5.0, due=20.0)
    with opened(path) as journal:
        parking = journal.parking
        for record in records:
            parking.park("hook", [record], due=7.0)
        assert shown(parking.heads("hook", 99.0, 5)) == [(1, 0, 7.0)]
        for offset in (1, 2, 3):
            assert [one.record for one in parking.heads("hook", 99.0, 5)] == [records[offset - 1]]
            parking.unpark("hook", offset, 8.0)
        assert parking.waiting("hook") == 0


def test_a_dead_letter_is_kept_and_the_next_of_its_job_goes_on(path: Path) -> None:
    with opened(path) as journal:
        parking, records = journal.parking, Teller(journal).tell("aab")
        parking.park("hook", records[:2], attempts=9, since=5.0, due=20.0)
        parking.bury("hook", records[:1], attempts=10, since=5.0, due=40.0)
        parking.bury("hook", records[2:], attempts=1, since=6.0, due=40.0)
        assert shown(parking.heads("hook", 99.0, 5)) == [(2, 0, 40.0)]
        assert (parking.waiting("hook"), parking.holds("hook", "b")) == (1, False)
    with opened(path) as journal:
        parking = journal.parking
        assert [(one.record, one.attempts, one.since, one.dead) for one in parking.dead("hook")] == [
            (records[0], 10, 5.0, True),
            (records[2], 1, 6.0, True),
        ]
        assert [one.record for one in parking.dead("hook", after=1)] == records[2:]
        assert [parking.revive("hook", offset, 50.0) for offset in (1, 1, 2, 7)] == [True, False, False, False]
        assert shown(parking.heads("hook", 99.0, 5)) == [(1, 0, 50.0)]
        assert [one.record for one in parking.dead("hook")] == records[2:]
        assert parking.waiting("hook") == 2


def test_one_success_wakes_all_heads_a_bounded_number_at_a_time(path: Path) -> None:
    with opened(path) as journal:
        parking, records = journal.parking, Teller(journal).tell("abcabc")
        for number, record in enumerate(records):
            parking.park("hook", [record], attempts=1, due=100.0 + number)
        assert [parking.wake("hook", 50.0, 2) for _ in range(3)] == [2, 1, 0]
        assert [one.record for one in parking.heads("hook", 50.0, 9)] == records[:3]


def test_it_is_bounded_dead_letters_go_first_and_then_the_oldest(path: Path) -> None:
    with opened(path) as journal:
        teller = Teller(journal)
        records: list[Record] = [teller.say(job, Log(line="x" * 500)) for job in "abab"]
        journal.commit()
        room = 3 * size_of(records[0].json)
    with opened(path, Retention(pin_bytes=room)) as journal:
        parking = journal.parking
        parking.bury("hook", records[1:2], attempts=1, since=0.0, due=0.0)
        assert parking.park("hook", records[:1], due=1.0) == 0
        assert parking.park("hook", records[2:3], due=2.0) == 0
        assert len(parking.dead("hook")) == 1
        assert parking.park("hook", records[3:], due=3.0) == 0
        assert (parking.dead("hook"), parking.waiting("hook")) == ([], 3)
        assert parking.park("hook", records[1:2], due=4.0) == 1
        assert shown(parking.heads("hook", 99.0, 5)) == [(2, 0, 4.0), (3, 0, 4.0)]
        assert parking.park("other", records[:1], due=0.0) == 0


def test_it_is_there_after_a_restart_and_forgotten_with_its_cursor(path: Path) -> None:
    with opened(path) as journal:
        records = Teller(journal).tell("ab")
        journal.cursors.claim("hook", 0)
        journal.parking.park("hook", records[:1], attempts=2, since=1.0, due=3.0)
        journal.parking.park("other", records[1:], due=4.0)
    with opened(path) as journal:
        assert journal.parking.heads("hook", 9.0, 5) == [Parked(record=records[0], attempts=2, since=1.0, due=3.0)]
        journal.cursors.forget("hook")
        assert (journal.parking.waiting("hook"), journal.parking.heads("hook", 9.0, 5)) == (0, [])
        assert journal.parking.waiting("other") == 1


def test_what_cannot_be_read_is_left_out_and_blocks_nobody(path: Path) -> None:
    notices: list[str] = []
    with opened(path, notify=notices.append) as journal:
        parking, records = journal.parking, Teller(journal).tell("aa")
        parking.park("hook", records, due=1.0)
        journal._file.sql.execute("UPDATE parked SET body = X'7B7D' WHERE offset = 1")
        assert parking.heads("hook", 9.0, 5) == []
        assert [one.record for one in parking.heads("hook", 9.0, 5)] == records[1:]
        assert parking.waiting("hook") == 1
    assert notices == ["the record parked for sink hook at offset 1 cannot be read, and is left out"]


def test_what_cannot_be_written_changes_nothing(path: Path) -> None:
    with opened(path) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        parking, records = journal.parking, Teller(journal).tell("aa")
        parking.park("hook", records[:1], due=1.0)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError):
            parking.park("hook", records[1:], due=1.0)
        with pytest.raises(JournalError):
            parking.unpark("hook", 1, due=1.0)
        other.execute("ROLLBACK")
        assert (parking.waiting("hook"), shown(parking.heads("hook", 9.0, 5))) == (1, [(1, 0, 1.0)])
