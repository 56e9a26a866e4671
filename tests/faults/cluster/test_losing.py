"""A loss of the engine excuses what it may take with it, and nothing else."""

from datetime import UTC, datetime, timedelta

from relay.events import Accepted, Checking, Event, Position
from relay.jobs.state import JobState
from relay.journal import StoredJob
from relay.journal.shared import Entry
from relay.wire.record_json import stamp
from tests.faults.cluster.checker import check_submits
from tests.faults.cluster.history import Answer, Epoch, History, Request
from tests.faults.cluster.losing import RECENT, accepted_again, check_gone, forgotten

START = datetime(2026, 1, 1, tzinfo=UTC)
ACCEPTED, CHECKING = Accepted(upstream="one", task="t"), Checking(attempt=1, of=9)


def entry(offset: int, at: float, job: str, event: Event = ACCEPTED, seq: int = 1, key: str | None = None) -> Entry:
    record = stamp(job, seq, START + timedelta(seconds=at), event, Position("e", offset))
    stored = StoredJob(id=job, state=JobState(), key=key) if seq == 1 else None
    return Entry(offset=offset, node="n1", token=1, record=record, stored=stored)


def history(*epochs: list[Entry], gone: tuple[str, ...] = (), answers: tuple[Answer, ...] = ()) -> History:
    return History(
        epochs=[Epoch(name=f"e{number}", base=1000 * number, entries=entries) for number, entries in enumerate(epochs)],
        claims=[],
        shards={},
        accounts={},
        lease=1.0,
        requests=[Request(0.0, "one", "submit", "n1", "key")] * 2,
        answers=[*answers],
        gone=[*gone],
    )


LONG = RECENT + 1.0
BEFORE = [entry(1, 0.0, "old"), entry(2, LONG, "new", key="key"), entry(3, LONG + 1, "old", CHECKING, 2)]
BEHIND = [entry(1001, 100.0, "third"), entry(1002, 100.0 + LONG, "fourth")]


def test_a_job_that_was_accepted_just_before_a_loss_may_be_forgotten_and_no_other() -> None:
    lost = history(BEFORE, BEHIND, gone=("new", "old"))

    assert forgotten(lost) == {"new"}
    [violation] = check_gone(lost)
    assert (violation.invariant, violation.words.split()[0]) == ("lost", "old")
    assert forgotten(history(BEFORE)) == set(), "without a loss"
    carried = Entry(offset=1003, node="n1", token=1, stored=StoredJob(id="new", state=JobState()))
    assert forgotten(history(BEFORE, [*BEHIND, carried])) == set(), "a node has carried it over"


def test_the_key_of_a_forgotten_job_may_be_accepted_again() -> None:
    again = [*BEHIND, entry(1003, 200.0, "other", key="key")]
    answers = (Answer("key", "new"), Answer("key", "other"))

    assert accepted_again(history(BEFORE, again)) == {"key"}
    assert list(check_submits(history(BEFORE, again, answers=answers))) == []
    once = history([*BEFORE, entry(4, LONG + 2, "other", key="key")], BEHIND, answers=answers)
    assert accepted_again(once) == set(), "twice in one epoch"
    assert {violation.invariant for violation in check_submits(once)} == {"submits", "keys"}


def test_a_key_may_be_accepted_again_by_a_node_that_has_just_begun_behind_a_loss() -> None:
    before = [entry(1, 0.0, "new", key="key"), entry(2, LONG, "old")]

    assert accepted_again(history(before, [entry(1001, 100.0, "other", key="key"), *BEHIND[1:]])) == {"key"}
    late = [entry(1001, 100.0, "third"), entry(1002, 100.0 + LONG, "other", key="key")]
    assert accepted_again(history(before, late)) == set()


def test_the_key_of_a_job_is_known_from_the_answer_if_the_journal_does_not_have_it() -> None:
    before = [entry(1, 0.0, "old"), entry(2, LONG, "new")]
    again = [*BEHIND, entry(1003, 200.0, "other", key="key")]

    assert accepted_again(history(before, again, answers=(Answer("key", "new"),))) == {"key"}
    assert accepted_again(history(before, again)) == set()
