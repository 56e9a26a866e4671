"""Jobs over HTTP, and what is refused: one clear answer each, as problem+json."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.web import Application

from relay import Relay
from relay.errors import UpstreamError
from relay.events import Done, Log
from relay.journal import MemoryJournal
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.serving import serve, serve_app
from web import create_app


@pytest.fixture
def upstream() -> TwoStep:
    return TwoStep(story({"t": RUNNING, "task_1": RUNNING}))


@pytest.fixture
async def client(upstream: TwoStep) -> AsyncIterator[ClientSession]:
    async with serve(
        Relay([upstream], clock=ManualClock(), new_job_id=iter(f"job_{n}" for n in range(9)).__next__)
    ) as c:
        yield c


FOLLOW = {"upstream": "scripted", "task": "t"}
SUBMIT = {"upstream": "scripted", "input": {"prompt": "a cat"}}


async def test_following_a_task_gives_its_job_and_twice_is_the_same(client: ClientSession) -> None:
    first = await client.post("/v1/jobs", json=FOLLOW)
    again = await client.post("/v1/jobs", json=FOLLOW)

    assert (first.status, first.headers["Location"]) == (201, "/v1/jobs/job_0")
    assert (again.status, again.headers["Location"]) == (200, "/v1/jobs/job_0")
    assert await first.json() == {
        "job": "job_0",
        "upstream": "scripted",
        "task": "t",
        "status": "queued",
        "percent": None,
        "text": "accepted for scripted, task t",
        "seq": 1,
        "started": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:00:00Z",
        "terminal": None,
    }


class Gathering(MemoryJournal):
    """What can wait for a commit waits for ages."""

    @property
    def commit_delay(self) -> float:
        return 1_000.0


async def test_a_snapshot_tells_nothing_that_the_streams_have_not_told_yet(upstream: TwoStep) -> None:
    relay = Relay([upstream], clock=ManualClock(), journal=Gathering())
    async with serve(relay) as client:
        known = await (await client.post("/v1/jobs", json=FOLLOW)).json()
        job = relay.job(known["job"])
        with relay.bus.batch(deferrable=True):
            relay.bus.publish(job, Log(line="not told yet"))
        shown = await (await client.get(f"/v1/jobs/{job.id}")).json()
        again = await (await client.post("/v1/jobs", json=FOLLOW)).json()
        with relay.bus.batch():
            pass
        after = await (await client.get(f"/v1/jobs/{job.id}")).json()

    assert shown == again == known
    assert after["seq"] > known["seq"]


async def test_a_cancel_shows_no_end_that_the_streams_have_not_told_yet(upstream: TwoStep) -> None:
    relay = Relay([upstream], clock=ManualClock(), journal=Gathering())
    async with serve(relay) as client:
        known = await (await client.post("/v1/jobs", json=FOLLOW)).json()
        job = relay.job(known["job"])
        with relay.bus.batch(deferrable=True):
            relay.bus.publish(job, Done(urls=()))
        too_late = await client.post(f"/v1/jobs/{job.id}/cancel")

        assert (too_late.status, await too_late.json()) == (202, known)


async def test_a_submission_is_answered_at_once_and_its_key_is_honoured(
    client: ClientSession, upstream: TwoStep
) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await client.post("/v1/jobs", json=SUBMIT, headers=key)
    again = await client.post("/v1/jobs", json=SUBMIT, headers=key)
    other = await client.post("/v1/jobs", json={**SUBMIT, "input": {"prompt": "a dog"}}, headers=key)

    assert (first.status, again.status, other.status) == (201, 200, 409)
    assert (await first.json())["job"] == (await again.json())["job"]
    assert upstream.submitted == [{"prompt": "a cat"}]


async def test_a_key_that_submitted_one_job_is_not_taken_for_following_another(
    client: ClientSession, upstream: TwoStep
) -> None:
    key = {"Idempotency-Key": "k1"}
    submitted = await (await client.post("/v1/jobs", json=SUBMIT, headers=key)).json()
    other = await client.post("/v1/jobs", json=FOLLOW, headers=key)
    without = await client.post("/v1/jobs", json=FOLLOW)

    assert (other.status, without.status) == (409, 201)
    assert "was used to submit another job" in (await other.json())["detail"]
    assert (await without.json())["job"] != submitted["job"]


async def test_jobs_are_listed_with_the_position_from_which_a_stream_goes_on(client: ClientSession) -> None:
    await client.post("/v1/jobs", json=FOLLOW)
    one = await (await client.get("/v1/jobs/job_0")).json()

    listing = await (await client.get("/v1/jobs")).json()

    assert listing["upstreams"] == ["scripted"]
    assert [job["job"] for job in listing["jobs"]] == [one["job"]] == ["job_0"]
    assert int(listing["position"].split("-")[1]) >= one["seq"]


async def test_a_cancel_is_accepted_and_shows_the_end(client: ClientSession, upstream: TwoStep) -> None:
    await client.post("/v1/jobs", json=FOLLOW)

    response = await client.post("/v1/jobs/job_0/cancel")

    body = await response.json()
    assert (response.status, body["status"], body["terminal"]["type"]) == (202, "cancelled", "cancelled")
    assert upstream.cancelled == ["t"]


async def test_a_cancel_that_the_upstream_refuses_is_a_bad_gateway(client: ClientSession, upstream: TwoStep) -> None:
    await client.post("/v1/jobs", json=FOLLOW)
    upstream.on_cancel = UpstreamError("refused", "too late")

    response = await client.post("/v1/jobs/job_0/cancel")

    assert (response.status, (await response.json())["detail"]) == (502, "too late")


DEEP = '{"upstream": "scripted", "input": {"a": ' + "[" * 9_000

REFUSED: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/v1/jobs/job_x", {}, 404, "no job 'job_x' is known here"),
    ("GET", "/v1/jobs/job_x/events", {}, 404, "no job 'job_x' is known here"),
    ("POST", "/v1/jobs/job_x/cancel", {}, 404, "no job 'job_x' is known here"),
    ("GET", "/v1/events?job=job_x", {}, 404, "no job 'job_x' is known here"),
    ("GET", "/v1/events?job=%00", {}, 400, "a job's id has no slash and no control character"),
    ("GET", "/v1/events?job=%00", {"headers": {"Accept": "text/event-stream"}}, 400, "a job's id has no slash"),
    ("GET", "/v1/jobs/a%2Fb", {}, 400, "a job's id has no slash"),
    ("GET", "/v1/jobs/a%2Fb/events", {}, 400, "a job's id has no slash"),
    ("POST", "/v1/jobs/a%0Ab/cancel", {}, 400, "a job's id has no slash"),
    ("GET", "/v1/events?level=loud", {}, 400, "level is one of debug, info, warning, error"),
    ("GET", "/v1/events?" + "&".join(f"job={n}" for n in range(1_001)), {}, 413, "at most 1,000 jobs"),
    ("GET", "/v2", {}, 404, "nothing is at /v2"),
    ("POST", "/v1/jobs", {"data": "not json", "headers": {"Content-Type": "application/json"}}, 400, "is not JSON"),
    ("POST", "/v1/jobs", {"data": b"\xff", "headers": {"Content-Type": "application/json"}}, 400, "is not JSON"),
    ("POST", "/v1/jobs", {"data": DEEP, "headers": {"Content-Type": "application/json"}}, 400, "is not JSON"),
    ("POST", "/v1/jobs", {"data": {"upstream": "scripted"}}, 415, "Content-Type: application/json"),
    ("POST", "/v1/jobs", {"json": ["scripted"]}, 400, "the body does not fit: Expected `object`, got `array`"),
    ("POST", "/v1/jobs", {"json": {"task": "t"}}, 400, "missing required field `upstream`"),
    ("POST", "/v1/jobs", {"json": {**FOLLOW, "tsk": 1}}, 400, "unknown field `tsk`"),
    ("POST", "/v1/jobs", {"json": {"upstream": "scripted"}}, 400, "give either `task`"),
    ("POST", "/v1/jobs", {"json": {**FOLLOW, **SUBMIT}}, 400, "give either `task`"),
    ("POST", "/v1/jobs", {"json": {**FOLLOW, "upstream": "sorra"}}, 400, "no upstream is called 'sorra'"),
    ("POST", "/v1/jobs", {"json": {**FOLLOW, "task": ""}}, 400, "a task id is 1 to 256"),
    ("POST", "/v1/jobs", {"json": SUBMIT, "headers": {"Idempotency-Key": "k" * 256}}, 400, "1 to 255 characters"),
    ("POST", "/v1/jobs", {"json": FOLLOW, "headers": {"Origin": "http://evil.example"}}, 403, "this origin"),
    ("POST", "/v1/jobs", {"json": FOLLOW, "headers": {"Origin": "null"}}, 403, "this origin"),
]


@pytest.mark.parametrize(("method", "path", "extra", "status", "detail"), REFUSED, ids=lambda value: str(value)[:30])
async def test_what_cannot_be_answered_is_refused_in_one_clear_sentence(
    client: ClientSession, method: str, path: str, extra: dict[str, Any], status: int, detail: str
) -> None:
    response = await client.request(method, path, **extra)

    assert (response.status, response.content_type) == (status, "application/problem+json")
    problem = json.loads(await response.read())
    assert detail in problem["detail"]
    assert (problem["status"], problem["title"]) == (status, response.reason)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/jobs", "GET,HEAD,POST"),
        ("POST", "/v1/events", "GET,HEAD"),
        ("PUT", "/v1/jobs/job_0/events", "GET,HEAD"),
        ("GET", "/v1/jobs/job_0/cancel", "POST"),
    ],
)
async def test_a_wrong_method_is_told_which_are_right(
    client: ClientSession, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)

    assert (response.status, response.headers["Allow"]) == (405, allowed)
    assert response.content_type == "application/problem+json"


async def test_a_body_over_one_mebibyte_is_refused(client: ClientSession) -> None:
    body = io.BytesIO(b'{"upstream": "scripted", "task": "' + b"x" * 1024 * 1024 + b'"}')

    response = await client.post("/v1/jobs", data=body, headers={"Content-Type": "application/json"})

    assert (response.status, response.content_type) == (413, "application/problem+json")
    assert (await response.json(content_type=None))["detail"] == "a body has at most 1,048,576 bytes"


async def test_a_body_over_one_mebibyte_is_refused_also_when_its_length_is_not_said(client: ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65_536

    response = await client.post("/v1/jobs", data=endless(), headers={"Content-Type": "application/json"})

    assert response.status == 413


@pytest.mark.parametrize("begins_like_ours", ["{}.evil.example", "{}0", "{}@evil.example", "{}/"])
async def test_an_origin_that_only_begins_like_ours_is_refused(client: ClientSession, begins_like_ours: str) -> None:
    ours = str(client._base_url).rstrip("/")

    response = await client.post("/v1/jobs", json=FOLLOW, headers={"Origin": begins_like_ours.format(ours)})

    assert (response.status, response.content_type) == (403, "application/problem+json")


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),
        ("cross-site", "no-cors", 403),
        ("same-site", "no-cors", 403),
    ],
)
async def test_without_an_origin_a_browser_says_whether_the_page_is_ours(
    client: ClientSession, site: str, mode: str, status: int
) -> None:
    """An image whose address is a stream's comes without an Origin. It could not be read, but would hold the stream."""
    response = await client.get("/v1/jobs", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode})

    assert response.status == status


async def test_a_page_of_this_origin_may_change_things(client: ClientSession) -> None:
    response = await client.post("/v1/jobs", json=FOLLOW, headers={"Origin": str(client._base_url).rstrip("/")})

    assert response.status == 201


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("[::1]:8080", 200),
        ("rebound.example", 421),
        ("localhost.evil", 421),
    ],
)
async def test_only_known_host_names_are_answered_where_they_are_given(host: str, status: int) -> None:
    async with serve(Relay([]), hosts={"localhost", "[::1]"}) as client:
        assert (await client.get("/v1/jobs", headers={"Host": host})).status == status


async def test_health_readiness_and_figures(client: ClientSession, upstream: TwoStep) -> None:
    await client.post("/v1/jobs", json=FOLLOW)

    healthy, ready, figures = [await client.get(path) for path in ("/healthz", "/readyz", "/metrics")]

    assert (healthy.status, ready.status, figures.status) == (200, 200, 200)
    lines = (await figures.text()).splitlines()
    assert "relay_streams 0.0" in lines
    assert any(line.startswith('relay_jobs{status="') for line in lines)
    assert any(line.startswith("relay_records_total ") for line in lines)


async def test_an_application_that_exists_mounts_the_relay_and_keeps_its_own_answers() -> None:
    outer = Application()
    relay = Relay([TwoStep(story({"t": RUNNING}))], clock=ManualClock())
    outer.add_subapp("/relay", create_app(relay))
    async with serve_app(outer) as client:
        assert relay.running
        created = await client.post("/relay/v1/jobs", json=FOLLOW)
        assert created.headers["Location"].startswith("/relay/v1/jobs/job_")
        assert (await client.get(created.headers["Location"])).status == 200
        assert (await client.get("/relay/v1/jobs/job_x")).content_type == "application/problem+json"
        assert (await client.get("/elsewhere")).content_type == "text/plain"
        page = await client.get("/relay/")
        assert (page.status, page.content_type) == (200, "text/html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not relay.running


async def test_a_relay_that_runs_already_is_left_running() -> None:
    async with Relay([], clock=ManualClock()) as relay:
        async with serve(relay) as client:
            assert (await client.get("/readyz")).status == 200
        assert relay.running
