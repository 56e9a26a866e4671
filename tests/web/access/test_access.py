"""Each request has an access, and does what that allows and nothing more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from aiohttp import ClientResponse, ClientSession
from aiohttp.web import Application
from jwt import encode

from relay import Relay
from relay.config.access_settings import AccessSettings, JwtSettings
from relay.secret import Secret
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.access.keys import ANN, BOB, OPERATOR, READER, SETTINGS, bearer
from tests.web.serving import serve_app
from web import GUARD, Access, create_app

FOLLOW = {"upstream": "scripted", "task": "t"}


class Served:
    """A relay with access, its application and a client."""

    def __init__(self, app: Application, client: ClientSession, clock: ManualClock, relay: Relay) -> None:
        self.app = app
        self.client = client
        self.clock = clock
        self.relay = relay

    async def follow(self, key: str, task: str = "t") -> str:
        answer = await self.client.post("/v1/jobs", json=FOLLOW | {"task": task}, headers=bearer(key))
        return str((await answer.json())["job"])

    async def get(self, path: str, key: str | None = None, **headers: str) -> ClientResponse:
        return await self.client.get(path, headers={**(bearer(key) if key else {}), **headers})


@asynccontextmanager
async def served(settings: AccessSettings | None = SETTINGS, **options: object) -> AsyncIterator[Served]:
    clock, names = ManualClock(), count()
    tasks = {f"t{n}": RUNNING for n in range(9)} | {"t": RUNNING}
    relay = Relay([TwoStep(story(tasks))], clock=clock, new_job_id=lambda: f"job_{next(names)}")
    app = create_app(relay, access=settings, send_timeout=3_600, slow_after=3_600, **options)  # type: ignore[arg-type]
    async with serve_app(app) as client:
        yield Served(app, client, clock, relay)


@pytest.fixture
async def relay() -> AsyncIterator[Served]:
    async with served() as one:
        yield one


async def test_without_a_credential_nothing_about_jobs_is_answered(relay: Served) -> None:
    answer = await relay.get("/v1/jobs")

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="relay"')
    assert (await relay.get("/healthz")).status == 200


async def test_a_job_is_seen_by_its_owner_and_by_those_that_see_all(relay: Served) -> None:
    job = await relay.follow(ANN)

    seen = {key: (await relay.get(f"/v1/jobs/{job}", key)).status for key in (ANN, BOB, READER, OPERATOR)}

    assert seen == {ANN: 200, BOB: 404, READER: 200, OPERATOR: 200}
    assert [one["job"] for one in (await (await relay.get("/v1/jobs", BOB)).json())["jobs"]] == []


async def test_a_foreign_job_is_answered_as_an_unknown_one(relay: Served) -> None:
    job = await relay.follow(ANN)

    foreign = await relay.get(f"/v1/jobs/{job}", BOB)
    unknown = await relay.get("/v1/jobs/job_none", BOB)

    assert (await foreign.text()).replace(job, "job_none") == await unknown.text()
    assert dict(foreign.headers) | {"Date": "", "Content-Length": ""} == dict(unknown.headers) | {
        "Date": "",
        "Content-Length": "",
    }


async def test_two_owners_of_one_task_have_a_job_each_and_keys_of_their_own(relay: Served) -> None:
    assert await relay.follow(ANN) != await relay.follow(BOB)
    assert await relay.follow(ANN) == await relay.follow(ANN)


async def test_a_missing_scope_is_403_and_names_it(relay: Served) -> None:
    answer = await relay.client.post("/v1/jobs", json=FOLLOW, headers=bearer(READER))

    assert answer.status == 403
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="relay", error="insufficient_scope", scope="jobs:submit"'


async def test_a_session_is_a_cookie_that_no_script_reads(relay: Served) -> None:
    job = await relay.follow(ANN)

    answer = await relay.client.post("/v1/session", headers=bearer(ANN))

    assert answer.status == 200
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("relay-")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert (await relay.get(f"/v1/jobs/{job}")).status == 401, "the client keeps no cookies of addresses"
    presented = cookie.split(";")[0]
    assert (await relay.get(f"/v1/jobs/{job}", Cookie=presented)).status == 200
    answers = [await relay.get("/v1/session", Cookie=presented), await relay.get("/v1/session", ANN)]
    shown = [await one.json() for one in answers]
    assert [(one["subject"], one["signed_in"]) for one in shown] == [("key:ann", True), ("key:ann", False)]
    assert (await relay.get(f"/v1/jobs/{job}", Cookie=f"{presented}; {presented}")).status == 401
    assert (await relay.get(f"/v1/jobs/{job}", Cookie=presented[:-1] + "A" * (presented[-1] != "A"))).status == 401


async def test_a_ticket_opens_one_stream_and_goes_on_with_its_cookie_alone(relay: Served) -> None:
    job = await relay.follow(ANN)
    made = await relay.client.post("/v1/tickets", json={"jobs": [job], "ttl": "10m"}, headers=bearer(ANN))
    ticket = (await made.json())["ticket"]

    first = await relay.get(f"/v1/jobs/{job}/events?ticket={ticket}", Accept="text/event-stream")
    copied = await relay.get(f"/v1/jobs/{job}/events?ticket={ticket}", Accept="text/event-stream")
    cookie = first.headers["Set-Cookie"].split(";")[0]
    again = await relay.get(f"/v1/jobs/{job}/events?ticket={ticket}", Accept="text/event-stream", Cookie=cookie)

    assert (made.status, first.status, copied.status, again.status) == (201, 200, 204, 200)
    assert f"Path=/v1/jobs/{job}/events" in first.headers["Set-Cookie"]
    first.close()
    again.close()


async def test_a_ticket_that_was_not_used_in_time_opens_nothing(relay: Served) -> None:
    made = await relay.client.post("/v1/tickets", json={}, headers=bearer(ANN))
    ticket = (await made.json())["ticket"]

    await relay.clock.advance(31)

    assert (await relay.get(f"/v1/events?ticket={ticket}")).status == 204


async def test_a_watch_link_opens_its_job_and_no_other(relay: Served) -> None:
    answer = await relay.client.post("/v1/jobs", json=FOLLOW, headers=bearer(ANN))
    body = await answer.json()
    other = await relay.follow(ANN, "t1")

    address, _, capability = body["watch"].partition("#watch=")

    assert address == str(relay.client._base_url).rstrip("/") + "/"
    assert (await relay.get(f"/v1/jobs/{body['job']}", capability)).status == 200
    assert (await relay.get(f"/v1/jobs/{other}", capability)).status == 404
    assert (await relay.client.post(f"/v1/jobs/{body['job']}/cancel", headers=bearer(capability))).status == 403


async def test_an_application_decides_by_its_own_session_and_may_end_it() -> None:
    known: set[str] = {"ann"}

    async def authorize(request: object) -> Access | None:
        name = request.headers.get("X-Session")  # type: ignore[attr-defined]
        return Access(subject=name) if name in known else None

    async with served(None, authorize=authorize) as relay:
        stream = await relay.get("/v1/events", **{"X-Session": "ann", "Accept": "text/event-stream"})
        assert await stream.content.readline() == b":\n"

        known.clear()
        relay.app[GUARD].revoke(subject="ann")

        assert b"event: denied" in await stream.content.read()
        assert (await relay.get("/v1/events", **{"X-Session": "ann"})).status == 401


async def test_a_quiet_owner_misses_nothing_however_much_others_publish() -> None:
    async with served(heartbeat=0.05, max_age=1_000.0) as relay:
        await relay.follow(ANN)
        stream = await relay.get("/v1/events", ANN, Accept="text/event-stream")
        await relay.follow(BOB)
        head = f"id: {relay.relay.journal.epoch}-{relay.relay.journal.head}"

        text = ""
        while head not in text:
            text += (await stream.content.readline()).decode()

        assert "scripted, task t" in text
        assert text.count("event: accepted") == 1, "that of the other is not in it"
        stream.close()


async def test_a_token_of_the_issuer_is_a_way_in_until_its_subject_is_revoked() -> None:
    secret = "jwt-0123456789-0123456789-0123456789"
    jwt = JwtSettings(issuer="https://login.example", audience="relay", algorithms=("HS256",), key=Secret(secret))
    async with served(AccessSettings(jwt=jwt)) as relay:
        now = int(relay.clock.now().timestamp())
        claims = {"iss": jwt.issuer, "aud": jwt.audience, "sub": "ann", "iat": now, "exp": now + 600}
        token = encode({**claims, "scope": "jobs:read jobs:submit"}, secret, "HS256")
        job = await relay.follow(token)

        seen = await relay.get(f"/v1/jobs/{job}", token)
        other = await relay.get(
            f"/v1/jobs/{job}", encode({**claims, "sub": "bob", "scope": "jobs:read"}, secret, "HS256")
        )
        relay.app[GUARD].revoke(subject="jwt:ann")
        revoked = await relay.get(f"/v1/jobs/{job}", token)

    assert (seen.status, other.status, revoked.status) == (200, 404, 401)
