"""What is the journal in memory's own."""

from relay.journal import Keep, MemoryJournal
from relay.journal.memory import CUT_AT
from tests.journal.telling import Teller


def test_dropping_from_the_front_survives_the_cut() -> None:
    journal = MemoryJournal(Keep(records=5))
    records = Teller(journal).tell(["a"] * (CUT_AT + 50))

    assert journal.read(0) == records[-5:]
    assert journal.read(CUT_AT + 47) == records[-3:]


def test_two_journals_never_share_an_epoch() -> None:
    assert len({MemoryJournal().epoch for _ in range(100)}) == 100


def test_it_can_go_on_behind_another_journal_of_which_it_knows_nothing() -> None:
    journal = MemoryJournal(epoch="e", after=10)
    assert (journal.epoch, journal.head, journal.complete(9), journal.complete(10)) == ("e", 10, False, True)

    records = Teller(journal).tell("ab")
    assert journal.read(0) == records
    assert (journal.complete(9, ["c"]), journal.complete(10, ["a", "b", "c"])) == (False, True)
