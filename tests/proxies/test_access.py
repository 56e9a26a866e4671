"""Proxies that name their users, configured by the blocks of the documentation: each user has what is theirs alone."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector
from multidict import CIMultiDict

from relay.events import Done, Log
from tests.proxies.login import ANN, BOB, EACH, NOBODY, SUBJECT, logged_in
from tests.proxies.proxies import NAME, SECRET, Proxy
from tests.proxies.site import Behind, Loopback
from tests.web.streaming.client import read_blocks


async def follow(house: Behind, who: dict[str, str], task: str = "t") -> str:
    body = {"upstream": "scripted", "task": task}
    async with house.stranger.post("/v1/jobs", json=body, headers=who | {"Origin": house.site.url}) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["job"])


async def status(client: ClientSession, path: str, *headers: dict[str, str] | CIMultiDict[str]) -> int:
    merged = CIMultiDict[str]()
    for one in headers:
        merged.extend(one)
    async with client.get(path, headers=merged, allow_redirects=False) as answer:
        return answer.status


@asynccontextmanager
async def beside(house: Behind) -> AsyncGenerator[ClientSession]:
    """A client that reaches the relay past the proxy, as every program of this machine can."""
    async with ClientSession(f"http://127.0.0.1:{house.site.port}") as client:
        yield client


@asynccontextmanager
async def elsewhere(house: Behind) -> AsyncGenerator[ClientSession]:
    """A client of the proxy whose address is none of the proxy's."""
    connector = TCPConnector(local_addr=("127.0.0.2", 0), resolver=Loopback(), ssl=house.tls)
    async with ClientSession(house.site.url, connector=connector) as client:
        yield client


@pytest.mark.parametrize("proxy", EACH)
async def test_each_user_of_a_proxy_has_their_own_jobs_alone(tmp_path: Path, proxy: Proxy) -> None:
    async with logged_in(proxy, tmp_path) as (house, _):
        anns, bobs = await follow(house, ANN), await follow(house, BOB)

        seen = {}
        for who, session in (("ann", ANN), ("bob", BOB)):
            async with house.stranger.get("/v1/jobs", headers=session) as answer:
                seen[who] = [one["job"] for one in (await answer.json())["jobs"]]
        async with house.stranger.get("/v1/session", headers=ANN) as answer:
            shown = await answer.json()
        foreign = [await status(house.stranger, f"/v1/jobs/{anns}", who) for who in (ANN, BOB, {})]

    assert seen == {"ann": [anns], "bob": [bobs]}
    assert (shown["subject"], shown["scopes"]) == (SUBJECT, "jobs:cancel jobs:read jobs:submit")
    assert foreign == [200, 404, 401]


@pytest.mark.parametrize("proxy", EACH)
async def test_the_page_leads_to_the_login_and_everything_else_is_401(tmp_path: Path, proxy: Proxy) -> None:
    async with logged_in(proxy, tmp_path) as (house, _):
        async with house.stranger.get("/", allow_redirects=False) as answer:
            page = (answer.status, answer.headers.get("Location", "").removeprefix(house.site.url))
        found = {path: await status(house.stranger, path) for path in ("/v1/jobs", "/v1/events", "/metrics", "/readyz")}
        login = await status(house.stranger, "/oauth2/sign_in?rd=/")
        mine = await status(house.stranger, "/", ANN)

    location = page[1].replace(f"https://{NAME}", "")
    assert (page[0], location) == (302, "/oauth2/sign_in?rd=/")
    assert set(found.values()) == {401}
    assert (login, mine) == (200, 200)


@pytest.mark.parametrize("proxy", EACH)
async def test_a_user_header_of_the_client_counts_for_nothing(tmp_path: Path, proxy: Proxy) -> None:
    one = {"X-Forwarded-User": "ann@example.com"}
    two = CIMultiDict[str]([("X-Forwarded-User", "ann@example.com"), ("X-Forwarded-User", "ann@example.com")])
    alias = {"X_Forwarded_User": "ann@example.com"}
    own = {"X-Relay-Proxy": SECRET}
    async with logged_in(proxy, tmp_path) as (house, _):
        path = f"/v1/jobs/{await follow(house, ANN)}"

        as_bob = [await status(house.stranger, path, BOB, sent) for sent in (one, two, alias, own)]
        as_nobody = [await status(house.stranger, path, sent) for sent in (one, two, alias, own)]
        # A login that names no user: Caddy sends the text of a placeholder, nginx no header.
        unnamed = [await status(house.stranger, path, NOBODY, sent) for sent in ({}, one, two, alias)]

    assert as_bob == [404] * 4
    assert as_nobody == [401] * 4
    assert unnamed == [401] * 4


@pytest.mark.parametrize("proxy", EACH)
async def test_whoever_connects_beside_the_proxy_names_nobody(tmp_path: Path, proxy: Proxy) -> None:
    ann = {"X-Forwarded-User": "ann@example.com"}
    secret = {"X-Relay-Proxy": SECRET}
    placeholder = {"X-Forwarded-User": "{http.reverse_proxy.header.X-Auth-Request-Email}"}
    async with logged_in(proxy, tmp_path) as (house, _), beside(house) as client:
        path = f"/v1/jobs/{await follow(house, ANN)}"

        refused = [
            await status(client, path, ann),
            await status(client, path, ann, {"X-Relay-Proxy": SECRET[:-1] + "A"}),
            await status(client, path, ann, secret, secret),
            await status(client, path, ann, ann, secret),
            await status(client, path, placeholder, secret),
            await status(client, path, {"X-Forwarded-User": "ann@example.com, bob"}, secret),
            await status(client, path, secret),
        ]
        the_proxy_itself = await status(client, path, ann, secret)

    assert refused == [401] * 7
    assert the_proxy_itself == 200


@pytest.mark.parametrize("proxy", EACH)
async def test_a_header_counts_from_the_listed_networks_alone(tmp_path: Path, proxy: Proxy) -> None:
    async with logged_in(proxy, tmp_path, networks=("192.0.2.0/24",)) as (house, _):
        assert await status(house.stranger, "/v1/jobs", ANN) == 401


@pytest.mark.parametrize("proxy", EACH)
async def test_at_a_unix_socket_a_user_is_named_without_a_secret(tmp_path: Path, proxy: Proxy) -> None:
    socket = tmp_path / "s"

    def through_it(block: str) -> str:
        for tcp, unix in (
            ("proxy_pass http://127.0.0.1:8080;", f"proxy_pass http://unix:{socket}:;"),
            ("reverse_proxy 127.0.0.1:8080", f"reverse_proxy unix/{socket}"),
        ):
            block = block.replace(tcp, unix)
        return block

    ann = {"X-Forwarded-User": "ann@example.com"}
    async with logged_in(proxy, tmp_path, through_it, networks=("unix",), secret=None) as (house, _):
        await house.site.listen_at(socket)
        path = f"/v1/jobs/{await follow(house, ANN)}"
        found = [await status(house.stranger, path, *who) for who in ((ANN,), (BOB, ann), (ann,))]
        async with beside(house) as client:
            found.append(await status(client, path, ann))

    assert found == [200, 404, 401, 401]


@pytest.mark.parametrize("proxy", EACH)
async def test_a_login_that_is_withdrawn_ends_a_stream_at_its_renewal(tmp_path: Path, proxy: Proxy) -> None:
    async with logged_in(proxy, tmp_path, renew=0.2) as (house, login):
        path = f"/v1/jobs/{await follow(house, ANN)}/events"
        async with house.stranger.get(path, headers=ANN) as stream:
            blocks = read_blocks(stream)
            first = await anext(blocks)
            del login.sessions["ann"]
            rest = [block async for block in blocks]
        back = await status(house.stranger, path, ANN, {"Last-Event-ID": first["id"]})

    assert [block["event"] for block in rest][-1] == "bye"
    assert back == 401


@pytest.mark.parametrize("proxy", EACH)
async def test_records_of_a_user_arrive_one_by_one(tmp_path: Path, proxy: Proxy) -> None:
    """The next record is published only when the client has the one before it, and there is no heartbeat in between."""
    async with logged_in(proxy, tmp_path) as (house, _):
        job = house.relay.registry.admit(owner=SUBJECT)
        house.relay.bus.publish(job, Log(line="line 1"))
        heard: list[str] = []
        async with house.stranger.get("/v1/events", headers=ANN) as stream:
            async for block in read_blocks(stream):
                heard.append(json.loads(block["data"])["type"])
                if len(heard) < 10:
                    house.relay.bus.publish(job, Log(line=f"line {len(heard) + 1}"))
                elif len(heard) == 10:
                    house.relay.bus.publish(job, Done(urls=("https://a/b",)))
                else:
                    break

    assert heard == ["log"] * 10 + ["done"]


@pytest.mark.parametrize("proxy", EACH)
async def test_while_the_relay_is_gone_a_stream_gets_one_event_and_nobody_else_does(
    tmp_path: Path, proxy: Proxy
) -> None:
    async with logged_in(proxy, tmp_path) as (house, _):
        await house.site.stop()
        async with house.stranger.get("/v1/events", headers=ANN) as answer:
            said = (answer.status, await answer.text())
        stranger = await status(house.stranger, "/v1/events")

    assert said == (200, 'retry: 50\nevent: bye\ndata: {"reason":"the relay is restarting"}\n\n')
    assert stranger == 401


@pytest.mark.parametrize("proxy", EACH)
async def test_the_login_service_learns_no_secret_and_no_query(tmp_path: Path, proxy: Proxy) -> None:
    sent = {"X-Forwarded-Uri": "/static/public"}
    async with logged_in(proxy, tmp_path) as (house, login):
        await status(house.stranger, "/v1/events?ticket=rlt_canary", sent)
        async with house.stranger.post("/v1/jobs", json={"canary": 1}, headers=ANN) as answer:
            assert answer.status == 400, "the body reached the relay"
        heard = [(one.path_qs, dict(one.headers), one.can_read_body) for one in login.requests]

    assert len(heard) == 2
    assert "canary" not in str(heard)
    assert SECRET not in str(heard)
    assert "/static/public" not in str(heard), "the address that the client claims is not passed on"
    assert [path for path, _, _ in heard] == ["/oauth2/auth", "/oauth2/auth"]


@pytest.mark.parametrize("proxy", EACH)
async def test_the_operator_reads_the_address_of_the_client_and_not_what_it_claims(
    tmp_path: Path, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    claimed = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    async with logged_in(proxy, tmp_path) as (house, _), elsewhere(house) as client:
        body = {"upstream": "scripted", "task": "t"}
        headers = ANN | claimed | {"Origin": house.site.url}
        async with client.post("/v1/jobs", json=body, headers=headers) as answer:
            job = (await answer.json())["job"]

    assert f"{SUBJECT} at 127.0.0.2 follows {job} at scripted" in caplog.messages


@pytest.mark.parametrize("proxy", EACH)
async def test_a_page_of_another_site_has_nothing_of_a_login(tmp_path: Path, proxy: Proxy) -> None:
    """The browser sends the cookie of the login by itself, so the origin is checked as well."""
    foreign = {"Origin": "https://elsewhere.example"}
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    async with logged_in(proxy, tmp_path) as (house, _):
        path = f"/v1/jobs/{await follow(house, ANN)}"
        found = [await status(house.stranger, path, ANN, sent) for sent in (foreign, image)]
        async with house.stranger.post(f"{path}/cancel", headers=ANN | foreign) as answer:
            found.append(answer.status)

    assert found == [403] * 3
