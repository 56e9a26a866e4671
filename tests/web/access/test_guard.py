"""What was allowed once ends with that which allowed it: keys, proxies, settings, and what the application says."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay import ConfigError, Relay
from relay.config.access_settings import AccessSettings, KeySettings
from relay.secret import Secret, read_text
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode
from tests.web.access.credentials import JSON, bearer
from tests.web.access.house import ALL_WAYS, PROXY_SECRET, SCOPE_KEYS, House, house
from tests.web.access.issuer import mint
from tests.web.access.issuer import settings as jwt_settings
from tests.web.access.keys import ANN, BOB, OPERATOR, SETTINGS
from web import Access, create_app

USER_OF_PROXY = ["X-Forwarded-User: ann", f"X-Relay-Proxy: {PROXY_SECRET}"]


async def session(served: House, *fields: str) -> list[str]:
    """The field of a session that was begun with these *fields*."""
    signed_in = await served.ask("POST /v1/session", *fields)
    assert signed_in.status == 200
    return [f"Cookie: {signed_in.headers['set-cookie'].partition(';')[0]}"]


async def ticket(served: House, *fields: str, **wanted: object) -> str:
    made = await served.ask("POST /v1/tickets", *fields, JSON, body=json.dumps(wanted).encode())
    assert made.status == 201, made.body
    return str(json.loads(made.body)["ticket"])


async def status(served: House, *fields: str) -> int:
    return (await served.ask("GET /v1/session", *fields)).status


async def test_access_is_needed_once_it_was_configured_by_a_reload() -> None:
    async with house(None) as served:
        assert await status(served) == 200

        served.guard.reload(SETTINGS)

        assert await status(served) == 401
        assert await status(served, bearer(ANN)) == 200


async def test_a_session_ends_with_its_key() -> None:
    async with house() as served:
        ann, bob = await session(served, bearer(ANN)), await session(served, bearer(BOB))

        served.guard.reload(replace(ALL_WAYS, keys=tuple(key for key in ALL_WAYS.keys if key.name != "ann")))

        assert [await status(served, *fields) for fields in (ann, bob, [bearer(ANN)])] == [401, 200, 401]


async def test_nothing_of_a_key_outlives_the_rights_that_it_had() -> None:
    """A ticket names the jobs of others, which its key does not see any more."""
    wide = replace(SETTINGS, keys=(KeySettings(name="ann", key=Secret(ANN), jobs="*"),))
    async with house(wide) as served:
        job = served.job_of("key:else").id
        held = await session(served, bearer(ANN))
        opens = await ticket(served, bearer(ANN), jobs=[job])

        served.guard.reload(replace(wide, keys=(KeySettings(name="ann", key=Secret(ANN)),)))

        assert (await served.ask(f"GET /v1/jobs/{job}/events?ticket={opens}")).status == 204
        assert await status(served, *held) == 401
        assert (await served.ask(f"GET /v1/jobs/{job}", bearer(ANN))).status == 404


async def test_rights_that_are_the_same_keep_sessions_over_a_reload() -> None:
    async with house() as served:
        held = await session(served, bearer(ANN)), await session(served, *USER_OF_PROXY)
        again = replace(
            ALL_WAYS, jwt=None, keys=tuple(replace(key, key=Secret(key.key.reveal())) for key in ALL_WAYS.keys)
        )
        assert again.proxy is not None
        again = replace(again, proxy=replace(again.proxy, secret=Secret(PROXY_SECRET)))

        served.guard.reload(again)

        assert [await status(served, *fields) for fields in held] == [200, 200]


@pytest.mark.parametrize("jwt", [None, jwt_settings(audience="other")])
async def test_what_an_issuer_allowed_ends_with_its_settings(jwt: object) -> None:
    async with house() as served:
        held = await session(served, bearer(mint()))
        opens = await ticket(served, bearer(mint(scope="jobs:read")))

        served.guard.reload(replace(ALL_WAYS, jwt=jwt))

        assert await status(served, *held) == 401
        assert (await served.ask(f"GET /v1/events?ticket={opens}")).status == 204
        assert await status(served, bearer(mint())) == 401


async def test_what_a_proxy_allowed_ends_with_its_settings() -> None:
    for proxy in (None, replace(ALL_WAYS.proxy, scopes="jobs:read")) if ALL_WAYS.proxy is not None else ():
        async with house() as served:
            held = await session(served, *USER_OF_PROXY)

            served.guard.reload(replace(ALL_WAYS, proxy=proxy))

            assert await status(served, *held) == 401
            assert await status(served, *USER_OF_PROXY) == (401 if proxy is None else 200)


async def test_a_session_lasts_no_longer_than_until_its_access_is_to_be_proved_again() -> None:
    async with house() as served:
        held = await session(served, *USER_OF_PROXY)
        opens = await ticket(served, *USER_OF_PROXY, ttl="1h")
        first = await served.ask(f"GET /v1/events?ticket={opens}")
        assert first.status == 200

        await served.clock.advance(600)

        assert await status(served, *held) == 401
        cookie = f"Cookie: {first.headers['set-cookie'].partition(';')[0]}"
        assert (await served.ask(f"GET /v1/events?ticket={opens}", cookie)).status == 204


async def test_a_session_of_a_session_lasts_no_longer() -> None:
    async with house() as served:
        held = await session(served, bearer(ANN))
        await served.clock.advance(40_000)
        again = await session(served, *held)

        await served.clock.advance(3_200)

        assert [await status(served, *fields) for fields in (held, again)] == [401, 401]


async def test_a_ticket_of_a_key_that_operates_alone_reads() -> None:
    async with house() as served:
        job = served.job_of("key:else").id
        opens = await ticket(served, bearer(SCOPE_KEYS["operate"]), jobs=[job])

        assert (await served.ask(f"GET /v1/jobs/{job}/events?ticket={opens}")).status == 200


@pytest.mark.parametrize(
    "wanted",
    [
        {"scopes": "operate"},
        {"scopes": "jobs:read operate"},
        {"scopes": "jobs:read  jobs:x"},
        {"jobs": "*"},
        {"jobs": "own,*"},
        {"jobs": ["job_x"]},
        {"jobs": ["job_0"]},
        {"jobs": []},
        {"ttl": 0},
        {"ttl": "2d"},
        {"ttl": -1},
    ],
    ids=str,
)
async def test_a_ticket_allows_nothing_that_its_access_does_not(wanted: dict[str, object]) -> None:
    async with house() as served:
        assert served.job_of("key:else").id == "job_0"
        made = await served.ask("POST /v1/tickets", bearer(ANN), JSON, body=json.dumps(wanted).encode())

    assert made.status in (400, 403, 404)


async def test_a_ticket_for_some_jobs_opens_no_other() -> None:
    async with house() as served:
        one, other = served.job_of("key:ann").id, served.job_of("key:ann", "t1").id
        for path, expected in (
            (f"/v1/jobs/{other}/events", 404),
            ("/v1/events", 200),
            (f"/v1/events?job={one}", 200),
            (f"/v1/events?job={one}&job={other}", 404),
        ):
            opens = await ticket(served, bearer(ANN), jobs=[one])
            sign = "&" if "?" in path else "?"
            assert (await served.ask(f"GET {path}{sign}ticket={opens}")).status == expected, path


@pytest.mark.parametrize("job", ["a;Domain=example", "a;", '"'])
async def test_a_path_that_a_cookie_cannot_name_is_refused_with_a_ticket(job: str) -> None:
    async with house() as served:
        opens = await ticket(served, bearer(ANN))
        path = f"/v1/jobs/{job}/events?ticket={opens}"

        answered = [await served.ask(f"GET {path}"), await served.ask(f"GET {path}", "Cookie: rt_00000000=rlb_x")]

        assert [one.status for one in answered] == [204, 204]
        assert not any("set-cookie" in one.headers for one in answered)
        assert served.door.failures.counts["failed"] == 0


async def test_an_access_that_has_expired_already_is_none() -> None:
    ends = {"in": 10.0}

    async def authorize(_: object) -> Access | None:
        return Access(subject="ann", expires=served.guard.now() + ends["in"])

    async with house(None, authorize=authorize) as served:
        assert await status(served) == 200
        ends["in"] = 0.0
        assert await status(served) == 401


async def test_a_key_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    file, new = tmp_path / "key", "rlk_new-0123456789-0123456789-0123456789"
    file.write_text(f"{ANN}\n")
    settings = AccessSettings(keys=(KeySettings(name="ann", key=read_text("file:key", {}, tmp_path)),))
    async with house(settings) as served:
        held = await session(served, bearer(ANN))
        for half in ("", "rlk_new"):
            file.write_text(half)
            served.guard.refresh()
            assert [await status(served, bearer(key)) for key in (ANN, half or "x", new)] == [200, 401, 401]

        file.write_text(new)
        served.guard.refresh()

        assert [await status(served, *fields) for fields in ([bearer(ANN)], [bearer(new)], held)] == [401, 200, 401]


def test_a_short_key_opens_nothing_and_is_reported() -> None:
    from web.access.keys import ApiKeys

    notices: list[str] = []
    keys = ApiKeys((KeySettings(name="ann", key=Secret("short")),), notices.append)

    assert keys.find("short") is None
    assert notices == ["[[access.keys]] 1 has fewer than 32 characters, and opens nothing"]


async def test_two_keys_of_one_name_are_one_subject_while_one_replaces_the_other() -> None:
    keys = tuple(KeySettings(name="ann", key=Secret(key)) for key in (ANN, BOB))
    async with house(replace(SETTINGS, keys=keys)) as served:
        job = served.job_of("key:ann").id
        held = await session(served, bearer(ANN))

        assert [(await served.ask(f"GET /v1/jobs/{job}", bearer(key))).status for key in (ANN, BOB)] == [200, 200]
        served.guard.reload(replace(SETTINGS, keys=keys[1:]))
        assert [await status(served, *fields) for fields in ([bearer(ANN)], [bearer(BOB)], held)] == [401, 200, 401]


async def test_a_former_operator_operates_no_more() -> None:
    async with house() as served:
        held = await session(served, bearer(OPERATOR))
        keys = tuple(replace(key, scopes="jobs:read") if key.name == "operator" else key for key in ALL_WAYS.keys)

        served.guard.reload(replace(ALL_WAYS, keys=keys))

        assert [(await served.ask("GET /metrics", *fields)).status for fields in ([bearer(OPERATOR)], held)] == [
            403,
            401,
        ]


async def test_a_session_that_was_ended_is_accepted_no_more_and_others_are() -> None:
    async with house() as served:
        ended, other = await session(served, bearer(ANN)), await session(served, bearer(ANN))

        assert (await served.ask("DELETE /v1/session", *ended)).status == 204

        assert [await status(served, *fields) for fields in (ended, other)] == [401, 200]
        assert (await served.ask("DELETE /v1/session", bearer(ANN), *other)).status == 204
        assert await status(served, *other) == 401


async def test_no_token_is_in_a_log_or_in_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever comes with a request, right or wrong, and wherever: also where it is no way to present it."""
    secrets = [ANN, "rlk_wrong-0123456789", mint(), PROXY_SECRET, f"{mint()[:-4]}AAAA"]
    async with house() as served:
        secrets += [await ticket(served, bearer(ANN)), served.guard.signer.sign_watch("job_0", 2**33)]
        whole = b""
        for secret in secrets:
            for line in ("GET /v1/jobs", "GET /v1/events", "GET /v1/none", f"GET /v1/events?ticket={secret}"):
                for field in (
                    bearer(secret),
                    f"Cookie: relay-{served.guard.signer.id}={secret}",
                    f"X-Relay-Proxy: {secret}",
                ):
                    answered = await served.ask(line, field)
                    whole += answered.body + str(answered.headers).encode()
            whole += (await served.ask("POST /v1/jobs", bearer(secret), body=b"{}")).body

    told = whole.decode() + caplog.text
    assert [secret for secret in secrets if secret in told or secret[-20:] in told] == []


@pytest.mark.parametrize("key", [None, "k" * 32], ids=["without a key", "with a key"])
def test_access_at_several_nodes_needs_a_key_that_all_of_them_have(key: str | None) -> None:
    relay = Relay([], journal=MemoryNode(MemoryEngine(), "n"))
    settings = replace(SETTINGS, signing_key=None if key is None else Secret(key))
    if key is None:
        with pytest.raises(ConfigError, match="signing_key, the same at all of them"):
            create_app(relay, access=settings)
    else:
        create_app(relay, access=settings)
    create_app(Relay([]), access=settings)
