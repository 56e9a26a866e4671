"""What an audit finds: recordings that tell the same story pass, and any line that is missing is missed."""

import io
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.audit import Verdict, audit
from relay.audit.chats import ChatLine, ChatRecording, compare_chat
from relay.audit.recordings import LINE_LIMIT, RecordedEvent, lines_of
from relay.errors import UsageError
from relay.events import Accepted, Checking, Done, Event, Failed, Log, Position, Progress, Received, Record
from relay.wire.record_json import stamp
from sinks.sse import HEARTBEAT, frame, line, notice_frame, notice_line

START = datetime(2026, 1, 1, tzinfo=UTC)

STORIES: dict[str, list[Event]] = {
    "job_a": [
        Accepted(upstream="sora"),
        Accepted(upstream="sora", task="task_1"),
        Checking(attempt=1, of=600),
        Received(listed=2, seconds=0.25),
        Progress(percent=9, status="running"),
        Done(urls=("https://example.org/a.mp4",)),
    ],
    "job_b": [
        Accepted(upstream="sora", task="task_2"),
        Log(line="two lines\nof text, \u2028 and a caf\u00e9"),
        Failed(kind="policy", message="refused"),
    ],
}


def records(order: Iterable[str] = "abababaaa") -> list[Record]:
    """The stories of two jobs, told in turns."""
    told: dict[str, int] = {}
    story = []
    for offset, letter in enumerate(order, 1):
        job = f"job_{letter}"
        told[job] = seq = told.get(job, 0) + 1
        story.append(stamp(job, seq, START, STORIES[job][seq - 1], Position("e", offset)))
    return story


STORY = records()
CONSOLE = [line(record) for record in STORY]
STREAM = b"".join(
    [
        HEARTBEAT,
        notice_frame("snapshot", {"jobs": []}, "e-0", retry=2000),
        *(frame(record) for record in STORY[:4]),
        HEARTBEAT,
        *(frame(record) for record in STORY[4:]),
        notice_frame("bye", {"reason": "the relay is shutting down"}, f"e-{len(STORY)}", retry=2000),
    ]
).splitlines(keepends=True)


def compare(*recordings: Iterable[bytes], jobs: Iterable[str] | None = None) -> Verdict:
    named = [(f"recording {name}", lines) for name, lines in zip("ABCDE", recordings, strict=False)]
    return audit(named, jobs=None if jobs is None else set(jobs))


def findings(*recordings: Iterable[bytes], jobs: Iterable[str] | None = None) -> list[str]:
    return list(compare(*recordings, jobs=jobs).findings)


def without(lines: list[bytes], number: int) -> list[bytes]:
    return lines[:number] + lines[number + 1 :]


def test_a_console_and_a_stream_of_the_same_records_tell_the_same_story() -> None:
    assert compare(CONSOLE, STREAM) == Verdict(recordings=2, jobs=2, records=len(STORY), findings=())


def test_more_than_two_recordings_are_compared_at_once() -> None:
    assert compare(CONSOLE, STREAM, CONSOLE, STREAM) == Verdict(recordings=4, jobs=2, records=len(STORY), findings=())


def test_json_lines_of_a_stream_are_a_recording_too() -> None:
    ndjson = [b"\n", *CONSOLE, notice_line("bye", {"reason": "the relay is shutting down"}, "e-9")]
    assert compare(CONSOLE, ndjson).same


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_what_a_specification_lets_pass_is_no_difference(ending: bytes) -> None:
    stream = [b"\xef\xbb\xbf" + STREAM[0], *STREAM[1:]]
    assert compare(CONSOLE, [line.replace(b"\n", ending) for line in stream]).same


@pytest.mark.parametrize("number", range(len(CONSOLE)))
@pytest.mark.parametrize("first", [True, False])
def test_any_json_line_that_is_deleted_is_missed_by_job_and_seq(number: int, first: bool) -> None:
    shortened, record = without(CONSOLE, number), STORY[number]
    found = findings(shortened, STREAM) if first else findings(STREAM, shortened)
    one, other = ("B", "A") if first else ("A", "B")
    said = f"{record.event.type} {record.event.text!r}"
    assert found == [f"{record.job} seq {record.seq}: recording {one} says {said}, recording {other} says nothing"]


DELETABLE = [number for number, line in enumerate(STREAM) if not line.startswith((b":", b"retry:"))]


@pytest.mark.parametrize("number", DELETABLE)
@pytest.mark.parametrize("first", [True, False])
def test_any_line_of_a_block_that_is_deleted_is_found(number: int, first: bool) -> None:
    shortened = without(STREAM, number)
    assert findings(shortened, CONSOLE) if first else findings(CONSOLE, shortened)


QUIET = [line(record) for record in STORY if record.event.level != "debug"]
AGREED = Verdict(recordings=2, jobs=2, records=len(QUIET), findings=(), level="info")


@pytest.mark.parametrize("pair", [(QUIET, STREAM), (STREAM, QUIET), (QUIET, QUIET)], ids=["first", "second", "both"])
def test_a_recording_of_level_info_is_compared_as_far_as_it_goes(pair: tuple[list[bytes], list[bytes]]) -> None:
    """The console prints `info` by default, and a stream has everything."""
    assert compare(*pair) == AGREED


@pytest.mark.parametrize("number", range(len(QUIET)))
def test_any_line_that_is_deleted_from_a_recording_of_level_info_is_missed(number: int) -> None:
    (finding,) = findings(without(QUIET, number), STREAM)
    assert finding.endswith("recording A says nothing")


def test_one_record_of_level_debug_makes_a_recording_that_must_hold_them_all() -> None:
    lines = [line(record) for record in STORY if record.event.type != "received"]
    said = "received 'answered in 0.25 s, 2 jobs listed'"
    assert findings(lines, STREAM) == [f"job_a seq 4: recording B says {said}, recording A says nothing"]


def test_a_long_time_without_news_is_no_hole_in_recordings_of_level_info() -> None:
    far = stamp("job_a", 10**6, START, Log(line="news"), Position("e", 10**6))
    lines = [CONSOLE[0], line(far)]
    assert compare(lines, lines).same


def test_a_chat_is_compared_with_a_recording_of_level_info_beside_its_signs_of_life() -> None:
    chat = ChatRecording(
        "chat", "job_a", lines=[ChatLine("accepted"), ChatLine("9% (running), soon"), ChatLine("over")]
    )
    records = [
        RecordedEvent("job_a", 1, "accepted", "accepted", "info"),
        RecordedEvent("job_a", 9, "log", "over", "info"),
    ]

    assert compare_chat(chat, "console", records, quiet=True) == ([], 2)
    findings, same = compare_chat(chat, "console", records)
    assert (len(findings), same) == (1, 2)


@pytest.mark.parametrize("number", [number for number, line in enumerate(STREAM) if line.startswith(b":")])
def test_a_heartbeat_that_is_deleted_is_no_difference(number: int) -> None:
    assert compare(CONSOLE, without(STREAM, number)).same


@pytest.mark.parametrize("record", STORY)
def test_what_is_deleted_from_a_record_is_named_by_its_job_and_seq(record: Record) -> None:
    begins = STREAM.index(b"id: %b\n" % str(record.position).encode(), STREAM.index(b"\n") + 1) - 2
    who = f"{record.job} seq {record.seq}"
    event_line, data_line, id_line, blank_line = range(begins, begins + 4)

    assert findings(CONSOLE, without(STREAM, id_line)) == [
        f"recording B: {who} has no id, in the block that begins in line {begins + 1}"
    ]
    assert findings(CONSOLE, without(STREAM, event_line)) == [f"recording B: {who} has no event"]
    said = f"{record.event.type} {record.event.text!r}"
    assert sorted(findings(CONSOLE, without(STREAM, data_line))) == [
        f"{who}: recording A says {said}, recording B says nothing",
        f"recording B: the block that begins in line {begins + 1} has no data"
        f" (id {record.position}, event {record.event.type})",
    ]
    (run_together,) = findings(CONSOLE, without(STREAM, blank_line))
    assert run_together.startswith(
        f"recording B: the block that begins in line {begins + 1} is two run into one: no reader gets {who}"
    )


def test_the_truncated_last_block_of_a_stream_is_reported() -> None:
    stream = b"".join(map(frame, STORY)).splitlines(keepends=True)
    assert findings(CONSOLE, stream[:-1]) == [
        "recording B: ends within the block of job_a seq 6 that begins in line 33: no reader gets it"
    ]
    assert findings(CONSOLE, [*stream[:-3], b'data: {"v":1,"jo']) == [
        "recording B: ends within the block that begins in line 33: no reader gets it",
        "job_a seq 6: recording A says done 'done, 1 file', recording B says nothing",
    ]


def test_a_last_json_line_that_is_cut_off_is_reported() -> None:
    assert findings([*CONSOLE[:-1], CONSOLE[-1][:20]], CONSOLE) == [
        "recording A: line 9 is cut off",
        "job_a seq 6: recording B says done 'done, 1 file', recording A says nothing",
    ]


def test_other_words_are_quoted_from_both() -> None:
    altered = [line.replace(b"9% (running)", b"10% (running)") for line in STREAM]
    assert findings(CONSOLE, altered) == [
        "job_a seq 5: recording A says progress '9% (running)', recording B says progress '10% (running)'"
    ]


def test_text_in_a_recording_cannot_act_on_a_terminal() -> None:
    altered = [line.replace(b"9% (running)", rb"\u001b[2J") for line in CONSOLE]
    (finding,) = findings(CONSOLE, altered)
    assert finding.isprintable()


def test_another_order_across_jobs_is_found() -> None:
    assert findings(CONSOLE, [line(record) for record in records("aabbabaaa")]) == [
        "job_b seq 1: recording B has it after job_a seq 2, recording A before it"
    ]


def test_a_record_that_comes_too_late_is_found_once() -> None:
    moved = [*CONSOLE[1:2], *CONSOLE[3:4], *CONSOLE[5:6], *CONSOLE[0:1], *CONSOLE[2:3], *CONSOLE[4:5], *CONSOLE[6:]]
    assert all("job_b" in finding for finding in findings(CONSOLE, moved))
    assert findings(CONSOLE, moved)


def test_a_record_that_comes_twice_or_late_within_its_job_is_found() -> None:
    assert findings([*CONSOLE[:2], CONSOLE[1], *CONSOLE[2:]], CONSOLE) == ["recording A: job_b seq 1 comes twice"]
    assert "recording A: job_a seq 1 comes after seq 2" in findings([CONSOLE[2], CONSOLE[0], *CONSOLE[1:]], CONSOLE)


def test_a_hole_that_all_recordings_have_is_found() -> None:
    holed = without(CONSOLE, 2)
    assert findings(holed, holed) == ["job_a seq 2: recording A and recording B say nothing, though more follows"]


def test_a_hole_of_any_size_is_one_finding() -> None:
    far = stamp("job_a", 10**12, START, Checking(attempt=1, of=1), Position("e", 99))
    lines = [CONSOLE[0], line(far)]
    assert findings(lines, lines) == [f"recording {name}: job_a seq {10**12} follows seq 1" for name in "AB"]


def test_recordings_that_begin_late_together_are_consistent() -> None:
    assert compare(CONSOLE[4:], CONSOLE[4:]).same


def test_what_comes_after_the_end_of_a_job_is_found() -> None:
    more = stamp("job_b", 4, START, Log(line="still here"), Position("e", 10))
    lines = [*CONSOLE, line(more)]
    assert findings(lines, lines) == [
        f"recording {name}: job_b seq 4 comes after the end of the job, seq 3" for name in "AB"
    ]


@pytest.mark.parametrize(
    ("id", "finding"),
    [
        (b"e-1", "job_b seq 1 has the id e-1, which is not behind e-1"),
        (b"<script>", "job_b seq 1 has an id that is no position: '<script>'"),
    ],
)
def test_ids_that_do_not_go_on_are_found(id: bytes, finding: str) -> None:
    altered = [line.replace(b"id: e-2", b"id: " + id) for line in STREAM]
    assert findings(CONSOLE, altered) == [f"recording B: {finding}"]


def test_an_event_that_is_not_the_type_of_its_record_is_found() -> None:
    altered = [line.replace(b"event: failed", b"event: error") for line in STREAM]
    assert findings(CONSOLE, altered) == ["recording B: job_b seq 3 is called 'error', but its type is 'failed'"]


@pytest.mark.parametrize("notice", ["gap", "skipped"])
def test_a_recording_that_says_it_missed_something_is_found(notice: str) -> None:
    stream = [*STREAM, *notice_frame(notice, {"missed": 3}, "e-9").splitlines(keepends=True)]
    assert findings(CONSOLE, stream) == [f'recording B: says itself that it missed something: {notice} {{"missed":3}}']
    ndjson = [*CONSOLE, notice_line(notice, {"missed": 3}, "e-9")]
    assert [finding[:54] for finding in findings(CONSOLE, ndjson)] == [
        "recording B: says itself that it missed something: " + notice[:3]
    ]


@pytest.mark.parametrize(
    "stray", [b"relay: sink Mail failed\n", b'{"job":"job_a"}\n', b"[]\n", b"\xff\n", b"[" * 5_000]
)
def test_a_line_that_is_no_record_is_found(stray: bytes) -> None:
    assert findings([*CONSOLE, stray], CONSOLE)[0].startswith("recording A: line 10 is ")
    stream = [*STREAM[:2], stray, *STREAM[2:]]
    assert findings(STREAM, stream) == ["recording B: line 3 is no line of an SSE stream"]


def test_an_audit_can_be_of_some_jobs_alone() -> None:
    altered = [line.replace(b"9% (running)", b"10% (running)") for line in STREAM]
    assert compare(CONSOLE, altered, jobs=["job_b"]) == Verdict(recordings=2, jobs=1, records=3, findings=())
    assert not compare(CONSOLE, altered, jobs=["job_a"]).same


def test_a_recording_of_one_job_is_compared_with_its_part_of_another() -> None:
    one = [frame(record) for record in STORY if record.job == "job_a"]
    assert compare(CONSOLE, b"".join(one).splitlines(keepends=True), jobs=["job_a"]).same


def test_a_job_that_nobody_told_of_is_not_the_same_story() -> None:
    with pytest.raises(UsageError, match="no recording holds a record of job_x"):
        compare(CONSOLE, STREAM, jobs=["job_x"])


def test_findings_are_bounded_and_what_is_left_out_is_counted() -> None:
    altered = CONSOLE[0].replace(b"accepted", b"Accepted")
    verdict = audit([("A", CONSOLE), ("B", [altered, CONSOLE[4]])], max_findings=3)
    assert (len(verdict.findings), verdict.further) == (3, len(STORY) - 1 - 3)


def test_recordings_of_different_stories_are_not_held_in_memory_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.audit.compare.MAX_WAITING", 1_000)

    def told(job: str) -> Iterable[bytes]:
        return (b'{"job":"%b","seq":%d,"type":"log","text":""}\n' % (job.encode(), seq) for seq in range(1, 10**9))

    assert findings(told("job_a"), told("job_b")) == [
        "recording A and recording B are more than 1,000 records apart; the rest was not compared"
    ]


@pytest.mark.parametrize("empty", [[], [b""], [b"\n", b"\n"], [b":\n", b":\n"]])
def test_an_empty_recording_is_refused(empty: list[bytes]) -> None:
    with pytest.raises(UsageError, match=r"^recording B holds no record$"):
        compare(CONSOLE, empty)


@pytest.mark.parametrize(
    "lines", [[b"16:00:05.123 info    job_a   1 accepted\n"], [b"\x89PNG\r\n"], [b"<!doctype html>"]]
)
def test_what_is_no_recording_is_refused_with_how_to_make_one(lines: list[bytes]) -> None:
    with pytest.raises(UsageError, match=r"^recording B: line 1 is neither .* --log-format json, and .* curl -sN$"):
        compare(CONSOLE, lines)


def test_one_recording_alone_is_refused() -> None:
    with pytest.raises(UsageError, match="two recordings or more"):
        compare(CONSOLE)


def test_a_file_is_read_line_by_line_within_a_limit() -> None:
    assert list(lines_of(io.BytesIO(b"a\n\nb"))) == [b"a\n", b"\n", b"b"]
    with pytest.raises(UsageError, match="line 2 is longer than 1,048,576 bytes"):
        list(lines_of(io.BytesIO(b"a\n" + b"x" * (LINE_LIMIT + 1))))


@given(order=st.lists(st.sampled_from("ab"), min_size=2, max_size=9), data=st.data())
def test_any_two_orders_of_two_stories_pass_exactly_where_they_are_the_same(
    order: list[str], data: st.DataObject
) -> None:
    order = [
        letter for number, letter in enumerate(order) if order[:number].count(letter) < len(STORIES[f"job_{letter}"])
    ]
    other = data.draw(st.permutations(order))
    verdict = compare([line(record) for record in records(order)], [line(record) for record in records(other)])
    assert verdict.same is (order == other)
