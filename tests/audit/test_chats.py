"""An audit with recordings of chats, made of real streams: the same story passes, and each lost line is missed."""

import asyncio
import io
import json
import re

import pytest
from msgspec import Struct

from relay import Relay, UsageError
from relay.audit import Verdict, audit
from relay.config.settings import GatewayModel, GatewaySettings
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from sinks import ConsoleSink
from sinks.chat import Reasoning
from tests.web.serving import serve


class Recorded(Struct, frozen=True):
    """One job, as the console printed it and as three streams had it."""

    console: list[bytes]
    native: list[bytes]
    chat: list[bytes]
    everything: list[bytes]


async def recorded(scenario: str, reasoning: Reasoning = "both") -> Recorded:
    console = io.StringIO()
    clock = ManualClock(auto=True)
    settings = GatewaySettings(models={"video": GatewayModel(upstream="sora", reasoning=reasoning)})
    body = {"model": "video", "stream": True, "messages": [{"role": "user", "content": f"[{scenario}] a cat"}]}
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, clock=clock)
        relay = Relay([sora], sinks=[ConsoleSink(console, format="json")], clock=clock)
        async with relay, serve(relay, gateway=settings) as client:

            async def chat(level: str) -> tuple[str, list[bytes]]:
                headers = {"Idempotency-Key": "k", "X-Relay-Level": level}
                async with client.post("/v1/chat/completions", json=body, headers=headers) as response:
                    return response.headers["X-Relay-Job"], (await response.read()).splitlines(keepends=True)

            (job, brief), (_, everything) = await asyncio.gather(chat("info"), chat("debug"))
            async with client.get(f"/v1/jobs/{job}/events") as response:
                native = (await response.read()).splitlines(keepends=True)
    printed = console.getvalue().encode().splitlines(keepends=True)
    return Recorded(printed, native, brief, everything)


@pytest.fixture(scope="module")
def happy() -> Recorded:
    return asyncio.run(recorded("happy"))


@pytest.fixture(scope="module")
def violation() -> Recorded:
    return asyncio.run(recorded("violation"))


def compare(*recordings: list[bytes]) -> Verdict:
    return audit([(f"recording {name}", lines) for name, lines in zip("ABCD", recordings, strict=False)])


def findings(*recordings: list[bytes]) -> list[str]:
    return [re.sub(r"job_[0-9a-f]+", "JOB", finding) for finding in compare(*recordings).findings]


def blocks_of(chat: list[bytes]) -> list[bytes]:
    return [block + b"\n\n" for block in b"".join(chat).split(b"\n\n")[:-1]]


def lines(blocks: list[bytes]) -> list[bytes]:
    return b"".join(blocks).splitlines(keepends=True)


@pytest.mark.parametrize("which", ["happy", "violation"])
def test_a_chat_of_any_level_tells_the_story_of_console_and_stream(which: str, request: pytest.FixtureRequest) -> None:
    one: Recorded = request.getfixturevalue(which)
    due = sum(b'"level":"debug"' not in record for record in one.console)
    assert compare(one.console, one.chat) == Verdict(recordings=2, jobs=1, records=due, findings=())
    assert compare(one.everything, one.native) == Verdict(recordings=2, jobs=1, records=len(one.console), findings=())
    assert compare(one.console, one.chat, one.native, one.everything) == Verdict(
        recordings=4, jobs=1, records=len(one.console), findings=()
    )
    assert compare(one.chat, one.chat) == Verdict(recordings=2, jobs=1, records=due, findings=())


@pytest.mark.parametrize("reasoning", ["content", "reasoning_content"])
async def test_the_lines_are_found_in_whichever_field_they_are(reasoning: Reasoning) -> None:
    one = await recorded("gap", reasoning)
    assert compare(one.console, one.chat, one.everything).same


def test_any_line_that_is_lost_is_named_with_its_job_and_seq(happy: Recorded) -> None:
    blocks = blocks_of(happy.chat)
    steps = [number for number, block in enumerate(blocks) if b'"reasoning_content"' in block]
    due = [record for record in map(json.loads, happy.console) if record["level"] != "debug"]
    for number, record in zip(steps[:-1], due, strict=False):
        shortened = lines(blocks[:number] + blocks[number + 1 :])
        (found,) = findings(happy.console, shortened)  # of two lines alike, it may be either
        assert re.sub(r" seq \d+", "", found) == (
            f"JOB: recording A says {record['type']} {record['text']!r}, recording B says nothing"
        )


def test_words_and_figures_that_differ_are_quoted_from_both(happy: Recorded) -> None:
    record = next(record for record in map(json.loads, happy.console) if (record.get("percent") or 0) > 10)
    text, percent, where = record["text"], record["percent"], f"JOB seq {record['seq']}"
    other = [line.replace(text.encode(), b"99% (running)") for line in happy.chat]
    assert findings(happy.console, other) == [
        f"{where}: recording A says progress {text!r}, recording B says '99% (running)'"
    ]
    other = [line.replace(b'"progress":%d}' % percent, b'"progress":98}') for line in happy.chat]
    assert findings(happy.console, other) == [f"{where}: recording B shows 98%, recording A has {percent}%"]


def test_a_line_that_nobody_else_has_is_found(happy: Recorded) -> None:
    blocks = blocks_of(happy.chat)
    added = lines([*blocks[:2], blocks[1].replace(b"accepted", b"invented"), *blocks[2:]])
    assert findings(happy.console, added) == [
        "JOB: recording A says nothing like that, recording B says 'invented for sora'"
    ]


def test_a_sign_of_life_from_a_lower_level_is_no_difference_in_its_place_alone(happy: Recorded) -> None:
    blocks = blocks_of(happy.chat)
    sign = next(block for block in blocks_of(happy.everything) if b"checking (1 of 600)" in block)
    assert compare(happy.console, lines([*blocks[:3], sign, *blocks[3:]])).same
    assert findings(happy.console, lines([*blocks[:-4], sign, *blocks[-4:]])) == [
        "JOB: recording A says nothing like that, recording B says 'checking (1 of 600)'"
    ]


def test_a_failure_that_is_dressed_as_a_success_is_found(happy: Recorded, violation: Recorded) -> None:
    stop = next(block for block in blocks_of(happy.chat) if b'"finish_reason":"stop"' in block)
    dressed = [stop if b'{"error"' in block else block for block in blocks_of(violation.chat)]
    (finding,) = findings(violation.console, lines(dressed))
    assert re.fullmatch(r"JOB seq \d+: recording A says failed, recording B ends with 'stop'", finding)


def test_lines_that_the_stream_itself_says_are_missing_are_found(happy: Recorded) -> None:
    blocks = blocks_of(happy.chat)
    notice = blocks[1].replace(b"accepted for sora", b"(3 lines are left out, since this client reads slowly)")
    assert findings(happy.console, lines([*blocks[:2], notice, *blocks[2:]])) == [
        "recording B: says itself that it missed something: (3 lines are left out, since this client reads slowly)"
    ]


def test_a_stream_that_is_cut_is_found_with_what_it_lacks(happy: Recorded) -> None:
    sent = b"".join(happy.chat)
    cut = sent[: sent.index(b'"finish_reason":"stop"')].splitlines(keepends=True)
    assert re.fullmatch(
        r"recording B: ends within the block that begins in line \d+: .*", findings(happy.console, cut)[0]
    )
    without_end = lines(blocks_of(happy.chat)[:-2])
    assert "recording B: ends without [DONE]" in findings(happy.console, without_end)
    assert any("recording B has no end" in finding for finding in findings(happy.console, without_end))
    assert "recording A: ends without [DONE]" in findings(without_end, happy.chat)


def test_a_chat_that_begins_late_is_compared_from_there(happy: Recorded) -> None:
    opening, *blocks = blocks_of(happy.chat)
    opening = re.sub(rb'"position":"([0-9a-f]+)-0"', rb'"position":"\1-7"', opening)
    first = next(number for number, block in enumerate(blocks) if b'"progress"' in block)
    assert compare(happy.console, lines([opening, *blocks[first:]])).same


def test_chats_of_two_levels_are_compared_with_records_only(happy: Recorded) -> None:
    with pytest.raises(UsageError, match=r"^recording A and recording B are chats of the levels info and debug; "):
        compare(happy.chat, happy.everything)
    assert compare(happy.chat, happy.everything, happy.console).same


def test_a_chat_that_is_about_another_job_is_no_proof(happy: Recorded, violation: Recorded) -> None:
    for other in (violation.console, violation.chat):
        found = findings(other, happy.chat)
        assert "JOB: recording B has it, and no other recording does" in found


def test_chats_of_two_jobs_in_one_file_are_refused(happy: Recorded, violation: Recorded) -> None:
    with pytest.raises(UsageError, match=r"^recording B holds chats of job_\w+ and job_\w+; record one chat a file$"):
        compare(happy.console, happy.chat + violation.chat)
