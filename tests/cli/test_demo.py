"""`relay demo`: everything in one process, over real HTTP, and what it prints is what its streams say."""

import json
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from relay.audit import Verdict, audit
from tests.cli.asking import answer, get
from tests.cli.running import Running, relay


def address_of(demo: Running) -> str:
    return demo.says(r"the page is at (http://127\.0\.0\.1:[0-9]+)/")[1]


def json_lines(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_a_demo_ends_by_itself_and_prints_nothing_but_its_records(tmp_path: Path) -> None:
    arguments = ("--once", "--port", "0", "--log-format", "json", "--speed", "20")
    with relay("demo", *arguments, folder=tmp_path) as demo:
        assert demo.ends() == 0
    records = json_lines(demo.printed)
    stories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        stories[record["job"]].append(record)

    assert [story[-1]["type"] for story in stories.values()] == ["done", "done", "failed"]
    for story in stories.values():
        assert [record["seq"] for record in story] == list(range(1, len(story) + 1))
        assert_each_attempt_is_told(story)


def assert_each_attempt_is_told(story: list[dict[str, Any]]) -> None:
    polls: list[list[dict[str, Any]]] = []
    for record in story:
        if record["type"] == "checking":
            polls.append([])
        if polls:
            polls[-1].append(record)
    assert [poll[0]["attempt"] for poll in polls] == list(range(1, len(polls) + 1))
    for poll in polls:
        first, second, *rest = (record["type"] for record in poll)
        assert first == "checking"
        assert second == "retrying" or (second == "received" and rest[0] in ("progress", "drafts-fetch"))


def test_a_stream_of_a_demo_tells_what_the_console_prints(tmp_path: Path) -> None:
    arguments = ("--once", "--port", "0", "--log-format", "json", "--speed", "20", "--jobs", "4")
    with relay("demo", *arguments, folder=tmp_path) as demo:
        received = get(f"{address_of(demo)}/v1/events")
        assert demo.ends() == 0

    console = (f"{line}\n".encode() for line in demo.printed)
    verdict = audit([("console", console), ("stream", received.splitlines(keepends=True))])
    assert verdict == Verdict(recordings=2, jobs=4, records=len(demo.printed), findings=())


def test_a_pretty_demo_prints_a_line_for_people_a_record(tmp_path: Path) -> None:
    arguments = ("--once", "--port", "0", "--log-format", "pretty", "--speed", "100", "--jobs", "1")
    with relay("demo", *arguments, folder=tmp_path) as demo:
        assert demo.ends() == 0
    assert "accepted for sora" in demo.printed[0]
    assert demo.printed[-1].endswith("done, 1 file (video/mp4)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_says_goodbye_on_its_streams_and_ends_with_status_0(
    number: signal.Signals, tmp_path: Path
) -> None:
    with relay("demo", "--port", "0", "--log-format", "json", folder=tmp_path) as demo:
        with answer("GET", f"{address_of(demo)}/v1/events") as stream:
            assert stream.readline() == b":\n"
            demo.interrupt(number)
            assert b"event: bye\n" in stream.read()
        assert demo.ends() == 0
    assert json_lines(demo.printed)
    assert len(demo.said) == 2


def test_the_chat_that_the_demo_prints_is_a_job_to_its_end(tmp_path: Path) -> None:
    with relay("demo", "--port", "0", "--jobs", "1", "--speed", "50", folder=tmp_path) as demo:
        body, url = demo.says(r"a job as a chat: curl -N --json '(.*)' (http\S+)$").groups()
        with answer("POST", url, body.encode(), **{"Content-Type": "application/json"}) as stream:
            chunks = stream.read()
        demo.interrupt()
        assert demo.ends() == 0
    assert b'"reasoning_content":"accepted for sora\\n"' in chunks
    assert b"<video src='http" in chunks
    assert chunks.endswith(b"data: [DONE]\n\n")


def test_the_page_is_where_the_demo_says(tmp_path: Path) -> None:
    with relay("demo", "--port", "0", folder=tmp_path) as demo:
        assert get(f"{address_of(demo)}/").lower().startswith(b"<!doctype html>")
