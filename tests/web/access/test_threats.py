"""Threats of docs/explanation/threat-model.md to every way in: what is forged or guessed opens nothing."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from relay import Relay
from relay.config.access_settings import ProxySettings
from relay.secret import Secret
from relay.testing import ManualClock
from tests.web.access.house import PROXY_SECRET
from tests.web.access.keys import ANN, BOB, SETTINGS, bearer
from tests.web.access.test_access import FOLLOW, Served, served
from tests.web.raw import door, request
from web import GUARD
from web.access.signing import Claims, Purpose, Signer

NOTHING_ASKED = {"/", "/static/{name}", "/healthz", "/readyz", "/v1/webhooks/{upstream}/{job}/{token}"}


@pytest.fixture
async def relay() -> AsyncIterator[Served]:
    async with served() as one:
        yield one


async def signed_in(relay: Served, key: str = ANN) -> str:
    answer = await relay.client.post("/v1/session", headers=bearer(key))
    return answer.headers["Set-Cookie"].split(";")[0]


async def a_ticket(relay: Served, key: str = ANN) -> str:
    answer = await relay.client.post("/v1/tickets", json={}, headers=bearer(key))
    return str((await answer.json())["ticket"])


# Every route


async def test_every_route_is_closed_to_a_client_without_a_credential_but_for_those_that_ask_nothing(
    relay: Served,
) -> None:
    found = {}
    for route in relay.app.router.routes():
        assert route.resource is not None
        pattern = route.resource.canonical
        path = pattern.translate(str.maketrans("{}", "xx"))
        async with relay.client.request(route.method, path) as answer:
            found[route.method, pattern] = (answer.status, answer.headers.get("WWW-Authenticate", ""))

    closed = {one: said for one, said in found.items() if one[1] not in NOTHING_ASKED}
    assert len(closed) > 20
    assert set(closed.values()) == {(401, 'Bearer realm="relay"')}
    assert {path for _, path in found} >= NOTHING_ASKED


# What is forged, or in the wrong place

CLAIMS = Claims(subject="key:ann", scopes=("operate",), jobs="*", expires=2_000_000_000, issued=0)
PURPOSES: list[Purpose] = ["session", "ticket"]


def all_signed(signer: Signer) -> dict[str, str]:
    return {
        "session": signer.sign("session", CLAIMS),
        "ticket": signer.sign("ticket", CLAIMS),
        "watch": signer.sign_watch("job_0", 2_000_000_000),
        "bound": signer.bind("rlt_x", "/v1/events"),
    }


def accepted_as(signer: Signer, text: str) -> set[str]:
    found: set[str] = {purpose for purpose in PURPOSES if signer.verify(purpose, text, 0.0) is not None}
    if signer.verify_watch(text, 0.0) is not None:
        found.add("watch")
    if signer.is_bound(text, "rlt_x", "/v1/events"):
        found.add("bound")
    return found


def test_what_is_signed_for_one_purpose_is_accepted_for_no_other() -> None:
    signer = Signer(b"0123456789" * 4)
    prefixes = {purpose: text[:4] for purpose, text in all_signed(signer).items()}

    for purpose, text in all_signed(signer).items():
        assert accepted_as(signer, text) == {purpose}
        for other, prefix in prefixes.items():
            assert accepted_as(signer, prefix + text[4:]) == ({purpose} if other == purpose else set())


def test_a_signed_text_with_another_character_is_refused_wherever_that_is() -> None:
    signer = Signer(b"0123456789" * 4)

    for text in all_signed(signer).values():
        for place, was in enumerate(text):
            for other in {"A", "B", "0", ".", "=", "é"} - {was}:
                assert accepted_as(signer, text[:place] + other + text[place + 1 :]) == set()
        for longer in (text + "=", text + "A", text + " ", text * 60, ""):
            assert accepted_as(signer, longer) == set()


def test_what_another_key_has_signed_is_refused_although_it_names_ours() -> None:
    ours, theirs = Signer(b"0123456789" * 4), Signer(b"9876543210" * 4)

    for text in all_signed(theirs).values():
        assert accepted_as(ours, text) == set()
        assert accepted_as(ours, text.replace(theirs.id, ours.id)) == set()


async def test_a_token_is_no_credential_in_the_address_or_in_a_cookie_of_another_name(relay: Served) -> None:
    ticket, cookie = await a_ticket(relay), await signed_in(relay)
    capability = relay.app[GUARD].signer.sign_watch("job_0", 2_000_000_000)
    name, _, session = cookie.partition("=")

    found = [
        (await relay.get(path, **headers)).status
        for path, headers in (
            (f"/v1/jobs?ticket={ticket}", {}),
            (f"/v1/jobs?token={ANN}", {}),
            (f"/v1/events?access_token={ANN}", {}),
            (f"/v1/events?watch={capability}", {}),
            ("/v1/jobs", {"Cookie": f"{name}={ANN}"}),
            ("/v1/jobs", {"Cookie": f"{name}={ticket}"}),
            ("/v1/jobs", {"Cookie": f"relay={session}"}),
            ("/v1/jobs", {"Authorization": f"Bearer {session}"}),
            ("/v1/jobs", {"Authorization": f"Bearer {ticket}"}),
            ("/v1/jobs", {"Authorization": f"Basic {ANN}"}),
            ("/v1/jobs", {"X-API-Key": ANN}),
            ("/v1/jobs", {"X-Forwarded-User": "ann"}),
        )
    ]

    assert found == [401] * len(found)


@pytest.mark.parametrize(
    "fields",
    [
        ["Authorization: Bearer \xe9"],
        ["Authorization: Bearer \xff\xfe"],
        [f"Authorization: Bearer {ANN}", f"Authorization: Bearer {ANN}"],
        [f"Authorization: Bearer {ANN}", "Authorization: Basic YTpi"],
        ["Authorization: Bearer"],
        [f"Authorization: Bearer {ANN} {ANN}"],
        ["Authorization: Bearer " + "a" * 8_100],
        ["Authorization: Bearer a.b.c"],
        ["Authorization: Bearer rlc_"],
        ["Authorization: Bearer rlc_...."],
        ["Cookie: relay-=x; relay=\xe9; \xff=\xff"],
    ],
)
async def test_an_odd_credential_is_401_and_never_a_fault(fields: list[str]) -> None:
    relay = Relay([], clock=ManualClock())
    async with door(relay, access=replace(SETTINGS, failures=10_000), hosts={"localhost"}) as found:
        answer = await found.ask(request("GET /v1/jobs HTTP/1.1", *fields))

    assert answer is not None
    assert (answer.status, answer.headers["www-authenticate"][:6]) == (401, "Bearer")


async def test_whoever_logs_in_next_at_a_proxy_is_not_the_one_before(relay: Served) -> None:
    proxy = ProxySettings(networks=("127.0.0.0/8",), secret=Secret(PROXY_SECRET))
    relay.app[GUARD].reload(replace(SETTINGS, proxy=proxy))
    of_the_proxy = {"X-Relay-Proxy": PROXY_SECRET}
    sent = await relay.client.post("/v1/session", headers=of_the_proxy | {"X-Forwarded-User": "ann"})
    of_ann = sent.headers["Set-Cookie"].split(";")[0]
    of_a_key = await signed_in(relay)

    subjects = []
    for headers in (
        of_the_proxy | {"X-Forwarded-User": "bob", "Cookie": of_ann},
        of_the_proxy | {"X-Forwarded-User": "bob", "Cookie": of_a_key},
        {"Cookie": of_ann},
    ):
        answer = await relay.get("/v1/session", **headers)
        subjects.append((await answer.json())["subject"])

    assert subjects == ["proxy:bob", "key:ann", "proxy:ann"]


# What is guessed


async def test_an_address_that_guesses_waits_and_a_token_that_is_known_already_does_not() -> None:
    async with served(replace(SETTINGS, failures=2)) as relay:
        assert (await relay.get("/v1/jobs", ANN)).status == 200
        guesses = [(await relay.get("/v1/jobs", f"rlk_{n}")).status for n in range(3)]
        waiting = await relay.get("/v1/jobs", BOB)
        known = await relay.get("/v1/jobs", ANN)
        await relay.clock.advance(31)
        later = await relay.get("/v1/jobs", BOB)

    assert guesses == [401, 401, 429]
    assert (waiting.status, known.status, later.status) == (429, 200, 200)
    assert waiting.headers["Retry-After"] == "30"
    assert waiting.headers["RateLimit-Policy"] == '"failures";q=2;w=60'
    assert waiting.headers["RateLimit"] == '"failures";r=0;t=30'


async def test_what_a_browser_sends_by_itself_counts_as_no_attempt() -> None:
    async with served(replace(SETTINGS, failures=1)) as relay:
        cookie = await signed_in(relay)
        await relay.clock.advance(SETTINGS.session_for + 1)
        for _ in range(3):
            assert (await relay.get("/v1/jobs")).status == 401
            assert (await relay.get("/v1/jobs", Cookie=cookie)).status == 401
        assert (await relay.get("/v1/jobs", ANN)).status == 200


# Access and pages


async def test_a_page_of_another_origin_has_nothing_of_a_session(relay: Served) -> None:
    cookie = await signed_in(relay)
    foreign = {"Cookie": cookie, "Origin": "https://elsewhere.example"}

    found = [(await relay.get(path, **foreign)).status for path in ("/v1/jobs", "/v1/events")]
    for path in ("/v1/jobs", "/v1/session", "/v1/tickets"):
        found.append((await relay.client.post(path, json=FOLLOW, headers=foreign)).status)
    found.append((await relay.client.delete("/v1/session", headers=foreign)).status)

    assert found == [403] * 6


async def test_no_answer_lets_a_browser_keep_or_pass_on_an_address_or_ask_for_a_password(relay: Served) -> None:
    for path in ("/", "/v1/jobs", "/v1/events?ticket=x", "/static/relay.js", "/v1/nothing"):
        async with relay.client.get(path) as answer:
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "Basic" not in answer.headers.get("WWW-Authenticate", "")
            assert path in ("/", "/static/relay.js") or answer.headers["Cache-Control"] == "no-store"


async def test_the_same_secret_for_two_keys_is_one_key_and_a_notice(caplog: pytest.LogCaptureFixture) -> None:
    twice = replace(SETTINGS.keys[0], name="eve", scopes="operate", key=Secret(ANN))
    async with served(replace(SETTINGS, keys=(*SETTINGS.keys, twice))) as relay:
        shown = await (await relay.get("/v1/session", ANN)).json()

    assert shown["subject"] == "key:ann"
    assert ANN not in "\n".join(caplog.messages)
    assert any("the same key" in line for line in caplog.messages)
