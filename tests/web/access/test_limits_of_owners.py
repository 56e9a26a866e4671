"""Limits of one owner, and of one address that presents what is no credential."""

import asyncio
import json
import socket
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Final

from aiohttp.web import AppRunner, UnixSite
from msgspec.structs import replace

from relay import Relay
from relay.config.access_settings import ProxySettings
from relay.testing import ManualClock
from tests.web.access.credentials import JSON, bearer
from tests.web.access.house import ALL_WAYS, PROXY_SECRET, House, house
from tests.web.access.keys import ANN, BOB, OPERATOR
from tests.web.raw import Answer, read_answer, request
from web import create_app
from web.streaming.keys import STREAMS
from web.streaming.registry import OpenStream

FEW: Final = replace(ALL_WAYS, failures=2)
WRONG: Final = bearer("rlk_" + "x" * 36)


async def submit(served: House, key: str, number: int = 0) -> Answer:
    body = json.dumps({"upstream": "scripted", "input": {"n": number}}).encode()
    return await served.ask("POST /v1/jobs", bearer(key), JSON, body=body)


async def test_running_jobs_are_counted_for_each_owner() -> None:
    async with house(max_jobs_per_client=2) as served:
        assert [(await submit(served, ANN)).status for _ in range(3)] == [201, 201, 429]
        assert (await submit(served, BOB)).status == 201
        assert (await submit(served, ANN)).headers["retry-after"] == "30"


async def test_submissions_in_a_minute_are_counted_for_each_owner() -> None:
    async with house(new_jobs_per_minute=2) as served:
        assert [(await submit(served, ANN)).status for _ in range(3)] == [201, 201, 429]
        assert (await submit(served, BOB)).status == 201
        await served.clock.advance(30)
        assert [(await submit(served, ANN)).status for _ in range(2)] == [201, 429]


async def test_streams_are_counted_for_each_owner_whatever_proves_the_access() -> None:
    class Open(OpenStream):
        def close(self) -> None: ...
        def wake(self) -> None: ...
        def cut(self) -> None: ...

    async with house(max_streams_per_client=1) as served:
        one = Open("key:ann")
        served.app[STREAMS].add(one)
        signed_in = await served.ask("POST /v1/session", bearer(ANN))
        cookie = f"Cookie: {signed_in.headers['set-cookie'].partition(';')[0]}"
        try:
            for fields in ([bearer(ANN)], [cookie]):
                assert b"event: busy" in (await served.ask("GET /v1/events", *fields)).body
            assert b"event: busy" not in (await served.ask("GET /v1/events", bearer(BOB))).body
        finally:
            served.app[STREAMS].remove(one)


async def test_an_address_that_fails_often_waits_and_is_told_how_long() -> None:
    async with house(FEW) as served:
        assert (await served.ask("GET /v1/jobs", bearer(ANN))).status == 200
        assert [(await served.ask("GET /v1/jobs", WRONG)).status for _ in range(3)] == [401, 401, 429]
        refused = await served.ask("GET /v1/jobs", bearer(BOB))

        assert refused.status == 429
        assert {name: refused.headers[name] for name in ("retry-after", "ratelimit-policy", "ratelimit")} == {
            "retry-after": "30",
            "ratelimit-policy": '"failures";q=2;w=60',
            "ratelimit": '"failures";r=0;t=30',
        }
        assert (await served.ask("GET /v1/jobs", bearer(ANN))).status == 200, "this token was verified before"
        assert (await served.ask("GET /v1/jobs")).status == 401, "no credential is no attempt"
        await served.clock.advance(30)
        assert (await served.ask("GET /v1/jobs", bearer(BOB))).status == 200


async def test_addresses_behind_a_proxy_are_told_apart_by_the_proxy_alone() -> None:
    proxy = f"X-Relay-Proxy: {PROXY_SECRET}"
    async with house(FEW) as served:
        for _ in range(2):
            await served.ask("GET /v1/jobs", WRONG, proxy, "X-Forwarded-For: 192.0.2.1")
        for forwarded, expected in (("192.0.2.1", 429), ("192.0.2.2", 200), ("192.0.2.1, 192.0.2.3", 200)):
            answered = await served.ask("GET /v1/jobs", bearer(BOB), proxy, f"X-Forwarded-For: {forwarded}")
            assert answered.status == expected, forwarded
            served.guard._bearer.forget()
        # Without the secret, the header is anybody's: the address is that of the connection.
        for number in range(2):
            await served.ask("GET /v1/jobs", WRONG, f"X-Forwarded-For: 198.51.100.{number}")
        assert (await served.ask("GET /v1/jobs", bearer(OPERATOR), "X-Forwarded-For: 198.51.100.9")).status == 429


async def test_tickets_that_are_none_count_and_sessions_that_have_ended_do_not() -> None:
    async with house(FEW) as served:
        cookie = f"Cookie: relay-{served.guard.signer.id}=rls_x"
        assert [(await served.ask("GET /v1/jobs", cookie)).status for _ in range(5)] == [401] * 5
        assert (await served.ask("GET /v1/jobs", bearer(ANN))).status == 200
        for _ in range(2):
            await served.ask("GET /v1/events?ticket=rlt_x")
        assert (await served.ask("GET /v1/jobs", bearer(BOB))).status == 429


async def test_a_reload_sets_how_many_attempts_may_fail() -> None:
    async with house(FEW) as served:
        served.guard.reload(replace(ALL_WAYS, failures=4))

        found = [(await served.ask("GET /v1/jobs", WRONG)).status for _ in range(5)]

    assert found == [401] * 4 + [429]


async def test_on_a_unix_socket_all_that_have_no_subject_are_one_address(tmp_path: Path) -> None:
    """A client can bind its own socket to a name, even to one that looks like an address of the proxy."""
    settings = replace(FEW, proxy=ProxySettings(networks=("unix",)))
    app = create_app(Relay([], clock=ManualClock()), access=settings)
    runner = AppRunner(app, access_log=None)
    await runner.setup()
    await UnixSite(runner, str(tmp_path / "relay.sock")).start()
    try:
        statuses = []
        for name, fields in (
            ("", {"X-Forwarded-User": "ann"}),
            ("named", {"X-Forwarded-User": "ann"}),
            ("10.0.0.1", {"X-Forwarded-User": "ann"}),
            ("one", {"Authorization": "Bearer rlk_x"}),
            ("10.0.0.2", {"Authorization": "Bearer rlk_x"}),
            ("", {"Authorization": f"Bearer {ANN}"}),
        ):
            statuses.append(await _over_unix(tmp_path, name, fields))
        assert statuses == [200, 200, 200, 401, 401, 429]
    finally:
        await runner.cleanup()


async def _over_unix(folder: Path, name: str, fields: Mapping[str, str]) -> int:
    """The status for a client whose own socket is bound to *name*; with an empty one to none."""
    with socket.socket(socket.AF_UNIX) as client, chdir(folder):
        client.setblocking(False)
        if name:
            client.bind(name)
        client.connect("relay.sock")
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(request("GET /v1/session HTTP/1.1", *[f"{field}: {value}" for field, value in fields.items()]))
        answered = await read_answer(reader)
        writer.close()
    return answered.status if answered is not None else 0
