"""Records as chunks of a chat: what each client looks for, where it looks for it."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import (
    Accepted,
    Cancelled,
    Checking,
    Done,
    Event,
    Failed,
    FailureKind,
    Log,
    Position,
    Progress,
    Record,
)
from sinks.answers import FAILURE_CODES
from sinks.chat import DONE, ChatChunks, Reasoning

CHUNKS = ChatChunks(job="job_7", created=1_764_349_200, model="sora-video")
POSITION = Position("e1", 42)


def record(event: Event) -> Record:
    return Record(job="job_7", seq=1, at=datetime(2026, 11, 29, tzinfo=UTC), event=event, position=POSITION, json=b"{}")


def documents(data: bytes) -> list[Any]:
    """The data of each block; the end is itself."""
    lines = [line.removeprefix("data: ") for line in data.decode("ascii").split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def deltas(data: bytes) -> list[Any]:
    return [document["choices"][0]["delta"] for document in documents(data) if "choices" in document]


def test_the_first_chunk_has_the_role_the_job_the_position_and_the_task_if_it_is_known() -> None:
    known = ChatChunks(job="job_7", created=1_764_349_200, model="sora-video", task="task_01")
    assert known.opening(POSITION).decode() == (
        'data: {"id":"chatcmpl-job_7","object":"chat.completion.chunk","created":1764349200,"model":"sora-video",'
        '"choices":[{"index":0,"delta":{"role":"assistant","content":"","output":[{"index":0,"task_id":"task_01"}],'
        '"job":"job_7","position":"e1-42","level":"debug"},"finish_reason":null,"native_finish_reason":null}]}\n'
        "id: e1-42\nretry: 3000\n\n"
    )
    assert deltas(CHUNKS.opening(POSITION)) == [
        {"role": "assistant", "content": "", "job": "job_7", "position": "e1-42", "level": "debug"}
    ]


def test_a_step_has_the_text_of_the_record_and_the_percentage_if_the_record_has_one() -> None:
    chunk = CHUNKS.record(record(Progress(percent=12, status="running")))
    assert documents(chunk) == [
        {
            "id": "chatcmpl-job_7",
            "object": "chat.completion.chunk",
            "created": 1_764_349_200,
            "model": "sora-video",
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "reasoning_content": "12% (running)\n",
                        "reasoning": "12% (running)\n",
                        "progress": 0.12,
                    },
                    "finish_reason": None,
                    "native_finish_reason": None,
                }
            ],
            "progress": 12,
        }
    ]
    assert chunk.endswith(b"\nid: e1-42\n\n")
    (polled,) = documents(CHUNKS.record(record(Checking(attempt=1, of=600))))
    assert "progress" not in polled
    assert "progress" not in polled["choices"][0]["delta"]


@pytest.mark.parametrize(
    ("reasoning", "fields"),
    [
        ("both", {"reasoning_content", "reasoning"}),
        ("reasoning_content", {"reasoning_content"}),
        ("content", {"content"}),
    ],
)
def test_the_text_is_in_the_fields_that_the_operator_has_chosen(reasoning: Reasoning, fields: set[str]) -> None:
    chunks = ChatChunks(job="job_7", created=0, model="m", reasoning=reasoning)
    (delta,) = deltas(chunks.record(record(Log(line="a line"))))
    assert delta == dict.fromkeys(fields, "a line\n")


def test_the_task_is_named_once_in_the_first_chunk_or_in_that_of_its_record() -> None:
    accepted = record(Accepted(upstream="sora", task="task_01"))
    (delta,) = deltas(CHUNKS.record(accepted))
    assert delta["output"] == [{"index": 0, "task_id": "task_01"}]
    known = ChatChunks(job="job_7", created=0, model="m", task="task_01")
    (delta,) = deltas(known.record(accepted))
    assert "output" not in delta


def test_success_ends_with_the_text_the_files_and_a_finish_in_a_chunk_of_its_own() -> None:
    done = Done(urls=("https://h/v.mp4?n=50%25", "https://h/p.png"), media_types=("video/mp4", "image/png"))
    data = CHUNKS.record(record(done))
    *chunks, end = documents(data)
    text, video, image, finish = (chunk["choices"][0]["delta"] for chunk in chunks)
    assert text["reasoning_content"] == f"{done.text}\n"
    assert video == {
        "content": "<video src='https://h/v.mp4?n=50%25' controls></video>",
        "output": [{"index": 0, "url": "https://h/v.mp4?n=50%25", "type": "video"}],
        "progress": 1,
    }
    assert image == {
        "content": "\n![image](https://h/p.png)",
        "output": [{"index": 1, "url": "https://h/p.png", "type": "image"}],
    }
    assert finish == {}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert (reasons, end) == ([None, None, None, "stop"], "[DONE]")
    assert data.count(b"\nid: ") == 1
    assert data.index(b'"stop"') < data.index(b"\nid: ") < data.index(DONE)


def test_usage_comes_last_and_is_zero_if_the_client_requests_it() -> None:
    chunks = ChatChunks(job="job_7", created=0, model="m", usage=True)
    data = chunks.record(record(Done()))
    *_, usage, end = documents(data)
    assert (usage["choices"], end) == ([], "[DONE]")
    assert usage["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert data.index(b'"usage"') < data.index(b"\nid: ")


@pytest.mark.parametrize("kind", FAILURE_CODES)
def test_a_failure_is_its_text_then_an_error_object_alone_and_no_finish(kind: FailureKind) -> None:
    data = CHUNKS.record(record(Failed(kind=kind, message="refused by the provider")))
    said, error, end = documents(data)
    code = FAILURE_CODES[kind]
    assert said["choices"][0]["delta"]["reasoning_content"] == f"failed ({kind}): refused by the provider\n"
    message = f"refused by the provider [{code}] (job job_7)"
    assert error == {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    assert (end, b'"stop"' in data) == ("[DONE]", False)


def test_a_cancelled_job_is_an_error_too() -> None:
    _, error, _ = documents(CHUNKS.record(record(Cancelled(by="caller"))))
    assert error["error"]["code"] == "cancelled"
    assert error["error"]["message"] == "cancelled by the caller [cancelled] (job job_7)"


def test_an_address_cannot_leave_its_tag() -> None:
    done = Done(urls=("https://h/a'onerror='x' <b>.mp4",), media_types=("video/mp4",))
    content = deltas(CHUNKS.record(record(done)))[1]["content"]
    assert content == "<video src='https://h/a%27onerror=%27x%27%20%3Cb%3E.mp4' controls></video>"


def test_a_result_that_is_a_value_is_the_content() -> None:
    assert deltas(CHUNKS.record(record(Done(result={"pages": 3}))))[1]["content"] == '{"pages": 3}'
    assert deltas(CHUNKS.record(record(Done(result="a text"))))[1]["content"] == "a text"
    assert deltas(CHUNKS.record(record(Done())))[1]["content"] == "done"


EVENTS = st.one_of(
    st.builds(Log, line=st.text()),
    st.builds(
        Progress,
        percent=st.none() | st.integers(0, 100),
        status=st.just("running"),
        raw_status=st.none() | st.text(max_size=40),
    ),
    st.builds(Done, urls=st.lists(st.text(min_size=1), max_size=3).map(tuple), result=st.none() | st.text()),
    st.builds(Failed, kind=st.sampled_from(list(FAILURE_CODES)), message=st.text()),
)


@given(EVENTS, st.text(min_size=1, max_size=20))
def test_whatever_an_upstream_writes_the_stream_keeps_its_profile(event: Event, model: str) -> None:
    chunks = ChatChunks(job="job_7", created=0, model=model)
    data = chunks.record(record(event))
    assert data.isascii()
    assert b"\r" not in data
    assert data.endswith(b"\n\n")
    for block in data.decode().removesuffix("\n\n").split("\n\n"):
        first, *rest = block.split("\n")
        assert first.startswith("data: ")
        assert len(first) < 64 * 1024
        assert all(line.startswith("id: ") for line in rest)
    spoken = [delta["reasoning_content"] for delta in deltas(data) if "reasoning_content" in delta]
    assert spoken == [f"{event.text}\n"]
    percent = event.percent if isinstance(event, Progress) else None
    found = re.search(rb"(\d{1,3})%", data)
    assert (int(found[1]) if found else None) == percent


@pytest.mark.parametrize("character", ["x", "é", "%", "\U0001f600"])
def test_no_chunk_is_too_long_for_a_line_buffer_and_nothing_of_a_result_is_lost(character: str) -> None:
    url, words = f"https://h/{character * 8_000}", character * 10_000
    for event in (
        Done(urls=(url, url), result=words),
        Failed(kind="upstream", message=words),
        Log(line=words),
        Accepted(upstream="sora", task=character * 256),
    ):
        data = CHUNKS.record(record(event))
        assert max(map(len, data.split(b"\n"))) < 64 * 1024
        if isinstance(event, Done):
            content = "".join(delta.get("content", "") for delta in deltas(data))
            tag = f"<video src='{event.urls[0]}' controls></video>"
            assert content == f"{tag}\n{tag}\n{event.result}"
