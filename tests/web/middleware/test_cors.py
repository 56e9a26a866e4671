"""Pages of listed origins may use the relay and read its responses; to pages of all others it is closed."""

import pytest
from aiohttp import ClientSession
from aiohttp.web import Application

from relay import ConfigError, Relay
from relay.config.access_settings import AccessSettings, KeySettings
from relay.events import Done, Log
from relay.secret import Secret
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.raw import door, request
from tests.web.serving import serve, serve_app
from web import create_app

APP = "https://app.example"
ORIGINS = (APP, "http://localhost:5173")

LOOK_ALIKES = [
    "https://APP.example",
    "HTTPS://app.example",
    "https://app.example:443",
    "https://app.example/",
    "https://app.example.",
    "https://app.example.evil.example",
    "https://evilapp.example",
    "https://sub.app.example",
    "http://app.example",
    "https://app.example:8443",
    "https://app.example https://app.example",
    "https://app.example, https://app.example",
    "http://localhost",
    "null",
    "*",
    "",
]

EXPOSED = "ETag, Location, RateLimit, RateLimit-Policy, Relay-Heartbeat, Retry-After, WWW-Authenticate, X-Relay-Job"

ALLOWED = {
    "Access-Control-Allow-Origin": APP,
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Expose-Headers": EXPOSED,
}


def a_relay() -> Relay:
    return Relay([TwoStep(story({"t": RUNNING}))], clock=ManualClock())


def granted(headers: object) -> dict[str, str]:
    """The headers of CORS in *headers*."""
    return {name: value for name, value in headers.items() if name.startswith("Access-Control-")}  # type: ignore[attr-defined]


async def preflight(client: ClientSession, path: str, origin: str, **more: str) -> tuple[int, dict[str, str]]:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", **more}
    async with client.options(path, headers=asked) as response:
        assert response.headers["Vary"] == "Origin"
        return response.status, granted(response.headers)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/events", "/nowhere", "/static/relay.js", "/v1/jobs/job_x/events"])
async def test_a_preflight_is_answered_wherever_it_is_sent(path: str) -> None:
    async with serve(a_relay(), origins=ORIGINS) as client:
        found = await preflight(client, path, APP, **{"Access-Control-Request-Headers": "authorization"})

    assert found == (
        204,
        {
            **ALLOWED,
            "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
            "Access-Control-Allow-Headers": "authorization, content-type, idempotency-key, last-event-id",
            "Access-Control-Max-Age": "600",
        },
    )


async def test_without_a_requested_method_it_is_no_preflight() -> None:
    async with serve(a_relay(), origins=ORIGINS) as client:
        async with client.options("/v1/jobs", headers={"Origin": APP}) as response:
            assert (response.status, granted(response.headers)) == (405, ALLOWED)
        async with client.options("/v1/jobs", headers={"Access-Control-Request-Method": "POST"}) as response:
            assert (response.status, granted(response.headers)) == (405, {})


@pytest.mark.parametrize("origin", LOOK_ALIKES)
async def test_an_origin_that_only_looks_like_a_listed_one_may_do_nothing(origin: str) -> None:
    async with serve(a_relay(), origins=ORIGINS) as client:
        assert await preflight(client, "/v1/jobs", origin) == (403, {})
        for path in ("/v1/jobs", "/v1/events", "/nowhere", "/static/relay.js"):
            async with client.get(path, headers={"Origin": origin}) as response:
                assert (response.status, granted(response.headers)) == (403, {})
                assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origins", [(), ORIGINS])
async def test_the_relays_own_pages_need_no_list(origins: tuple[str, ...]) -> None:
    async with serve(a_relay(), origins=origins) as client:
        own = str(client._base_url).rstrip("/")
        async with client.get("/v1/jobs", headers={"Origin": own}) as response:
            assert (response.status, granted(response.headers), response.headers["Vary"]) == (200, {}, "Origin")


async def test_every_response_to_a_listed_origin_may_be_read(take_over: bool) -> None:
    async with a_relay() as relay, serve(relay, origins=ORIGINS) as client:
        job = relay.registry.admit()
        relay.bus.publish(job, Log(line="line"))
        headers, found = {"Origin": APP}, dict[str, tuple[int, dict[str, str]]]()
        for path in ("/", "/static/relay.js", "/v1/jobs", "/v1/jobs/job_x", "/nowhere", "/v1/jobs/%00", "/metrics"):
            async with client.get(path, headers=headers) as response:
                found[path] = (response.status, granted(response.headers))
        async with client.post("/v1/jobs", headers=headers, data=b"{") as response:
            found["POST"] = (response.status, granted(response.headers))
        async with client.get(f"/v1/jobs/{job.id}/events", headers=headers) as response:
            found["stream"] = (response.status, granted(response.headers))
            assert response.headers["Vary"] == "Origin"
            relay.bus.publish(job, Done(urls=("https://a/b",)))
            assert (await response.text()).count("\nevent: ") == 2

    statuses = {path: status for path, (status, _) in found.items()}
    assert statuses == {
        "/": 200,
        "/static/relay.js": 200,
        "/v1/jobs": 200,
        "/v1/jobs/job_x": 404,
        "/nowhere": 404,
        "/v1/jobs/%00": 400,
        "/metrics": 200,
        "POST": 415,
        "stream": 200,
    }
    assert [path for path, (_, headers) in found.items() if headers != ALLOWED] == []


async def test_a_preflight_needs_no_credentials_and_a_refusal_may_be_read() -> None:
    key = "k" * 40
    ways_in = AccessSettings(keys=(KeySettings(name="ann", key=Secret(key)),))
    async with serve(a_relay(), origins=ORIGINS, access=ways_in) as client:
        asked = {"Access-Control-Request-Headers": "authorization"}
        assert (await preflight(client, "/v1/jobs", APP, **asked))[0] == 204
        for path in ("/v1/jobs", "/v1/events"):
            async with client.get(path, headers={"Origin": APP}) as response:
                assert (response.status, granted(response.headers)) == (401, ALLOWED)
        known = {"Origin": APP, "Authorization": f"Bearer {key}"}
        async with client.get("/v1/jobs", headers=known) as response:
            assert (response.status, granted(response.headers)) == (200, ALLOWED)


async def test_a_client_that_is_no_page_gets_no_headers_of_cors() -> None:
    async with serve(a_relay(), origins=ORIGINS) as client, client.get("/v1/jobs") as response:
        assert (response.status, granted(response.headers), response.headers["Vary"]) == (200, {}, "Origin")


@pytest.mark.parametrize("second", [APP, "https://evil.example"])
async def test_of_two_origins_none_counts(second: str) -> None:
    async with door(a_relay(), origins=ORIGINS) as found:
        for line in ("GET /v1/jobs HTTP/1.1", "OPTIONS /v1/jobs HTTP/1.1", "POST /v1/jobs HTTP/1.1"):
            asked = request(line, f"Origin: {APP}", f"Origin: {second}", "Access-Control-Request-Method: POST")
            answered = await found.ask(asked)
            assert answered is not None
            assert (answered.status, granted(answered.headers)) == (400, {})
            assert b"send one Origin" in answered.body


async def test_a_listed_origin_is_no_name_of_the_relay() -> None:
    """The site could point its own name at the relay; its pages would be of the relay's origin then."""
    async with door(a_relay(), hosts={"localhost"}, origins=ORIGINS) as found:
        answered = await found.ask(request("GET /v1/jobs HTTP/1.1", f"Origin: {APP}", host="app.example"))
    assert answered is not None
    assert answered.status == 421


async def test_an_origin_of_the_same_name_but_with_another_port_or_scheme_is_another() -> None:
    async with door(a_relay(), hosts={"localhost"}) as found:
        own = f"localhost:{found.port}"
        statuses = {}
        for origin in (
            f"http://{own}",
            f"https://{own}",
            "http://localhost",
            f"http://{own}/",
            f"http://{own.upper()}",
        ):
            answered = await found.ask(request("GET /v1/jobs HTTP/1.1", f"Origin: {origin}", host=own))
            assert answered is not None
            statuses[origin] = answered.status
    assert list(statuses.values()) == [200, 403, 403, 403, 403]


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/healthz", "localhost", 200),
        ("http://localhost:9/healthz", "LOCALHOST.:8080", 200),
        ("https://[::1]/healthz", "[::1]:8080", 200),
        ("http://localhost/healthz", None, 200),
        ("http://evil.example/healthz", "localhost", 421),
        ("http://localhost/healthz", "evil.example", 421),
        ("http://evil.example/healthz", "evil.example", 421),
        ("http://localhost/healthz", "[::1]", 421),
        ("http://evil.example/healthz", None, 421),
    ],
)
async def test_a_target_with_a_host_of_its_own_is_judged_by_both(target: str, host: str | None, status: int) -> None:
    version = "HTTP/1.1" if host is not None else "HTTP/1.0"
    async with door(a_relay(), hosts={"localhost", "[::1]"}) as found:
        answered = await found.ask(request(f"GET {target} {version}", host=host))
    assert answered is not None
    assert answered.status == status


@pytest.mark.parametrize("origin", ["http://localhost", "https://localhost", "http://evil.example"])
async def test_a_target_gives_a_page_no_other_origin(origin: str) -> None:
    """The scheme and the port of such a target are not those of the relay."""
    async with door(a_relay(), hosts={"localhost"}) as found:
        asked = request(f"GET {origin}/v1/jobs HTTP/1.1", f"Origin: {origin}", host=f"localhost:{found.port}")
        answered = await found.ask(asked)
    assert answered is not None
    assert answered.status in (403, 421)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.0.2.1:8080", 200),
        ("[2001:db8::1]", 200),
        ("relay:8080", 200),
        ("a.localhost", 200),
        ("relay.example.org", 200),
        ("evil.example", 421),
        ("relay.example.org.evil.example", 421),
        ("192.0.2.1.nip.example", 421),
    ],
)
async def test_names_that_no_site_can_own_may_be_listed_together_with_others(host: str, status: int) -> None:
    async with door(a_relay(), hosts={"<local>", "relay.example.org"}) as found:
        answered = await found.ask(request("GET /healthz HTTP/1.1", host=host))
    assert answered is not None
    assert answered.status == status


@pytest.mark.parametrize(
    "origin", ["https://App.example", "https://app.example/", "https://app.example:443", "null", "*"]
)
def test_an_origin_that_no_browser_sends_cannot_be_listed(origin: str) -> None:
    with pytest.raises(ConfigError, match="origins of create_app: "):
        create_app(a_relay(), origins=[origin])


async def test_the_headers_of_an_application_around_it_are_its_own() -> None:
    outer = Application()
    outer.add_subapp("/relay", create_app(a_relay(), origins=ORIGINS))
    async with serve_app(outer) as client:
        assert (await preflight(client, "/relay/v1/jobs", APP))[0] == 204
        async with client.options("/", headers={"Origin": APP, "Access-Control-Request-Method": "POST"}) as response:
            assert (response.status, granted(response.headers)) == (404, {})
