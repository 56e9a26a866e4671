"""The checker finds each violation in a history that has it, and none in one that has none."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from relay.events import Accepted, Checking, Done, Event, Failed, Position, Progress
from relay.jobs.state import JobState, recall
from relay.journal import StoredJob
from relay.journal.shared import Entry
from relay.wire.record_json import stamp
from tests.faults.cluster.checker import Takeover, check, takeovers
from tests.faults.cluster.history import (
    Account,
    Answer,
    Block,
    Call,
    Claim,
    Connection,
    Draft,
    Epoch,
    FaultNote,
    History,
    Request,
    Story,
    Task,
)

START = datetime(2026, 1, 1, tzinfo=UTC)

ACCEPTED, CHECKING = Accepted(upstream="one", task="t1"), Checking(attempt=1, of=9)
PROGRESS, DONE = Progress(percent=9, status="running"), Done(urls=("https://files.example/a.mp4",))


def entry(offset: int, seq: int, event: Event, job: str = "j1", *, node: str = "n1", token: int = 1) -> Entry:
    position = Position("e1", offset)
    return Entry(
        offset=offset,
        node=node,
        token=token,
        record=stamp(job, seq, START + timedelta(seconds=offset), event, position),
    )


def block(entry: Entry, epoch: str = "e1") -> Block:
    assert entry.record is not None
    return Block(entry.record.event.type, entry.record.json.decode(), f"{epoch}-{entry.offset}")


def notice(event: str, data: str, id: str) -> Block:
    return Block(event, data, id)


ENTRIES = [
    entry(1, 1, ACCEPTED),
    entry(2, 2, CHECKING),
    entry(3, 3, PROGRESS, node="n2", token=2),
    entry(4, 1, Accepted(upstream="one", task="t2"), "j2", node="n2", token=3),
    entry(5, 4, DONE, node="n2", token=2),
]


def state(entries: list[Entry], job: str) -> tuple[int, int, StoredJob]:
    own = [entry for entry in entries if entry.record is not None and entry.record.job == job]
    records = [entry.record for entry in own if entry.record is not None]
    return len(own), own[-1].offset, StoredJob(id=job, state=replace(recall(records), offset=0))


def call(entries: list[Entry], number: int = 1, **fields: Any) -> Call:
    drafts = [Draft(e.record.job, e.record.seq, e.record.json) for e in entries if e.record is not None]
    given = {"epoch": "e1", "outcome": "answered", "drafts": drafts} | fields
    return Call(node=entries[0].node, number=number, **given)


def history(entries: list[Entry] = ENTRIES, **fields: Any) -> History:
    """Two jobs and two nodes: the second node owns both shards in the end. Nothing is wrong with it."""
    states = {job: state(entries, job) for job in ("j1", "j2")}
    blocks = list(map(block, ENTRIES))
    given: dict[str, Any] = {
        "epochs": [Epoch(name="e1", base=0, entries=entries, states=states)],
        "claims": [Claim(7, 1, "n1", 0, 1.0), Claim(7, 2, "n2", 2, 12.0), Claim(8, 3, "n2", 2, 12.5)],
        "shards": {"j1": 7, "j2": 8},
        "accounts": {"one": Account(7, 1.0)},
        "lease": 2.0,
        "calls": [call(ENTRIES[:2]), call(ENTRIES[2:4]), call(ENTRIES[4:], 2)],
        "stories": [
            Story(
                reader="all",
                connections=[
                    Connection(node="n1", cursor="", blocks=blocks[:3]),
                    Connection(node="n2", cursor="e1-3", blocks=blocks[3:]),
                ],
            ),
            Story(reader="of j2", job="j2", connections=[Connection(node="n1", cursor="", blocks=[blocks[3]])]),
            Story(
                reader="of news",
                level="info",
                connections=[
                    Connection(node="n1", cursor="e1-1", blocks=[notice("heartbeat", "{}", "e1-2"), *blocks[2:]])
                ],
            ),
        ],
        "requests": [
            Request(10.0, "one", "submit", "n1", "key"),
            *(Request(10.0 + number, "one", "poll", "n1") for number in range(3)),
            Request(12.1, "one", "poll", "n2"),
        ],
        "answers": [Answer("key", "j1"), Answer("key", "j1")],
        "tasks": [Task("t1", "key", "done"), Task("t2", "other", "done")],
        "faults": [FaultNote(10.5, "kill", "n1")],
    }
    return History(**(given | fields))


def test_a_history_without_a_violation_passes() -> None:
    assert check(history()) == []


def test_the_time_of_a_takeover_is_that_from_the_fault_to_the_claim_of_another_node() -> None:
    assert takeovers(history()) == [Takeover("kill", 7, 1.5)]


def with_entries(change: Callable[[list[Entry]], None]) -> History:
    """The same history, but for the entries; whatever else is in it then follows from them."""
    entries = list(ENTRIES)
    change(entries)
    return replace(history(), epochs=[Epoch(name="e1", base=0, entries=entries)], calls=[], stories=[])


def an_answered_job_without_an_end() -> History:
    running = ENTRIES[:4]
    epoch = Epoch(name="e1", base=0, entries=running, states={job: state(running, job) for job in ("j1", "j2")})
    return replace(history(), epochs=[epoch], calls=[], stories=[])


def a_hole_in_the_offsets() -> History:
    return with_entries(lambda entries: entries.__setitem__(4, entry(6, 4, DONE, node="n2", token=2)))


def a_hole_in_the_seqs() -> History:
    return with_entries(lambda entries: entries.__setitem__(2, entry(3, 4, PROGRESS, node="n2", token=2)))


def a_repetition() -> History:
    return with_entries(lambda entries: entries.append(replace(entries[4], offset=6)))


def a_record_behind_the_end() -> History:
    return with_entries(lambda entries: entries.append(entry(6, 5, PROGRESS, node="n2", token=2)))


def a_stale_token() -> History:
    return with_entries(lambda entries: entries.__setitem__(2, entry(3, 3, PROGRESS)))


def a_token_of_another_node() -> History:
    return with_entries(lambda entries: entries.__setitem__(2, entry(3, 3, PROGRESS, node="n1", token=2)))


def a_token_that_nobody_claimed() -> History:
    return with_entries(lambda entries: entries.__setitem__(4, entry(5, 4, DONE, node="n2", token=9)))


def a_token_that_is_given_twice() -> History:
    return replace(history(), claims=[*history().claims, Claim(9, 3, "n1", 5, 13.0)])


def a_token_of_an_earlier_epoch() -> History:
    return replace(two_epochs(GAP, SNAPSHOT, LAST), claims=history().claims)


def an_acknowledged_record_that_is_gone() -> History:
    lost = call([entry(6, 2, CHECKING, "j2", node="n2", token=3)], 3)
    return replace(history(), calls=[*history().calls, lost])


def a_refused_record_that_is_there() -> History:
    first = history().calls[0]
    refused = replace(first, drafts=[first.drafts[0], first.drafts[1]._replace(refusal="hole")])
    return replace(history(), calls=[refused, *history().calls[1:]])


def a_record_that_nobody_wanted_to_append() -> History:
    return replace(history(), calls=history().calls[:2])


def an_append_of_unknown_outcome_that_is_there_twice() -> History:
    twice = [*ENTRIES, replace(ENTRIES[4], offset=6)]
    return replace(history(twice, stories=[]), calls=[*history().calls[:2], call(ENTRIES[4:], 2, outcome="unknown")])


def a_state_that_is_not_the_fold() -> History:
    epoch = history().epochs[0]
    states = {**(epoch.states or {}), "j1": (4, 5, StoredJob(id="j1", state=JobState(seq=4)))}
    return replace(history(), epochs=[replace(epoch, states=states)])


def a_state_that_is_missing() -> History:
    return replace(history(), epochs=[replace(history().epochs[0], states={"j1": state(ENTRIES, "j1")})])


def a_second_submit() -> History:
    return replace(history(), requests=[*history().requests, Request(13.0, "one", "submit", "n2", "key")])


def a_key_with_two_jobs() -> History:
    return replace(history(), answers=[Answer("key", "j1"), Answer("key", "j2")])


def an_answer_about_a_job_that_is_nowhere() -> History:
    return replace(history(), answers=[Answer("key", "j3")])


def polls_of_two_owners() -> History:
    polls = [Request(10.5 + number, "one", "poll", "n2") for number in range(6)]
    polls += [Request(13.0 + number, "one", "poll", "n1") for number in range(4)]
    return replace(history(), requests=[*history().requests, *polls])


def a_wrong_end() -> History:
    return replace(history(), tasks=[Task("t1", "key", "failed")])


def a_deadline_that_a_clock_made() -> History:
    late = Failed(kind="timeout", message="no end within 25 min")
    changed = with_entries(lambda entries: entries.__setitem__(4, entry(5, 4, late, node="n2", token=2)))
    return replace(changed, tasks=[Task("t1", "key", "failed")])


def a_new_epoch_without_a_cause() -> History:
    return replace(history(), epochs=[*history().epochs, Epoch(name="e2", base=100, entries=[])])


def reading(*connections: Connection, **fields: Any) -> History:
    return replace(history(), stories=[*history().stories, Story(reader="r", connections=[*connections], **fields)])


def a_hole_for_a_reader() -> History:
    return reading(Connection(node="n1", cursor="", blocks=[block(ENTRIES[0]), block(ENTRIES[2])]))


def a_hole_on_resuming() -> History:
    return reading(Connection(node="n1", cursor="e1-1", blocks=[block(ENTRIES[2])]))


def a_hole_that_a_heartbeat_passes_over() -> History:
    return reading(Connection(node="n1", cursor="e1-1", blocks=[notice("heartbeat", "{}", "e1-3")]))


def a_record_twice_for_a_reader() -> History:
    return reading(Connection(node="n1", cursor="e1-3", blocks=[block(ENTRIES[2])]))


def other_bytes_under_one_id() -> History:
    return reading(
        Connection(node="n1", cursor="e1-2", blocks=[block(ENTRIES[2])._replace(data='{"job":"j","seq":3}')])
    )


def a_record_that_is_in_no_stream() -> History:
    return reading(Connection(node="n1", cursor="e1-5", blocks=[block(entry(6, 5, PROGRESS))]), job="j1")


def a_snapshot_without_a_gap() -> History:
    return reading(Connection(node="n1", cursor="e1-1", blocks=[notice("snapshot", '{"jobs":[]}', "e1-5")]))


def a_skipped_change_of_state() -> History:
    left_out = [notice("skipped", '{"missed":4}', "e1-0"), block(ENTRIES[4])]
    return reading(Connection(node="n1", cursor="e1-0", blocks=left_out))


def another_number_of_skipped_records() -> History:
    first = [notice("skipped", '{"missed":3}', "e1-1"), block(ENTRIES[2])]
    return reading(Connection(node="n1", cursor="e1-1", blocks=[*first, notice("skipped", '{"missed":1}', "e1-3")]))


TWO_EPOCHS = [
    Epoch(name="e1", base=0, entries=ENTRIES[:3]),
    Epoch(
        name="e2",
        base=1000,
        entries=[
            Entry(offset=1001, node="n2", token=2, stored=state(ENTRIES[:3], "j1")[2]),
            entry(1002, 4, DONE, node="n2", token=2),
        ],
    ),
]


def two_epochs(*blocks: Block, epochs: list[Epoch] = TWO_EPOCHS, cursor: str = "e1-3") -> History:
    story = Story(reader="r", connections=[Connection(node="n1", cursor=cursor, blocks=[*blocks])])
    claims = [*history().claims, Claim(7, 2, "n2", 1000, 20.0, "e2")]
    return replace(history(), epochs=epochs, claims=claims, calls=[], stories=[story], most_epochs=2)


LAST = block(TWO_EPOCHS[1].entries[1], "e2")
GAP, SNAPSHOT = notice("gap", "{}", "e1-3"), notice("snapshot", '{"jobs":[]}', "e2-1001")


def test_a_reader_that_is_sent_a_gap_goes_on_in_a_new_epoch() -> None:
    assert check(two_epochs(GAP, SNAPSHOT, LAST)) == []


def test_a_node_may_carry_over_a_state_that_the_owner_of_its_shard_does_not_know() -> None:
    carried = Entry(offset=1001, node="n1", token=2, stored=state(ENTRIES[:3], "j1")[2])
    second = Epoch(name="e2", base=1000, entries=[carried, TWO_EPOCHS[1].entries[1]])

    assert check(two_epochs(GAP, SNAPSHOT, LAST, epochs=[TWO_EPOCHS[0], second])) == []
    unclaimed = Epoch(name="e2", base=1000, entries=[replace(carried, token=9), *second.entries[1:]])
    [violation] = check(two_epochs(GAP, SNAPSHOT, LAST, epochs=[TWO_EPOCHS[0], unclaimed]))
    assert violation.invariant == "fence"


def test_a_job_whose_task_was_lost_with_the_engine_ends_as_one_whose_submission_was_cut_off() -> None:
    known = state(ENTRIES[:3], "j1")[2]
    lost = Failed(kind="lost", message="the relay stopped while submitting")

    def played(task: str | None) -> History:
        carried = replace(known, state=replace(known.state, task=task))
        entries = [
            Entry(offset=1001, node="n2", token=2, stored=carried),
            entry(1002, 4, lost, node="n2", token=2),
        ]
        return replace(two_epochs(epochs=[TWO_EPOCHS[0], Epoch(name="e2", base=1000, entries=entries)]), stories=[])

    assert check(played(None)) == []
    assert {violation.invariant for violation in check(played("t1"))} == {"end"}


def test_a_node_that_starts_on_an_empty_engine_may_begin_an_epoch_at_0_before_those_that_know_more() -> None:
    epochs = [TWO_EPOCHS[0], Epoch(name="e0", base=0, entries=[]), TWO_EPOCHS[1]]

    assert check(two_epochs(GAP, SNAPSHOT, LAST, epochs=epochs)) == []


def test_the_only_record_of_a_job_may_be_appended_again_in_a_new_epoch_if_no_node_had_it() -> None:
    lost = Epoch(name="e1", base=0, entries=ENTRIES[:1])
    again = replace(ENTRIES[0], offset=1001, node="n2", token=2)

    def played(entry: Entry) -> History:
        epochs = [lost, Epoch(name="e2", base=1000, entries=[entry])]
        return replace(two_epochs(epochs=epochs), stories=[])

    assert check(played(again)) == []
    [violation] = check(played(entry(1001, 1, ACCEPTED, node="n2", token=2)))
    assert "goes on in e2 with seq 1" in violation.words


def test_a_slow_reader_may_be_spared_polls_and_progress_if_it_is_notified() -> None:
    blocks = [notice("skipped", '{"missed":2}', "e1-1"), block(ENTRIES[3]), block(ENTRIES[4])]

    assert check(reading(Connection(node="n1", cursor="e1-1", blocks=blocks))) == []


def test_a_new_reader_may_be_sent_a_snapshot_in_place_of_old_records() -> None:
    blocks = [notice("snapshot", '{"jobs":[]}', "e1-3"), block(ENTRIES[3])]

    assert check(reading(Connection(node="n1", cursor="", blocks=blocks))) == []


def a_new_epoch_without_a_gap() -> History:
    return two_epochs(LAST)


def a_job_that_begins_again_in_a_new_epoch() -> History:
    again = Epoch(name="e2", base=1000, entries=[entry(1001, 1, ACCEPTED, node="n2", token=2)])
    return two_epochs(epochs=[TWO_EPOCHS[0], again])


def an_epoch_that_uses_offsets_again() -> History:
    return two_epochs(epochs=[TWO_EPOCHS[0], Epoch(name="e2", base=2, entries=[entry(3, 4, DONE, node="n2", token=2)])])


@pytest.mark.parametrize(
    ("broken", "invariant"),
    [
        (a_hole_in_the_offsets, "offsets"),
        (a_hole_in_the_seqs, "seq"),
        (a_repetition, "seq"),
        (a_record_behind_the_end, "end"),
        (a_stale_token, "fence"),
        (a_token_of_another_node, "fence"),
        (a_token_that_nobody_claimed, "fence"),
        (a_token_that_is_given_twice, "fence"),
        (a_token_of_an_earlier_epoch, "fence"),
        (an_acknowledged_record_that_is_gone, "lost"),
        (a_refused_record_that_is_there, "refused"),
        (a_record_that_nobody_wanted_to_append, "invented"),
        (an_append_of_unknown_outcome_that_is_there_twice, "once"),
        (a_state_that_is_not_the_fold, "state"),
        (a_state_that_is_missing, "state"),
        (a_second_submit, "submits"),
        (a_key_with_two_jobs, "keys"),
        (an_answer_about_a_job_that_is_nowhere, "lost"),
        (polls_of_two_owners, "polls"),
        (a_wrong_end, "end"),
        (an_answered_job_without_an_end, "end"),
        (a_deadline_that_a_clock_made, "end"),
        (a_new_epoch_without_a_cause, "epochs"),
        (a_hole_for_a_reader, "hole"),
        (a_hole_on_resuming, "hole"),
        (a_hole_that_a_heartbeat_passes_over, "hole"),
        (a_record_twice_for_a_reader, "reader"),
        (other_bytes_under_one_id, "bytes"),
        (a_record_that_is_in_no_stream, "bytes"),
        (a_snapshot_without_a_gap, "gap"),
        (a_skipped_change_of_state, "hole"),
        (another_number_of_skipped_records, "hole"),
        (a_new_epoch_without_a_gap, "gap"),
        (a_job_that_begins_again_in_a_new_epoch, "seq"),
        (an_epoch_that_uses_offsets_again, "epochs"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_a_violation_is_found(broken: Callable[[], History], invariant: str) -> None:
    assert invariant in {violation.invariant for violation in check(broken())}
