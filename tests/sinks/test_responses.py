"""Records as events of a response: what the helpers of the SDKs need, where they need it, and a number for each."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import Cancelled, Checking, Done, Event, Failed, FailureKind, Log, Position, Progress, Record
from sinks.answers import FAILURE_CODES
from sinks.responses import SUMMARY, ResponseEvents, summary_of

EVENTS = ResponseEvents(job="job_7", created=1_764_349_200, model="sora-video")
DELTA = "response.reasoning_summary_text.delta"
NO_TOKENS = {
    "input_tokens": 0,
    "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}


def record(event: Event, seq: int = 3) -> Record:
    position = Position("e1", 42)
    return Record(job="job_7", seq=seq, at=datetime(2026, 11, 29, tzinfo=UTC), event=event, position=position, json=b"")


def documents(data: bytes) -> list[Any]:
    """The data of each block, whose event has the same name as its type."""
    read = []
    for block in data.decode("ascii").split("\n\n")[:-1]:
        event, line = block.split("\n")
        read.append(json.loads(line.removeprefix("data: ")))
        assert event == f"event: {read[-1]['type']}"
    return read


def numbers(data: bytes) -> list[int]:
    return [document["sequence_number"] for document in documents(data)]


def response(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_job_7",
        "object": "response",
        "created_at": 1_764_349_200,
        "status": status,
        "background": True,
        "error": None,
        "incomplete_details": None,
        "metadata": {},
        "model": "sora-video",
        "output": [],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        **more,
    }


def reasoning(status: str, *texts: str) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text} for text in texts]
    return {"id": "rs_job_7", "type": "reasoning", "status": status, "summary": summary}


def test_a_response_opens_with_its_states_and_its_reasoning_before_any_record() -> None:
    place = {"item_id": "rs_job_7", "output_index": 0, "summary_index": 0}
    assert documents(EVENTS.opening()) == [
        {"type": "response.created", "sequence_number": 0, "response": response("queued")},
        {"type": "response.queued", "sequence_number": 1, "response": response("queued")},
        {"type": "response.in_progress", "sequence_number": 2, "response": response("in_progress")},
        {
            "type": "response.output_item.added",
            "sequence_number": 3,
            "output_index": 0,
            "item": reasoning("in_progress"),
        },
        {
            "type": "response.reasoning_summary_part.added",
            "sequence_number": 4,
            **place,
            "part": {"type": "summary_text", "text": ""},
        },
    ]


def test_a_record_is_one_delta_of_the_summary_with_the_percentage_if_it_has_one() -> None:
    data = EVENTS.record(record(Progress(percent=12, status="running")))
    assert data.decode() == (
        'event: response.reasoning_summary_text.delta\ndata: {"type":"response.reasoning_summary_text.delta",'
        '"sequence_number":48,"item_id":"rs_job_7","output_index":0,"summary_index":0,'
        '"delta":"12% (running)\\n","progress":12}\n\n'
    )
    (polled,) = documents(EVENTS.record(record(Checking(attempt=1, of=600))))
    assert "progress" not in polled


def test_success_ends_both_items_and_the_response_that_holds_them_whole() -> None:
    done = Done(urls=("https://h/v.mp4?n=50%25", "https://h/p.png"), media_types=("video/mp4", "image/png"))
    summary = f"queued\n{done.text}\n"
    data = EVENTS.record(record(done), summary)
    text = "<video src='https://h/v.mp4?n=50%25' controls></video>\n![image](https://h/p.png)"
    cited = [
        {
            "type": "url_citation",
            "url": "https://h/v.mp4?n=50%25",
            "title": "video",
            "start_index": 0,
            "end_index": 54,
        },
        {"type": "url_citation", "url": "https://h/p.png", "title": "image", "start_index": 55, "end_index": 80},
    ]
    part = {"type": "output_text", "text": text, "annotations": cited, "logprobs": []}
    message = {"id": "msg_job_7", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    line = {"item_id": "rs_job_7", "output_index": 0, "summary_index": 0}
    place = {"item_id": "msg_job_7", "output_index": 1, "content_index": 0}
    ended = response("completed", output=[reasoning("completed", summary), message], usage=NO_TOKENS, progress=100)
    without_numbers = [
        {key: value for key, value in document.items() if key != "sequence_number"} for document in documents(data)
    ]
    assert without_numbers == [
        {"type": DELTA, **line, "delta": f"{done.text}\n"},
        {"type": "response.reasoning_summary_text.done", **line, "text": summary},
        {
            "type": "response.reasoning_summary_part.done",
            **line,
            "part": {"type": "summary_text", "text": summary},
        },
        {"type": "response.output_item.done", "output_index": 0, "item": reasoning("completed", summary)},
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {**message, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": {**part, "text": "", "annotations": []}},
        {"type": "response.output_text.delta", **place, "logprobs": [], "delta": text, "progress": 100},
        {"type": "response.output_text.done", **place, "logprobs": [], "text": text},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 1, "item": message},
        {"type": "response.completed", "response": ended},
    ]
    assert numbers(data) == list(range(48, 59))
    assert EVENTS.ended(done, summary) == ended


@pytest.mark.parametrize("kind", FAILURE_CODES)
def test_a_failure_ends_the_reasoning_and_fails_the_response_with_its_code(kind: FailureKind) -> None:
    failed = Failed(kind=kind, message="refused by the provider")
    data = documents(EVENTS.record(record(failed), f"{failed.text}\n"))
    code = FAILURE_CODES[kind]
    assert [document["type"] for document in data] == [
        DELTA,
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.failed",
    ]
    assert data[-1]["response"] == response(
        "failed",
        error={"code": code, "message": f"refused by the provider [{code}] (job job_7)"},
        output=[reasoning("incomplete", f"{failed.text}\n")],
    )


def test_a_cancelled_job_fails_its_stream_and_is_a_cancelled_response() -> None:
    ended = documents(EVENTS.record(record(Cancelled(by="caller"))))[-1]
    assert (ended["type"], ended["response"]["status"]) == ("response.failed", "cancelled")
    assert ended["response"]["error"]["code"] == "cancelled"


def test_an_error_of_the_stream_itself_is_nested_so_that_sdks_raise_it() -> None:
    (error,) = documents(EVENTS.error("shutting down", code="relay_shutting_down", number=63))
    assert error == {
        "type": "error",
        "sequence_number": 63,
        "error": {
            "type": "invalid_request_error",
            "code": "relay_shutting_down",
            "message": "shutting down [relay_shutting_down] (job job_7)",
            "param": None,
        },
    }


def test_a_summary_has_every_line_while_they_fit_into_an_event() -> None:
    assert summary_of("job_7", ["queued", "12% (running)"], "12% (running)") == "queued\n12% (running)\n"


def test_a_longer_summary_has_the_first_lines_a_note_and_the_last_and_reads_no_further() -> None:
    texts = iter([f"line {number} \U0001f600" for number in range(10_000)])
    first, *_, note, last = summary_of("job_7", texts, "the last").splitlines()
    assert (first, note, last) == (
        "line 0 \U0001f600",
        "(more lines, which GET /v1/jobs/job_7/events has)",
        "the last",
    )
    assert int(next(texts).split()[1]) < 1_000


def test_files_that_do_not_fit_into_an_event_are_left_out_whole_and_the_message_says_so() -> None:
    done = Done(urls=tuple(f"https://h/{number}.mp4?sig={'s' * 400}" for number in range(200)))
    part = EVENTS.ended(done, "")["output"][1]["content"][0]
    *files, note = part["text"].split("\n")
    assert note == "(cut: GET /v1/jobs/job_7 has the whole result)"
    assert 10 < len(files) < 200
    assert [cited["url"] for cited in part["annotations"]] == list(done.urls[: len(files)])
    spans = [(cited["start_index"], cited["end_index"]) for cited in part["annotations"]]
    assert [part["text"][start:end] for start, end in spans] == files


LONG = st.one_of(
    st.text(max_size=50),
    st.sampled_from(["%" * 60_000, "\U0001f600" * 5_000, '"\\' * 10_000, "\x1f" * 8_000, "a\nb" * 20_000]),
)
ANY = st.one_of(
    st.builds(Log, line=LONG),
    st.builds(
        Progress,
        percent=st.none() | st.integers(0, 100),
        status=st.just("running"),
        raw_status=st.none() | st.text(max_size=40),
    ),
    st.builds(Done, urls=st.lists(LONG, max_size=40).map(tuple), result=st.none() | LONG | st.lists(LONG, max_size=3)),
    st.builds(Failed, kind=st.sampled_from(list(FAILURE_CODES)), message=LONG),
    st.builds(Cancelled, by=st.just("upstream"), message=st.none() | LONG),
)


@given(ANY, st.lists(LONG, max_size=300), st.integers(1, 10**6))
def test_whatever_an_upstream_writes_the_stream_keeps_its_profile(event: Event, texts: list[str], seq: int) -> None:
    summary = summary_of("job_7", [text[:1_000] for text in texts], event.text)
    assert len(json.dumps(summary)) <= SUMMARY
    data = EVENTS.record(record(event, seq), summary)
    assert data.isascii()
    assert b"\r" not in data
    assert data.endswith(b"\n\n")
    assert max(map(len, data.split(b"\n"))) < 64 * 1024
    given = numbers(data)
    assert given == list(range(16 * seq, 16 * seq + len(given)))
    assert len(given) < 16
    lines = [document["delta"] for document in documents(data) if document["type"] == DELTA]
    assert lines == [f"{event.text}\n"]
    percent = event.percent if isinstance(event, Progress) else None
    found = re.search(rb"(\d{1,3})%", data)
    assert (int(found[1]) if found else None) == percent


@given(ANY)
def test_a_resume_behind_any_event_has_exactly_the_rest(event: Event) -> None:
    first, whole = EVENTS.opening(), EVENTS.record(record(event), "a line\n")
    for number in [*numbers(first), *numbers(whole)]:
        rest = EVENTS.opening(number) + EVENTS.record(record(event), "a line\n", number)
        everything = documents(first) + documents(whole)
        assert documents(rest) == [document for document in everything if document["sequence_number"] > number]
