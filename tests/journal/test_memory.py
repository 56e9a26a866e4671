"""What is the journal in memory's own."""

import pytest
from msgspec.structs import replace

from relay.events import Log, Position, Record, rank
from relay.journal import MemoryJournal, Retention, memory
from relay.journal.memory import CUT_AT
from tests.journal.telling import Teller


def test_dropping_from_the_front_survives_the_cut() -> None:
    journal = MemoryJournal(Retention(records=5))
    records = Teller(journal).tell(["a"] * (CUT_AT + 50))

    assert journal.read(0) == records[-5:]
    assert journal.read(CUT_AT + 47) == records[-3:]


def test_two_journals_never_share_an_epoch() -> None:
    assert len({MemoryJournal().epoch for _ in range(100)}) == 100


def test_it_can_go_on_behind_another_journal_of_which_it_knows_nothing() -> None:
    journal = MemoryJournal(epoch="e", after=10)
    assert (journal.epoch, journal.head, journal.has_all_since(9), journal.has_all_since(10)) == ("e", 10, False, True)

    records = Teller(journal).tell("ab")
    assert journal.read(0) == records
    assert (journal.has_all_since(9, ["c"]), journal.has_all_since(10, ["a", "b", "c"])) == (False, True)


def test_a_job_that_goes_on_from_before_is_not_taken_for_whole() -> None:
    journal = MemoryJournal(epoch="e", after=10)
    teller = Teller(journal)
    teller.seqs["old"] = 4
    old, new = teller.tell(["old", "new"])

    assert (old.seq, new.seq) == (5, 1)
    assert [journal.has_all_since(after, ["old"]) for after in (0, 9, 10)] == [False, False, True]
    assert journal.has_all_since(0, ["new"])


def test_a_million_records_of_one_job_leave_no_more_behind_than_is_kept() -> None:
    keep = Retention(records=1_000)
    journal = MemoryJournal(keep)
    (first,) = Teller(journal).tell("a")
    most = 0
    for offset in range(2, 1_000_001):
        journal.append(replace(first, seq=offset, position=Position(journal.epoch, offset)))
        if offset % 100 == 0:
            journal.commit()
            most = max(most, *(len(shelf.records) for shelf in (journal._all, journal._by_job["a"])))

    assert (journal.head, len(journal.read(0, limit=2_000))) == (1_000_000, 1_000)
    assert most <= keep.records + CUT_AT


def test_a_dropped_record_is_released_however_many_jobs_there_are() -> None:
    keep = Retention(records=100)
    journal = MemoryJournal(keep)
    Teller(journal).tell(f"job {number % 200}" for number in range(5_000))
    shelves = [journal._all, *journal._by_job.values()]
    places = [record for shelf in shelves for record in shelf.records]

    assert len({record.position for record in filter(None, places)}) == keep.records
    assert len(places) <= 2 * 2 * keep.records


def test_a_long_journal_holds_on_to_few_empty_places() -> None:
    keep = Retention(records=4 * CUT_AT)
    journal = MemoryJournal(keep)
    teller = Teller(journal)
    most = 0
    for _ in range(80):
        teller.tell(["a"] * 100)
        most = max(most, len(journal._all.records))

    assert len(journal.read(0, limit=8_000)) == keep.records
    assert most <= keep.records + CUT_AT + 100


def test_jobs_that_have_ended_leave_nothing_behind() -> None:
    journal = MemoryJournal(Retention(records=100))
    teller = Teller(journal)
    for number in range(2_000):
        teller.say(f"job {number}")
        teller.end(f"job {number}")
        journal.commit()

    assert len(journal._by_job) <= 51


def test_an_error_that_a_running_job_reports_is_not_its_end() -> None:
    journal = MemoryJournal(Retention(age=60.0))
    teller = Teller(journal)
    teller.say("runs", Log(line="out of memory, going on", severity="error"))
    teller.end("ends")
    teller.tell(["other"])
    teller.wait(3_600.0)
    records = teller.tell(["other"])

    assert [record.job for record in journal.read(0)] == ["runs", "ends", "other", records[0].job]


@pytest.mark.parametrize("records", [1_000, 32_000])
def test_a_cursor_is_found_in_as_many_steps_as_the_number_of_records_has_bits(
    records: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = MemoryJournal()
    Teller(journal).tell(["a"] * records)
    looked_at: list[Record] = []

    def offset(record: Record) -> int:
        looked_at.append(record)
        return record.position.offset

    monkeypatch.setattr(memory, "_offset", offset)

    for cursor in range(0, records, records // 100):
        looked_at.clear()
        assert journal.read(cursor, ["a"], limit=1)[0].position.offset == cursor + 1
        assert 1 <= len(looked_at) <= records.bit_length()


def test_a_level_is_found_without_a_look_at_the_records_that_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = MemoryJournal()
    teller = Teller(journal)
    looked_at: list[Record] = []

    def ranked(record: Record) -> int:
        looked_at.append(record)
        return rank(record)

    def offset(record: Record) -> int:
        looked_at.append(record)
        return record.position.offset

    first = teller.say("a", Log(line="oh", severity="error"))
    records = teller.tell("ab" * 10_000)
    last = teller.end("b")
    journal.commit()
    monkeypatch.setattr(memory, "rank", ranked)
    monkeypatch.setattr(memory, "_offset", offset)

    for jobs in (None, ["a", "b"]):
        looked_at.clear()
        assert journal.read(0, jobs, level="error") == [first, last]
        assert len(looked_at) <= 4 * len(records).bit_length()
    looked_at.clear()
    assert journal.read(last.position.offset, level="error") == []
    assert journal.read(first.position.offset, ["a"], level="error") == []
    assert len(looked_at) <= 2 * len(records).bit_length()
