"""A JWT as a way in: its claims are the access of a request, and of a stream."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientResponse, ClientSession
from aiohttp.web import Application
from msgspec.structs import replace

import web.access.jwks
from relay import Relay
from relay.config.access_settings import AccessSettings, JwtSettings
from relay.errors import ConfigError
from relay.secret import Secret
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.access.house import house
from tests.web.access.issuer import NOW, jwk, jwks, mint, pem, settings
from tests.web.access.key_server import serve_keys
from tests.web.access.keys import bearer
from tests.web.serving import serve_app
from web import GUARD, create_app

USER = "openid jobs:read jobs:submit"


class Served:
    def __init__(self, app: Application, client: ClientSession, clock: ManualClock) -> None:
        self.guard = app[GUARD]
        self.client = client
        self.clock = clock

    async def get(self, path: str, token: str) -> ClientResponse:
        return await self.client.get(path, headers=bearer(token))

    async def status(self, token: str, path: str = "/v1/jobs") -> int:
        return (await self.get(path, token)).status

    async def follow(self, token: str) -> str:
        answer = await self.client.post("/v1/jobs", json={"upstream": "scripted", "task": "t"}, headers=bearer(token))
        return str((await answer.json())["job"])


@asynccontextmanager
async def served(jwt: JwtSettings) -> AsyncIterator[Served]:
    clock = ManualClock()
    relay = Relay([TwoStep(story({"t": RUNNING}))], clock=clock)
    app = create_app(relay, access=AccessSettings(jwt=jwt), send_timeout=3_600, slow_after=3_600)
    async with serve_app(app) as client:
        yield Served(app, client, clock)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer over loopback may take seconds."""
    monkeypatch.setattr(web.access.jwks, "TIMEOUT", 3_600.0)


@pytest.fixture
async def relay() -> AsyncIterator[Served]:
    async with served(settings()) as one:
        yield one


async def test_the_subject_of_a_token_owns_what_it_follows(relay: Served) -> None:
    job = await relay.follow(mint(scope=USER))
    path = f"/v1/jobs/{job}"

    tokens = {
        "ann, later": mint(scope=USER, jti="2"),
        "bob": mint(sub="bob", scope=USER),
        "bob, this job": mint(sub="bob", scope=USER, jobs=[job]),
        "bob, all jobs": mint(sub="bob", scope=USER, jobs="*"),
        "operator": mint(sub="bob", scope="operate"),
        "ann, another job": mint(scope=USER, jobs=["job_other"]),
        "ann, no scope": mint(),
    }
    assert {name: await relay.status(token, path) for name, token in tokens.items()} == {
        "ann, later": 200,
        "bob": 404,
        "bob, this job": 200,
        "bob, all jobs": 200,
        "operator": 200,
        "ann, another job": 404,
        "ann, no scope": 403,
    }


@pytest.mark.parametrize(
    "token",
    [
        mint(scope=USER, exp=NOW - 60),
        mint(scope=USER, iss="https://other.example"),
        mint(scope=USER, aud="other"),
        mint(scope=USER, key="two"),
        mint("HS256", scope=USER),
        mint(scope=USER)[:-1],
        f"{mint(scope=USER)}\u00e9",
        "a.b.c",
    ],
    ids=["expired", "issuer", "audience", "signature", "algorithm", "cut", "Latin-1", "no token"],
)
async def test_a_token_that_is_not_valid_is_401_whatever_it_asks_for(relay: Served, token: str) -> None:
    for path in ("/v1/jobs", "/v1/events", "/v1/jobs/job_none", "/v1/sinks"):
        answer = await relay.get(path, token)
        challenge = answer.headers["WWW-Authenticate"]
        assert (answer.status, challenge) == (401, 'Bearer realm="relay", error="invalid_token"')
        assert token not in await answer.text()


async def test_an_access_ends_with_its_token_and_its_leeway(relay: Served) -> None:
    """A stream too: one that ended before would be opened again at once, as long as the token is accepted."""
    answer = await relay.get("/v1/session", mint(scope=USER, exp=NOW + 100))

    shown = await answer.json()
    assert (shown["subject"], shown["expires"]) == ("jwt:ann", "2026-01-01T00:02:40Z")


async def test_a_revoked_subject_needs_a_token_that_was_issued_later(relay: Served) -> None:
    before, without_time = mint(scope=USER, iat=NOW), mint(scope=USER)
    assert [await relay.status(token) for token in (before, without_time)] == [200, 200]

    relay.guard.revoke(subject="jwt:ann")
    assert [await relay.status(token) for token in (before, without_time)] == [401, 401]
    assert await relay.status(mint(scope=USER, iat=NOW + 1)) == 200
    assert await relay.status(mint(sub="bob", scope=USER)) == 200


async def test_a_revoked_token_leaves_the_others_of_its_subject(relay: Served) -> None:
    one, two = mint(scope=USER, jti="one"), mint(scope=USER, jti="two")

    relay.guard.revoke(credential="jwt:one")
    assert [await relay.status(token) for token in (one, two)] == [401, 200]


async def test_a_token_that_was_verified_is_answered_when_its_address_has_to_wait(relay: Served) -> None:
    token = mint(scope=USER)
    assert await relay.status(token) == 200

    statuses = [await relay.status(mint(scope=USER, key="two", sub=f"user-{number}")) for number in range(20)]
    assert (statuses[0], statuses[-1]) == (401, 429)
    assert await relay.status(token) == 200
    assert await relay.status(mint(scope=USER, jti="new")) == 429


async def test_a_session_of_a_token_ends_with_it(relay: Served) -> None:
    answer = await relay.client.post("/v1/session", headers=bearer(mint(scope=USER, exp=NOW + 100)))
    cookie = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}

    assert (await relay.client.get("/v1/jobs", headers=cookie)).status == 200
    await relay.clock.advance(161)
    assert (await relay.client.get("/v1/jobs", headers=cookie)).status == 401


async def test_a_withdrawn_key_verifies_no_request_any_more(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(jwk("RS256", "one")))
    async with served(settings(jwks=f"file:{path}")) as relay:
        token = mint(scope=USER)
        assert [await relay.status(token) for _ in range(2)] == [200, 200]

        (tmp_path / "new").write_bytes(jwks(jwk("RS256", "two")))
        os.replace(tmp_path / "new", path)
        assert await relay.status(token) == 401
        assert await relay.status(mint(scope=USER, key="two")) == 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/events"])
async def test_each_request_with_a_token_whose_key_was_withdrawn_counts_once(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys, token = tmp_path / "keys.json", f"Authorization: Bearer {mint(scope=USER)}"
    keys.write_bytes(jwks(jwk("RS256", "one")))
    async with house(AccessSettings(jwt=settings(jwks=f"file:{keys}"))) as served:
        assert (await served.ask(f"GET {path}", token)).status == 200

        (tmp_path / "new").write_bytes(jwks(jwk("RS256", "two")))
        os.replace(tmp_path / "new", keys)
        assert [(await served.ask(f"GET {path}", token)).status for _ in range(3)] == [401] * 3
        await served.clock.advance(600)
        assert (await served.ask(f"GET {path}", token)).status == 401

    refused = "[access.jwt]: a token was refused: the issuer has no key of its `kid` that is for its `alg`"
    assert [line for line in caplog.messages if "a token was refused" in line] == [
        refused,
        f"{refused} (and 2 more since the last such line)",
    ]


async def test_the_keys_are_fetched_when_the_relay_starts() -> None:
    async with serve_keys(jwks(jwk("RS256"))) as keys, served(settings(jwks=keys.url)) as relay:
        await keys.asked.wait()
        assert await relay.status(mint(scope=USER)) == 200
        assert len(keys.requests) == 1


async def test_a_relay_starts_while_its_issuer_is_away() -> None:
    async with serve_keys(b"") as keys:
        url = keys.url
    async with served(settings(jwks=url)) as relay:
        assert (await relay.client.get("/healthz")).status == 200
        answer = await relay.get("/v1/jobs", mint(scope=USER))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        many = [await relay.status(mint(scope=USER, jti=str(number))) for number in range(12)]
        assert set(many) == {503}, "nobody has failed to prove anything"


async def test_another_issuer_ends_the_streams_of_the_former_one(relay: Served) -> None:
    job = await relay.follow(mint(scope=USER))
    stream = await relay.get(f"/v1/jobs/{job}/events", mint(scope=USER))

    session = await relay.client.post("/v1/session", headers=bearer(mint(scope=USER)))
    cookie = {"Cookie": session.headers["Set-Cookie"].split(";")[0]}

    relay.guard.reload(AccessSettings(jwt=settings()))
    assert await relay.status(mint(scope=USER)) == 200
    assert (await relay.client.get("/v1/jobs", headers=cookie)).status == 200
    with pytest.raises(ConfigError):
        relay.guard.reload(AccessSettings(jwt=settings("HS256", key="short")))
    assert await relay.status(mint(scope=USER)) == 200

    relay.guard.reload(AccessSettings(jwt=replace(settings(), key=Secret(pem("RS256", "two")))))
    assert b"event: denied\n" in await stream.read()
    assert (await relay.client.get("/v1/jobs", headers=cookie)).status == 401
    assert [await relay.status(mint(scope=USER, key=name)) for name in ("one", "two")] == [401, 200]
