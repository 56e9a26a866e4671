"""The documented proxies let the right requests through, and no others."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.web import Application, AppRunner, Request, Response, TCPSite

from relay.events import Done
from tests.cli.running import relay
from tests.proxies.proxies import PASSWORD, PROXIES, USER, Proxy, documented, open_to_operators
from tests.proxies.site import behind, job_of
from tests.proxies.test_streams import EACH

READ = ("/", "/static/relay.js", "/v1/jobs", "/v1/jobs/{job}", "/v1/jobs/{job}/events", "/v1/events?job={job}")
HIDDEN = (
    "/metrics",
    "/healthz",
    "/readyz",
    "/v1/webhooks/sora/job/token",
    "/v1/sinks",
    "/v1//jobs",
    "/static/../metrics",
)
ACTS = (
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs/{job}/cancel"),
    ("POST", "/v1/jobs/{job}/events"),
    ("DELETE", "/v1/jobs/{job}"),
    ("PUT", "/v1/events"),
    ("PATCH", "/"),
)
REFUSED = (403, 404, 405)


async def status(client: ClientSession, method: str, path: str, **headers: str) -> int:
    async with client.request(method, path, json={} if method == "POST" else None, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("proxy", EACH)
async def test_without_a_password_nothing_is_answered_and_with_it_reading_alone(tmp_path: Path, proxy: Proxy) -> None:
    async with behind(proxy, tmp_path) as house:
        job = job_of(house.relay, 2)
        house.relay.bus.publish(job, Done(urls=("https://a/b",)))
        reads = [("GET", path) for path in READ] + [("HEAD", path) for path in READ]
        everything = [*reads, *ACTS, *(("GET", path) for path in HIDDEN)]
        named = [(method, path.format(job=job.id)) for method, path in everything]

        for headers in ({}, {"Authorization": "Basic YW5uOndyb25n"}):
            answers = [await status(house.stranger, *one, **headers) for one in named]
            assert set(answers[: len(reads)]) == {401}
            # nginx looks at the method and the path before it asks for a password.
            assert set(answers[len(reads) :]) <= {401, *REFUSED}

        found = {one: await status(house.client, *one) for one in named}
        assert [one for one in named[: len(reads)] if found[one] != 200] == []
        assert [one for one in named[len(reads) :] if found[one] not in REFUSED] == []
        assert not house.relay.problems()


@pytest.mark.parametrize("proxy", EACH)
async def test_what_the_page_says_of_operators_lets_them_cancel_and_no_more(tmp_path: Path, proxy: Proxy) -> None:
    async with behind(proxy, tmp_path, open_to_operators) as house:
        job = house.relay.follow("scripted", "t")
        path = f"/v1/jobs/{job.id}/cancel"
        origin = {"Origin": house.site.url}
        assert await status(house.stranger, "POST", path, **origin) == 401
        assert await status(house.client, "POST", path, **origin) == 202
        assert await status(house.client, "GET", "/metrics") == 404


@pytest.mark.parametrize("proxy", EACH)
async def test_the_password_stays_at_the_proxy(tmp_path: Path, proxy: Proxy) -> None:
    seen: list[str | None] = []

    async def hear(request: Request) -> Response:
        seen.append(request.headers.get("Authorization"))
        return Response(text="{}")

    async with behind(proxy, tmp_path) as house:
        await house.site.stop()
        async with served(hear, house.site.port):
            await status(house.client, "GET", "/v1/jobs")
            await status(house.client, "GET", "/v1/events")
    assert seen == [None, None]


@asynccontextmanager
async def served(handler: object, port: int = 0) -> AsyncGenerator[int]:
    """Answer every request with *handler*, on that port; this yields the port."""
    app = Application()
    app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    runner = AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


FORWARDED = {
    "nginx": (
        "nginx, by a subrequest",
        '    auth_basic           "relay";\n    auth_basic_user_file /etc/nginx/relay.htpasswd;\n',
    ),
    "caddy": ("Caddy, by forward_auth", "\tbasicauth {\n\t\tann {$RELAY_PASSWORD_HASH}\n\t}\n"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in FORWARDED])
async def test_a_login_service_decides_about_each_request(tmp_path: Path, name: str) -> None:
    async def check(request: Request) -> Response:
        assert request.path == "/oauth2/auth"
        return Response(status=204 if request.cookies.get("session") == PASSWORD else 401)

    heading, replaced = FORWARDED[name]
    async with served(check) as login:

        def forwarded(block: str) -> str:
            assert replaced in block
            asks = documented(heading).replace("127.0.0.1:4180", f"127.0.0.1:{login}")
            return block.replace(replaced, asks)

        async with behind(PROXIES[name], tmp_path, forwarded) as house:
            job = job_of(house.relay)
            house.relay.bus.publish(job, Done(urls=("https://a/b",)))
            stream = f"/v1/jobs/{job.id}/events"
            session = {"Cookie": f"session={PASSWORD}"}
            assert await status(house.stranger, "GET", stream) == 401
            assert await status(house.stranger, "GET", stream, Cookie="session=other") == 401
            assert await status(house.stranger, "POST", "/v1/jobs", **session) in REFUSED
            async with house.stranger.get(stream, headers=session) as response:
                assert (response.status, response.content_type) == (200, "text/event-stream")
                assert (await response.text()).count("\nevent: ") == 2


@pytest.mark.nginx
async def test_relay_tail_logs_in_and_says_how_where_it_does_not(tmp_path: Path) -> None:
    async with behind(PROXIES["nginx"], tmp_path) as house:
        job = job_of(house.relay, 2)
        house.relay.bus.publish(job, Done(urls=("https://a/b",)))
        url = f"https://127.0.0.1:{house.site.url.rpartition(':')[2]}"
        environ = {"LOGIN": f"{USER}:{PASSWORD}", "SSL_CERT_FILE": str(tmp_path / "authority.pem")}

        def tail(*arguments: str) -> tuple[int, list[str], list[str]]:
            # By another program, so that the start is a real one: aiohttp reads SSL_CERT_FILE when it is imported.
            options: dict[str, Any] = {"folder": tmp_path, "under": ["env"], **environ}
            with relay("tail", url, "--job", job.id, *arguments, **options) as process:
                return process.ends(), process.printed, process.said

        refused = await asyncio.to_thread(tail)
        told = await asyncio.to_thread(tail, "--basic", "env:LOGIN")
        records = [record.json.decode() for record in house.relay.journal.read(0)]
    assert refused == (
        2, [], [f"relay: {url} answers 401; present what it asks for with --token, --basic or --header"]
    )  # fmt: skip
    assert told == (0, records, [])
