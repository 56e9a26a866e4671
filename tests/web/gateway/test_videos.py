"""`/v1/videos`: each job as a video, created by JSON or by a form, for clients that poll."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession, FormData

from relay import Cancelled, Done, Failed, Job, JobState, Pace, Relay
from relay.config.settings import GatewayModel, GatewaySettings
from relay.errors import UpstreamError
from relay.events import FailureKind, Log, Status
from relay.jobs.rhythm import Rhythm
from relay.testing import ManualClock
from tests.relay.scripted import TwoStep, story
from tests.web.serving import serve
from web.gateway.video_object import VideoDetails, poll_after_ms, video_object

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)

CAT = {"model": "scripted", "prompt": "a cat"}


@pytest.fixture
def upstream() -> TwoStep:
    return TwoStep(story({}))


@pytest.fixture
def relay(upstream: TwoStep) -> Relay:
    return Relay([upstream], clock=ManualClock(), new_job_id=iter(f"job_{n}" for n in range(99)).__next__)


@pytest.fixture
async def client(relay: Relay) -> AsyncIterator[ClientSession]:
    async with serve(relay) as served:
        yield served


async def test_a_video_is_created_by_json_and_is_a_job_like_any_other(
    client: ClientSession, relay: Relay, upstream: TwoStep
) -> None:
    body = {**CAT, "seconds": "4", "size": "1280x720", "quality": "high"}
    async with client.post("/v1/videos", json=body) as response:
        created = await response.json()

    assert response.status == 200
    assert created == {
        "id": "job_0",
        "object": "video",
        "created_at": 1_767_225_600,
        "completed_at": None,
        "expires_at": None,
        "status": "queued",
        "model": "scripted",
        "progress": 0,
        "seconds": "4",
        "size": "1280x720",
        "error": None,
        "remixed_from_video_id": None,
    }
    assert response.headers["X-Relay-Job"] == "job_0"
    assert upstream.submitted == [{"prompt": "a cat", "seconds": "4", "size": "1280x720", "quality": "high"}]
    assert (await (await client.get("/v1/jobs/job_0")).json())["job"] == "job_0"


async def test_the_same_video_is_shown_later(client: ClientSession) -> None:
    created = await (await client.post("/v1/videos", json=CAT)).json()

    assert await (await client.get("/v1/videos/job_0")).json() == created


async def test_a_form_is_the_same_request_as_json(client: ClientSession, upstream: TwoStep) -> None:
    form = FormData({**CAT, "seconds": "4", "size": "1280x720"}, default_to_multipart=True)
    async with client.post("/v1/videos", data=form) as response:
        created = await response.json()

    assert (response.status, created["seconds"], created["size"]) == (200, "4", "1280x720")
    assert upstream.submitted == [{"prompt": "a cat", "seconds": "4", "size": "1280x720"}]


async def test_the_image_of_a_form_reaches_an_upstream_that_accepts_one(upstream: TwoStep) -> None:
    models = {"with-image": GatewayModel(upstream="scripted", image="first.frame")}
    async with serve(Relay([upstream], clock=ManualClock()), gateway=GatewaySettings(models=models)) as client:
        form = FormData({"prompt": "a cat"}, default_to_multipart=True)
        form.add_field("input_reference", PNG, filename="cat", content_type="application/octet-stream")
        assert (await client.post("/v1/videos", data=form)).status == 200
        body = {"prompt": "a cat", "input_reference": {"image_url": "https://h.example/cat.png"}}
        assert (await client.post("/v1/videos", json=body)).status == 200

    assert [input["first"]["frame"] for input in upstream.submitted] == [
        "data:image/png;base64,iVBORw0KGgoAAAAAAAAAAA==",
        "https://h.example/cat.png",
    ]


async def test_an_image_is_refused_for_an_upstream_that_accepts_none(client: ClientSession, upstream: TwoStep) -> None:
    form = FormData(CAT, default_to_multipart=True)
    form.add_field("input_reference", PNG, filename="cat.png")
    async with client.post("/v1/videos", data=form) as response:
        error = (await response.json())["error"]

    assert (response.status, error["code"], error["param"]) == (400, "unsupported_image", "input_reference")
    assert upstream.submitted == []


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": "scripted"}, 400, "invalid_value", "prompt"),
        ({"model": "scripted", "prompt": " "}, 400, "invalid_value", "prompt"),
        ({"model": 1, "prompt": "a cat"}, 400, "invalid_value", "model"),
        ({"model": "other", "prompt": "a cat"}, 404, "model_not_found", "model"),
        ({**CAT, "n": 2}, 400, "invalid_value", "n"),
        ({**CAT, "input_reference": 1}, 400, "invalid_value", "input_reference"),
        ({**CAT, "input_reference": {"file_id": "f"}}, 400, "invalid_value", "input_reference"),
        ({**CAT, "input_reference": "file:///etc/passwd"}, 400, "invalid_prompt", "input_reference"),
        ([], 400, "bad_request", None),
    ],
)
async def test_a_wrong_field_is_named_in_the_form_of_openai(
    client: ClientSession, upstream: TwoStep, body: Any, status: int, code: str, param: str | None
) -> None:
    async with client.post("/v1/videos", json=body) as response:
        error = (await response.json())["error"]

    assert (response.status, error["code"], error["param"]) == (status, code, param)
    assert upstream.submitted == []


async def test_without_a_model_the_only_one_is_used_and_several_are_named(upstream: TwoStep) -> None:
    models = {name: GatewayModel(upstream="scripted") for name in ("fast", "good")}
    async with serve(Relay([upstream], clock=ManualClock())) as client:
        assert (await (await client.post("/v1/videos", json={"prompt": "a cat"})).json())["model"] == "scripted"
    async with serve(Relay([upstream], clock=ManualClock()), gateway=GatewaySettings(models=models)) as client:
        refused = await (await client.post("/v1/videos", json={"prompt": "a cat"})).json()

    assert refused["error"] == {
        "message": "name a `model`; there are: 'fast', 'good'",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_required",
    }


DETAILS = VideoDetails(model="m", seconds="4", size="1x1")
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
ENDED = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("queued", "queued"),
        ("running", "in_progress"),
        ("unknown", "in_progress"),
        # The upstream's word alone ends no job: its result is still being fetched.
        ("succeeded", "in_progress"),
        ("failed", "in_progress"),
        ("cancelled", "in_progress"),
    ],
)
def test_a_job_that_has_not_ended_is_queued_or_in_progress(status: Status, word: str) -> None:
    state = JobState(status=status, percent=7, started=STARTED, updated=ENDED)

    shown = video_object(Job("j", state), DETAILS)

    assert (shown["status"], shown["progress"], shown["error"], shown["completed_at"]) == (word, 7, None, None)


def test_a_job_that_succeeded_is_completed_and_its_times_are_whole_seconds() -> None:
    done = Done(urls=("https://h.example/v",), expires=datetime(2026, 1, 2, tzinfo=UTC))
    state = JobState(status="succeeded", percent=100, started=STARTED, updated=ENDED, terminal=done)

    assert video_object(Job("j", state), DETAILS) == {
        "id": "j",
        "object": "video",
        "created_at": 1_767_225_600,
        "completed_at": 1_767_225_660,
        "expires_at": 1_767_312_000,
        "status": "completed",
        "model": "m",
        "progress": 100,
        "seconds": "4",
        "size": "1x1",
        "error": None,
        "remixed_from_video_id": None,
    }


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("policy", "violation"),
        ("upstream", "upstream_error"),
        ("auth", "upstream_unauthorized"),
        ("rate-limit", "upstream_throttled"),
        ("not-found", "task_not_found"),
        ("timeout", "timeout"),
        ("lost", "lost"),
        ("malformed", "malformed_answer"),
        ("internal", "internal_error"),
    ],
)
def test_each_kind_of_failure_is_failed_with_a_code(kind: FailureKind, code: str) -> None:
    state = JobState(status="failed", started=STARTED, updated=ENDED, terminal=Failed(kind=kind, message="why"))

    shown = video_object(Job("j", state), DETAILS)

    assert (shown["status"], shown["error"]) == ("failed", {"code": code, "message": "why"})
    assert (shown["completed_at"], shown["progress"]) == (None, 0)


def test_a_cancelled_job_is_failed_with_the_code_cancelled() -> None:
    state = JobState(status="cancelled", started=STARTED, updated=ENDED, terminal=Cancelled(by="caller"))

    shown = video_object(Job("j", state), DETAILS)

    assert shown["status"] == "failed"
    assert shown["error"] == {"code": "cancelled", "message": "cancelled by the caller"}


@pytest.mark.parametrize(
    ("rhythm", "interval", "wait"),
    [
        (Rhythm(), 2.5, 2_500),
        (Rhythm(gaps=(3, 3, 5)), 0.5, 1_500),
        (Rhythm(gaps=(3, 3, 5), still=2), 0.5, 500),
        (Rhythm(gaps=(3, 3, 5), still=40), 0.5, 500),
        (Rhythm(gaps=(100,)), 2.5, 5_000),
        (Rhythm(), 0.001, 200),
        (Rhythm(), 60, 5_000),
    ],
)
def test_a_client_polls_again_when_the_job_is_likely_to_have_moved(rhythm: Rhythm, interval: float, wait: int) -> None:
    assert poll_after_ms(JobState(rhythm=rhythm), Pace(interval=interval)) == wait


async def test_the_time_of_the_next_poll_is_a_header_until_the_job_has_ended(
    client: ClientSession, relay: Relay
) -> None:
    created = await client.post("/v1/videos", json=CAT)
    relay.bus.publish(relay.job("job_0"), Done(urls=("https://h.example/v",)))
    shown = await client.get("/v1/videos/job_0")

    assert created.headers["openai-poll-after-ms"] == "2500"
    assert "openai-poll-after-ms" not in shown.headers
    assert (await shown.json())["status"] == "completed"


async def test_a_refusal_of_the_upstream_is_in_the_video_and_no_error_of_the_request(upstream: TwoStep) -> None:
    upstream.on_submit = UpstreamError("auth", "the key is not valid", acted=False)
    relay = Relay([upstream], clock=ManualClock())
    async with serve(relay) as client:
        created = await client.post("/v1/videos", json=CAT)
        video = await created.json()
        # The stream ends with the job.
        await (await client.get(f"/v1/jobs/{video['id']}/events")).read()
        shown = await (await client.get(f"/v1/videos/{video['id']}")).json()

    assert (created.status, video["status"]) == (200, "queued")
    assert shown["status"] == "failed"
    assert shown["error"] == {"code": "upstream_unauthorized", "message": "not submitted: the key is not valid"}


async def test_a_job_of_another_route_is_a_video_with_the_name_of_its_model(upstream: TwoStep) -> None:
    models = {"cat-maker": GatewayModel(upstream="scripted")}
    relay = Relay([upstream], clock=ManualClock(), new_job_id=lambda: "job_a")
    async with serve(relay, gateway=GatewaySettings(models=models)) as client:
        await client.post("/v1/jobs", json={"upstream": "scripted", "task": "t"})
        shown = await (await client.get("/v1/videos/job_a")).json()

    assert (shown["model"], shown["seconds"], shown["size"]) == ("cat-maker", None, None)


async def test_a_key_makes_one_job_of_a_form_and_json_and_refuses_another_request_with_400(
    client: ClientSession, upstream: TwoStep
) -> None:
    key = {"Idempotency-Key": "k"}
    first = await (await client.post("/v1/videos", json=CAT, headers=key)).json()
    form = FormData(CAT, default_to_multipart=True)
    again = await (await client.post("/v1/videos", data=form, headers=key)).json()
    other = await client.post("/v1/videos", json={**CAT, "prompt": "a dog"}, headers=key)

    assert first["id"] == again["id"]
    assert (other.status, (await other.json())["error"]["code"]) == (400, "idempotency_conflict")
    assert upstream.submitted == [{"prompt": "a cat"}]


async def test_two_requests_that_were_both_answered_are_two_jobs(client: ClientSession, upstream: TwoStep) -> None:
    ids = [(await (await client.post("/v1/videos", json=CAT)).json())["id"] for _ in range(2)]

    assert ids == ["job_0", "job_1"]
    assert upstream.submitted == [{"prompt": "a cat"}] * 2


async def test_videos_are_listed_newest_first_page_by_page(client: ClientSession) -> None:
    for _ in range(3):
        await client.post("/v1/videos", json=CAT)

    pages = [await (await client.get(f"/v1/videos?limit=2{more}")).json() for more in ("", "&after=job_1")]
    oldest = await (await client.get("/v1/videos?order=asc&after=job_0")).json()

    assert [[video["id"] for video in page["data"]] for page in pages] == [["job_2", "job_1"], ["job_0"]]
    assert [{key: page[key] for key in page if key != "data"} for page in pages] == [
        {"object": "list", "has_more": True, "first_id": "job_2", "last_id": "job_1"},
        {"object": "list", "has_more": False, "first_id": "job_0", "last_id": "job_0"},
    ]
    assert [video["id"] for video in oldest["data"]] == ["job_1", "job_2"]
    assert pages[0]["data"][0] == await (await client.get("/v1/videos/job_2")).json()


async def test_no_video_is_an_empty_list(client: ClientSession) -> None:
    assert await (await client.get("/v1/videos")).json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [("limit=x", 400, "limit"), ("limit=-1", 400, "limit"), ("order=up", 400, "order"), ("after=job_x", 404, None)],
)
async def test_a_page_that_cannot_be_is_refused(
    client: ClientSession, query: str, status: int, param: str | None
) -> None:
    async with client.get(f"/v1/videos?{query}") as response:
        assert (response.status, (await response.json())["error"]["param"]) == (status, param)


async def test_a_page_has_at_most_a_hundred_videos(relay: Relay, client: ClientSession) -> None:
    for number in range(20):
        relay.follow("scripted", f"t{number}")

    assert len((await (await client.get("/v1/videos?limit=999999999")).json())["data"]) == 20
    assert len((await (await client.get("/v1/videos?limit=0")).json())["data"]) == 1


async def test_deleting_a_running_video_cancels_its_job(client: ClientSession, upstream: TwoStep) -> None:
    await client.post("/v1/videos", json=CAT)
    deleted = await client.delete("/v1/videos/job_0", headers={"Content-Type": "application/json"})
    again = await client.delete("/v1/videos/job_0")
    shown = await (await client.get("/v1/videos/job_0")).json()

    assert await deleted.json() == await again.json() == {"id": "job_0", "object": "video.deleted", "deleted": True}
    assert upstream.cancelled == ["task_1"]
    assert (shown["status"], shown["error"]["code"]) == ("failed", "cancelled")


async def test_a_completed_video_is_not_deleted_and_its_record_stays(client: ClientSession, relay: Relay) -> None:
    await client.post("/v1/videos", json=CAT)
    relay.bus.publish(relay.job("job_0"), Done(urls=("https://h.example/v",)))
    deleted = await client.delete("/v1/videos/job_0")

    assert await deleted.json() == {"id": "job_0", "object": "video.deleted", "deleted": False}
    assert (await (await client.get("/v1/videos/job_0")).json())["status"] == "completed"


async def test_a_cancel_that_the_upstream_refuses_is_an_error_and_the_job_goes_on(
    client: ClientSession, upstream: TwoStep
) -> None:
    upstream.on_cancel = UpstreamError("refused", "too late to stop it")
    await client.post("/v1/videos", json=CAT)
    refused = await client.delete("/v1/videos/job_0")

    assert refused.status == 502
    assert "too late to stop it" in (await refused.json())["error"]["message"]
    assert (await (await client.get("/v1/videos/job_0")).json())["status"] == "queued"


async def test_an_unknown_video_is_404_in_the_form_of_openai(client: ClientSession) -> None:
    for response in (await client.get("/v1/videos/job_x"), await client.delete("/v1/videos/job_x")):
        error = (await response.json())["error"]
        assert (response.status, error["type"], error["code"]) == (404, "not_found_error", "not_found")


async def test_polling_and_streaming_clients_see_one_job(client: ClientSession, relay: Relay) -> None:
    video = await (await client.post("/v1/videos", json=CAT)).json()
    job = relay.job(video["id"])
    relay.bus.publish(job, Log(line="a line of the upstream"))
    relay.bus.publish(job, Failed(kind="policy", message="not allowed"))
    stream = await (await client.get(f"/v1/jobs/{job.id}/events")).text()
    shown = await (await client.get(f"/v1/videos/{job.id}")).json()

    assert "a line of the upstream" in stream
    assert "failed (policy): not allowed" in stream
    assert shown["error"] == {"code": "violation", "message": "not allowed"}
