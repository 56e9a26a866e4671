"""`/v1/responses` over HTTP: the story of the native stream, resumed from any event, and the same object at the end."""

import asyncio
import json
from typing import Any

import pytest

from relay import MemoryJournal, Position, Relay, Retention
from relay.config.settings import GatewaySettings
from relay.events import LEVELS, Done, Log
from relay.testing import ManualClock
from sinks.responses import ResponseEvents
from tests.relay.scripted import RUNNING, OneStep, story
from tests.web.gateway.serving import House, gateway, submissions
from tests.web.serving import serve
from web.gateway.response_wire import ResponseWire

pytestmark = pytest.mark.usefixtures("take_over")

WEB = "/v1/responses"
DELTA = "response.reasoning_summary_text.delta"


def asked(prompt: Any = "[happy] a cat", **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": "sora", "input": prompt, **more}


def blocks(body: bytes) -> list[bytes]:
    """The events as they were sent, without comments."""
    return [block.lstrip(b":\n") + b"\n\n" for block in body.split(b"\n\n") if block.lstrip(b":\n")]


def documents(body: bytes) -> list[Any]:
    return [json.loads(block.split(b"data: ")[1]) for block in blocks(body)]


def numbers(body: bytes) -> list[int]:
    return [document["sequence_number"] for document in documents(body)]


def texts(body: bytes) -> list[str]:
    """The steps that a client shows."""
    return [document["delta"].removesuffix("\n") for document in documents(body) if document["type"] == DELTA]


async def streamed(house: House, prompt: Any = "[happy] a cat", level: str = "info", **more: Any) -> tuple[str, bytes]:
    """The id of a response, and its stream."""
    headers = {"X-Relay-Level": level}
    body = asked(prompt, stream=True, background=True, **more)
    async with house.client.post(WEB, json=body, headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        return f"resp_{response.headers['X-Relay-Job']}", await response.read()


async def events_of(house: House, response: str, after: int | None = None, level: str = "info") -> bytes:
    query = {"stream": "true"} if after is None else {"stream": "true", "starting_after": str(after)}
    async with house.client.get(f"{WEB}/{response}", params=query, headers={"X-Relay-Level": level}) as answer:
        assert answer.status == 200
        return await answer.read()


@pytest.mark.parametrize("level", LEVELS)
async def test_a_response_is_the_native_stream_of_its_level_text_for_text(level: str) -> None:
    async with gateway() as house:
        response, body = await streamed(house, level=level)
        async with house.client.get(f"/v1/jobs/{response.removeprefix('resp_')}/events?level={level}") as native:
            lines = (await native.text()).split("\n")
    records = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert texts(body) == [record["text"] for record in records]
    *_, completed = documents(body)
    assert completed["type"] == "response.completed"
    summary = completed["response"]["output"][0]["summary"][0]["text"]
    assert summary == "".join(f"{record['text']}\n" for record in records)


@pytest.mark.parametrize("scenario", ["happy", "violation"])
async def test_a_resume_behind_any_event_has_exactly_the_rest_however_late(scenario: str) -> None:
    async with gateway() as house:
        response, whole = await streamed(house, f"[{scenario}] a cat", "debug")
        await house.clock.advance(7 * 3_600)
        events = blocks(whole)
        assert await events_of(house, response, level="debug") == whole
        for number, count in zip(numbers(whole), range(1, len(events) + 1), strict=True):
            assert blocks(await events_of(house, response, number, "debug")) == events[count:]


@pytest.mark.parametrize("scenario", ["happy", "violation"])
async def test_the_object_of_a_response_is_the_one_that_its_stream_ends_with(scenario: str) -> None:
    async with gateway() as house:
        response, body = await streamed(house, f"[{scenario}] a cat")
        async with house.client.get(f"{WEB}/{response}") as answer:
            assert await answer.json() == documents(body)[-1]["response"]


async def test_a_client_that_leaves_resumes_while_the_job_goes_on() -> None:
    async with gateway(auto=False, gateway=GatewaySettings(cancel_on_disconnect=True)) as house:
        async with house.client.post(WEB, json=asked(stream=True, background=True)) as response:
            job = house.relay.job(response.headers["X-Relay-Job"])
            seen = b""
            while job.state.task is None or b"task_" not in seen:
                seen += await response.content.readuntil(b"\n\n")
            response.close()
        resumed = await house.client.get(
            f"{WEB}/resp_{job.id}", params={"stream": "true", "starting_after": str(numbers(seen)[-1])}
        )
        rest = asyncio.ensure_future(resumed.read())
        while not rest.done():
            await house.clock.advance(1)
        whole = await events_of(house, f"resp_{job.id}")
    assert blocks(seen) + blocks(await rest) == blocks(whole)
    assert submissions(house) == 1


async def test_in_the_background_the_answer_is_the_queued_response_at_once() -> None:
    async with gateway(auto=False) as house:
        async with house.client.post(WEB, json=asked(background=True)) as answer:
            job = answer.headers["X-Relay-Job"]
            created = await answer.json()
        lines = [{"type": "summary_text", "text": "accepted for sora\n"}]
        assert created == {
            "id": f"resp_{job}",
            "object": "response",
            "created_at": 1_767_225_600,
            "status": "queued",
            "background": True,
            "error": None,
            "incomplete_details": None,
            "metadata": {},
            "model": "sora",
            "output": [{"id": f"rs_{job}", "type": "reasoning", "status": "in_progress", "summary": lines}],
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
        }


async def test_a_client_that_polls_sees_the_status_and_the_percentage() -> None:
    seen = list[tuple[str, int | None]]()
    async with gateway(auto=False) as house:
        async with house.client.post(WEB, json=asked(background=True)) as answer:
            response = (await answer.json())["id"]
        while not seen or seen[-1][0] != "completed":
            await house.clock.advance(2)
            async with house.client.get(f"{WEB}/{response}") as answer:
                state = await answer.json()
            seen.append((state["status"], state.get("progress")))
    assert list(dict.fromkeys(status for status, _ in seen)) == ["queued", "in_progress", "completed"]
    figures = [progress for _, progress in seen if progress is not None]
    assert (figures, figures[-1]) == (sorted(figures), 100)


async def test_without_background_and_stream_the_answer_is_the_completed_response() -> None:
    message = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a cat"}]}]
    ignored = {"previous_response_id": "resp_1", "store": True, "tools": [{"type": "web_search"}], "instructions": "x"}
    async with gateway() as house, house.client.post(WEB, json=asked(message, **ignored)) as answer:
        response = await answer.json()
        done = house.relay.job(answer.headers["X-Relay-Job"]).state.terminal
    assert isinstance(done, Done)
    assert response["status"] == "completed"
    (part,) = response["output"][1]["content"]
    assert part["text"] == f"<video src='{done.urls[0]}' controls></video>"
    assert [cited["url"] for cited in part["annotations"]] == list(done.urls)


async def test_a_failure_before_the_answer_is_a_typed_error_that_no_client_repeats() -> None:
    async with gateway() as house, house.client.post(WEB, json=asked("[violation] a cat")) as answer:
        error = (await answer.json())["error"]
        job = answer.headers["X-Relay-Job"]
    assert (answer.status, answer.headers["x-should-retry"]) == (400, "false")
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "violation", job)
    assert error["message"].endswith(f"[violation] (job {job})")


async def test_a_wait_that_ends_before_the_job_names_the_response() -> None:
    async with gateway(gateway=GatewaySettings(wait=60.0)) as house:
        async with house.client.post(WEB, json=asked("[never-finishes] a cat")) as answer:
            error = (await answer.json())["error"]
        job = answer.headers["X-Relay-Job"]
        assert (answer.status, error["code"]) == (400, "still_running")
        assert f"GET /v1/responses/resp_{job}," in error["message"]
        assert not house.relay.job(job).ended


async def test_a_cancelled_response_ends_its_streams_and_says_so() -> None:
    async with gateway(auto=False) as house:
        stream = await house.client.post(WEB, json=asked("[never-finishes] a cat", stream=True, background=True))
        await stream.content.readuntil(b"task_")
        response = f"resp_{stream.headers['X-Relay-Job']}"
        async with house.client.post(f"{WEB}/{response}/cancel") as answer:
            cancelled = await answer.json()
        again = await (await house.client.post(f"{WEB}/{response}/cancel")).json()
        last = documents(b"\n\n" + (await stream.read()).partition(b"\n\n")[2])[-1]
    assert (cancelled["status"], cancelled["error"]["code"]) == ("cancelled", "cancelled")
    assert (last["type"], last["response"]) == ("response.failed", cancelled)
    assert again == cancelled


async def test_a_key_makes_one_job_and_a_chat_with_the_same_key_another() -> None:
    key = {"Idempotency-Key": "K1"}
    async with gateway() as house:
        made = [await house.client.post(WEB, json=asked(background=True), headers=key) for _ in range(2)]
        body = {"model": "sora", "messages": [{"role": "user", "content": "[happy] a cat"}]}
        chat = await house.client.post("/v1/chat/completions", json=body, headers=key)
        other = await house.client.post(WEB, json=asked("a dog", background=True), headers=key)
        jobs = [answer.headers["X-Relay-Job"] for answer in (*made, chat)]
        assert (jobs[0] == jobs[1], jobs[1] == jobs[2], submissions(house)) == (True, False, 2)
        assert (other.status, (await other.json())["error"]["code"]) == (400, "idempotency_conflict")


@pytest.mark.parametrize(
    ("path", "status", "code", "param"),
    [
        ("job_unknown", 404, "response_not_found", "response_id"),
        ("{}?stream=true&starting_after=x", 400, "invalid_starting_after", "starting_after"),
        ("{}?stream=true&starting_after=-1", 400, "invalid_starting_after", "starting_after"),
        ("{}?stream=true&starting_after=999999", 400, "invalid_starting_after", "starting_after"),
    ],
)
async def test_what_is_not_known_is_refused_in_the_form_of_the_dialect(
    path: str, status: int, code: str, param: str
) -> None:
    async with gateway() as house:
        response, _ = await streamed(house)
        async with house.client.get(f"{WEB}/{path.format(response)}") as answer:
            error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (status, code, param)


@pytest.mark.parametrize(
    ("input", "param"),
    [
        ([], "input"),
        ([{"type": "function_call_output", "output": "x"}], "input"),
        ([{"role": "user", "content": [{"type": "input_file"}]}], "input[0].content[0]"),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "x"},
                        {"type": "input_image", "image_url": "https://h/a.png"},
                    ],
                }
            ],
            "input",
        ),
    ],
)
async def test_an_input_without_a_prompt_for_the_model_is_refused_before_a_job_is_made(
    input: list[Any], param: str
) -> None:
    async with gateway() as house, house.client.post(WEB, json=asked(input, background=True)) as answer:
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)
        assert list(house.relay.jobs()) == []


async def test_a_shutdown_ends_a_stream_with_an_error_that_both_sdks_raise() -> None:
    async with gateway(auto=False) as house:
        stream = await house.client.post(WEB, json=asked("[never-finishes] a cat", stream=True, background=True))
        seen = await stream.content.readuntil(b"task_")
        body = asyncio.ensure_future(stream.read())
    events = documents(seen + await body)
    assert (events[-1]["type"], events[-1]["error"]["code"]) == ("error", "relay_shutting_down")
    given = [event["sequence_number"] for event in events]
    assert given == sorted(set(given))


async def test_a_silent_job_shows_a_sign_of_life_behind_every_number_before() -> None:
    async with gateway(auto=False, heartbeat=0.05, sign_of_life=0.1) as house:
        async with house.client.post(WEB, json=asked("[never-finishes] a cat", stream=True)) as response:
            job = house.relay.job(response.headers["X-Relay-Job"])
            seen = b""
            while job.state.task is None or seen.count(b'"delta":""') < 2:
                seen += await response.content.readuntil(b"\n\n")
        given = numbers(seen)
        assert given == sorted(given)
        *_, last = given
        assert last == 16 * (job.state.seq + 1) - 1
        rest = await house.client.get(f"{WEB}/resp_{job.id}?stream=true&starting_after={last}")
        house.relay.bus.publish(job, Log(line="the next line"))
        assert b"the next line" in await rest.content.readuntil(b"\n\n")


async def test_a_client_behind_the_journal_receives_the_state_in_place_of_the_records_that_are_gone() -> None:
    journal = MemoryJournal(Retention(records=4))
    async with (
        Relay([OneStep(story({"t": RUNNING}))], clock=ManualClock(), journal=journal) as relay,
        serve(relay) as client,
    ):
        job = relay.registry.admit()
        for number in range(1, 9):
            relay.bus.publish(job, Log(line=f"line {number}"))
        path = f"{WEB}/resp_{job.id}?stream=true&starting_after="
        near = await client.get(f"{path}{16 * 4}")
        far = await client.get(f"{path}{16 * 2}")
        whole = await client.get(path)
        begun = [await answer.content.readuntil(b"line 8") for answer in (near, far, whole)]
        relay.bus.publish(job, Done())
        near_body, far_body, whole_body = [
            start + await answer.read() for start, answer in zip(begun, (near, far, whole), strict=True)
        ]
    assert texts(near_body) == ["line 5", "line 6", "line 7", "line 8", "done"]
    assert texts(far_body) == ["(earlier lines are not kept any more)", "line 8", "done"]
    assert texts(whole_body) == ["line 8", "done"]
    for body in (near_body, far_body, whole_body):
        assert numbers(body) == sorted(set(numbers(body)))
        assert documents(body)[-1]["type"] == "response.completed"
    assert numbers(far_body)[0] > 16 * 2


async def test_of_an_ended_job_without_kept_records_a_client_receives_the_end_that_it_lacks() -> None:
    journal = MemoryJournal(Retention(records=2))
    async with (
        Relay([OneStep(story({"t": RUNNING}))], clock=ManualClock(), journal=journal) as relay,
        serve(relay) as client,
    ):
        job, other = relay.registry.admit(), relay.registry.admit()
        relay.bus.publish(job, Log(line="line 1"))
        end = relay.bus.publish(job, Done()).seq * 16
        for number in range(3):
            relay.bus.publish(other, Log(line=f"line {number}"))
        path = f"{WEB}/resp_{job.id}?stream=true&starting_after="
        from_before, from_within, from_behind = [
            await (await client.get(f"{path}{number}")).read() for number in (16, end + 8, end + 10)
        ]
    assert numbers(from_before) == [end - 1, *range(end, end + 11)]
    assert [number for number in numbers(from_within) if number >= end] == [end + 9, end + 10]
    assert [number for number in numbers(from_behind) if number >= end] == []


async def test_a_notice_has_the_last_number_before_the_next_record() -> None:
    async with Relay([OneStep(story({"t": RUNNING}))], clock=ManualClock()) as relay:
        job = relay.registry.admit()
        records = [relay.bus.publish(job, Log(line=f"line {number}")) for number in range(3)]
        events = ResponseEvents(job=job.id, created=0, model="m")
        wire = ResponseWire(job, events, relay.journal, "debug")
        second = wire.notice("skipped", {"missed": 1}, Position(relay.journal.epoch, records[0].position.offset))
        (notice,) = documents(second)
        assert (notice["sequence_number"], notice["delta"]) == (
            16 * records[1].seq - 1,
            "(1 line is left out, since this client reads slowly)\n",
        )
        (sign,) = documents(wire.sign(records[2], records[2].position))
        assert (sign["sequence_number"], sign["delta"]) == (16 * records[2].seq, "line 2\n")
