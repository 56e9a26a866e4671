"""The newest records of a journal on disk, which are in memory as well."""

from pathlib import Path

import pytest

from relay.events import Record
from relay.journal import MemoryJournal, SqliteJournal, sqlite
from relay.journal._index import size_of
from relay.journal._recent import CUT_AT, OVERHEAD, Recent
from tests.journal.telling import Teller


def story(records: int) -> list[Record]:
    return Teller(MemoryJournal()).tell("a" * records)


def filled(recent: Recent, records: list[Record], together: int = 1) -> Recent:
    for first in range(0, len(records), together):
        several = records[first : first + together]
        recent.put(several, sum(size_of(record.json) for record in several))
    return recent


@pytest.mark.parametrize("together", [1, 7, 1_000])
def test_the_newest_stay_and_are_found_by_their_offsets(together: int) -> None:
    records = story(5_000)
    recent = filled(Recent(100, 1 << 30, 0), records, together)

    assert recent.trimmed_to == 4_900
    assert recent.behind(4_900, 512) == records[4_900:]
    assert recent.behind(4_950, 10) == records[4_950:4_960]
    assert recent.behind(5_000, 10) == recent.behind(5_007, 10) == []
    assert recent.at(iter([4_901, 4_950, 5_000]), 2) == [records[4_900], records[4_949]]


def test_records_beyond_the_bytes_are_left_out_but_for_the_newest() -> None:
    records = story(10)
    each = OVERHEAD + size_of(records[-1].json)
    assert filled(Recent(100, 3 * each, 0), records).trimmed_to == 7
    assert filled(Recent(100, 1, 0), records).behind(9, 10) == records[9:]


def test_places_of_records_that_are_left_out_are_given_up_before_they_are_many() -> None:
    recent, most = Recent(10, 1 << 30, 0), 0
    for record in story(3 * CUT_AT):
        filled(recent, [record])
        most = max(most, len(recent._places))
    assert most <= 21

    recent, records = Recent(20 * CUT_AT, 1 << 30, 0), story(3 * CUT_AT)
    filled(recent, records, CUT_AT)
    recent.drop(CUT_AT - 1)
    assert recent._places[: CUT_AT - 1] == [None] * (CUT_AT - 1)
    recent.drop(CUT_AT)
    assert recent._places == records[CUT_AT:]


def test_what_is_dropped_elsewhere_is_dropped_here_once() -> None:
    records = story(20)
    recent = filled(Recent(10, 1 << 30, 0), records)
    for up_to in (3, 15, 12):
        recent.drop(up_to)
    assert recent.trimmed_to == 15
    assert recent.behind(15, 10) == records[15:]
    recent.drop(99)
    assert recent._bytes == 0
    more = Teller(MemoryJournal(after=20)).tell("bb")
    assert filled(recent, more).behind(20, 10) == more


def test_records_that_cannot_be_read_are_left_out_and_do_not_move_the_others() -> None:
    records = story(30)
    recent = Recent(100, 1 << 30, 4)
    recent.load([record for record in records[4:20] if record.position.offset not in (5, 6, 13)])
    filled(recent, records[20:])

    assert recent.trimmed_to == 4
    assert recent.behind(4, 9) == [*records[6:12], *records[13:16]]
    assert recent.at([5, 12, 13, 14, 30], 3) == [records[11], records[13], records[29]]


def test_jobs_and_levels_of_which_all_is_new_are_read_without_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "RECENT_RECORDS", 5)
    executed: list[str] = []
    journal = SqliteJournal(tmp_path / "relay.db")
    teller = Teller(journal)
    records = teller.tell("aaaaaaabab")
    teller.end("b")
    journal.commit()
    journal._file.sql.set_trace_callback(executed.append)

    assert [record.job for record in journal.read(0, ["b"])] == ["b", "b", "b"]
    assert [record.terminal for record in journal.read(0, level="error")] == [True]
    assert journal.read(9) == [records[9], *journal.read(10)]
    assert journal.read(11) == journal.read(11, ["a", "b"]) == journal.read(0, ["c"]) == []
    assert executed == []

    assert journal.read(0, ["a", "b"], limit=8) == records[:8]
    assert executed != []
    journal.close()
