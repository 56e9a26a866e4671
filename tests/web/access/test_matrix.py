"""Every route and method, found from the router, with every kind of credential: what is answered, and what is not."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

import pytest
from aiohttp.web import Request, Response

from relay.config.access import SCOPES
from relay.events import Done
from tests.web.access.credentials import MADE, PRESENTED, bearer
from tests.web.access.house import LISTED_ORIGIN, PROXY_SECRET, SCOPE_KEYS, House, house
from tests.web.access.issuer import NOW, claims, mint, private, signed
from tests.web.access.keys import ANN, OPERATOR
from tests.web.access.routes import OTHER_METHODS, ROUTES, Key, Route, of_router
from tests.web.raw import Answer
from web.access.denied import insufficient

pytestmark = pytest.mark.usefixtures("both_ways")

FILE: Final = Done(urls=("https://files.example/a.mp4",), media_types=("video/mp4",))
EVENT_STREAM: Final = "Accept: text/event-stream"


@pytest.fixture
async def served() -> AsyncIterator[House]:
    async with house() as one:
        yield one


def own_job(served: House, owner: str) -> str:
    """A job of *owner* that has ended with a file, so that every route about it has something to answer."""
    job = served.job_of(owner)
    if not job.ended:
        served.relay.bus.publish(job, FILE)
    return job.id


async def answers(
    served: House, job: str, *fields: str, only: Callable[[Route], object] = bool, query: str = ""
) -> Iterator[tuple[Key, Route, Answer]]:
    """What each route answers to these *fields*, about *job*."""
    found = []
    for (method, path), route in ROUTES.items():
        if only(route):
            line = route.line(method, job, query)
            answered = await served.ask(line, *fields, *route.fields(), body=route.body.encode())
            found.append(((method, path), route, answered))
    return iter(found)


def others(
    found: Iterator[tuple[Key, Route, Answer]], expected: Callable[[Route], frozenset[int] | int]
) -> dict[Key, int]:
    """The routes that do not answer as *expected*, with the status of each."""
    wrong = {}
    for key, route, answered in found:
        want = expected(route)
        if answered.status not in (want if isinstance(want, frozenset) else {want}):
            wrong[key] = answered.status
    return wrong


def allowed_by(*scopes: str) -> Callable[[Route], frozenset[int] | int]:
    """The answer to an access with these *scopes* about its own job."""
    has = {*scopes, "any", "nothing", *(["jobs:read"] if "operate" in scopes else [])}
    return lambda route: route.allowed if route.needs in has else 403


def denied(route: Route) -> frozenset[int] | int:
    return route.allowed if route.needs == "nothing" else 401


def denied_to_a_browser(route: Route) -> frozenset[int] | int:
    """An EventSource with a credential that a browser presents by itself is ended by 204."""
    return 204 if route.stream else denied(route)


# Which routes there are


async def test_every_route_of_the_router_has_a_row_here_and_every_row_a_route(served: House) -> None:
    assert of_router(served.app) == set(ROUTES)


async def test_a_route_that_is_added_without_a_rule_is_denied_to_everybody() -> None:
    async def handler(_: Request) -> Response:
        pytest.fail("its handler runs")

    async with house(prepare=lambda app: app.router.add_get("/v1/forgotten", handler)) as served:
        found = [
            (await served.ask(f"{method} /v1/forgotten", *fields)).status
            for method in ("GET", "HEAD")
            for fields in ([], [bearer(ANN)], [bearer(OPERATOR)])
        ]

    assert found == [403] * 6


async def test_a_method_without_a_route_is_405_whoever_sends_it(served: House) -> None:
    own, wrong = own_job(served, "key:operator"), {}
    for _, path in dict.fromkeys(ROUTES):
        for method in OTHER_METHODS:
            if (method, path) not in ROUTES:
                route = next(route for (_, known), route in ROUTES.items() if known == path)
                for fields in ([], [bearer(OPERATOR)]):
                    answered = await served.ask(route.line(method, own), *fields)
                    if answered.status != 405:
                        wrong[method, path] = answered.status

    assert wrong == {}


async def test_a_preflight_asks_for_no_credential_and_is_for_listed_origins_alone(served: House) -> None:
    wanted = "Access-Control-Request-Method: POST"
    found = {
        (path, origin): (await served.ask(f"OPTIONS {path}", f"Origin: {origin}", wanted)).status
        for _, path in ROUTES
        for origin in (LISTED_ORIGIN, "https://evil.example", "null", f"{LISTED_ORIGIN}.evil.example")
    }

    assert {key for key, status in found.items() if status == 204} == {(path, LISTED_ORIGIN) for _, path in ROUTES}
    assert set(found.values()) == {204, 403}


# Credentials that are valid


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_scope_alone_allows_its_own_routes(served: House, scope: str) -> None:
    job = own_job(served, f"key:{scope.replace(':', '-')}")

    found = await answers(served, job, bearer(SCOPE_KEYS[scope]))

    assert others(found, allowed_by(scope)) == {}


async def test_a_missing_scope_is_named_in_the_challenge(served: House) -> None:
    job = own_job(served, "key:jobs-read")

    for _, route, answered in await answers(served, job, bearer(SCOPE_KEYS["jobs:read"])):
        if answered.status == 403:
            expected = insufficient(route.needs).headers["WWW-Authenticate"]
            assert answered.headers["www-authenticate"] == expected


async def test_users_reach_their_own_jobs_and_not_what_operators_have(served: House) -> None:
    job = own_job(served, "key:ann")

    found = await answers(served, job, bearer(ANN))

    assert others(found, allowed_by("jobs:read", "jobs:submit", "jobs:cancel")) == {}


async def test_an_operator_reaches_the_jobs_of_all(served: House) -> None:
    job = own_job(served, "key:ann")

    assert others(await answers(served, job, bearer(OPERATOR)), allowed_by(*SCOPES)) == {}


async def test_a_session_reaches_what_its_key_does(served: House) -> None:
    job = own_job(served, "key:ann")
    signed_in = await served.ask("POST /v1/session", bearer(ANN))
    cookie = signed_in.headers["set-cookie"].partition(";")[0]

    end = ROUTES["DELETE", "/v1/session"]
    for only in (lambda route: route is not end, lambda route: route is end):
        found = await answers(served, job, f"Cookie: {cookie}", only=only)
        assert others(found, allowed_by("jobs:read", "jobs:submit", "jobs:cancel")) == {}


async def test_a_user_of_the_proxy_reaches_what_the_proxy_may_allow(served: House) -> None:
    job = own_job(served, "proxy:ann@example.org")

    found = await answers(served, job, "X-Forwarded-User: ann@example.org", f"X-Relay-Proxy: {PROXY_SECRET}")

    assert others(found, allowed_by("jobs:read", "jobs:submit")) == {}


async def test_a_watch_link_reads_its_job_alone(served: House) -> None:
    job = own_job(served, "key:ann")
    link = served.guard.signer.sign_watch(job, int(served.guard.now()) + 60)

    assert others(await answers(served, job, bearer(link)), allowed_by("jobs:read")) == {}


async def test_a_ticket_opens_streams_and_nothing_else(served: House) -> None:
    job = own_job(served, "key:ann")

    async def ticket() -> str:
        made = await served.ask("POST /v1/tickets", bearer(ANN), "Content-Type: application/json", body=b"{}")
        return str(json.loads(made.body)["ticket"])

    found = []
    for (method, path), route in ROUTES.items():
        line = route.line(method, job, f"ticket={await ticket()}")
        found.append(((method, path), route, await served.ask(line, *route.fields(), body=route.body.encode())))

    # A ticket is of one use: the first one is not spent on the head alone.
    heads = {key: answered.status for key, route, answered in found if route.stream and key[0] == "HEAD"}
    assert set(heads.values()) == {204}
    rest = iter([one for one in found if one[0] not in heads])
    assert others(rest, lambda route: route.allowed if route.stream else denied(route)) == {}


# Jobs of others, and jobs that do not exist


@pytest.mark.parametrize("accept", [[], [EVENT_STREAM], ["Accept: application/json"]], ids=["none", "sse", "json"])
@pytest.mark.parametrize("scope", ["all of a user", *SCOPES[:3]])
async def test_the_job_of_another_is_answered_as_one_that_does_not_exist(
    served: House, scope: str, accept: Sequence[str]
) -> None:
    key = ANN if scope == "all of a user" else SCOPE_KEYS[scope]
    has = {"jobs:read", "jobs:submit", "jobs:cancel"} if scope == "all of a user" else {scope}
    foreign, unknown = own_job(served, "key:else"), "job_x"
    assert len(foreign) == len(unknown)

    def about_a_job(route: Route) -> bool:
        return route.names_job

    def expected(route: Route) -> int:
        if route.needs not in has:
            return 403
        return 200 if route.stream and EVENT_STREAM in accept else 404

    theirs = list(await answers(served, foreign, bearer(key), *accept, only=about_a_job))
    nobodys = list(await answers(served, unknown, bearer(key), *accept, only=about_a_job))

    assert others(iter(theirs), expected) == {}
    for (which, _, one), (_, _, other) in zip(theirs, nobodys, strict=True):
        assert one.status == other.status, which
        assert _without_date(one) == _without_date(other), which
        assert one.body.replace(foreign.encode(), unknown.encode()) == other.body, which
    assert served.upstream.cancelled == []


async def test_a_watch_link_of_another_job_opens_nothing(served: House) -> None:
    job, other = own_job(served, "key:ann"), served.job_of("key:ann", "another").id
    link = served.guard.signer.sign_watch(other, int(served.guard.now()) + 60)

    found = await answers(served, job, bearer(link), only=lambda route: route.names_job)

    assert others(found, lambda route: 404 if route.needs == "jobs:read" else 403) == {}


def _without_date(answered: Answer) -> dict[str, str]:
    return {name: value for name, value in answered.headers.items() if name != "date"}


# Credentials that are none


@pytest.mark.parametrize("name", PRESENTED)
async def test_a_credential_that_is_none_opens_nothing(served: House, name: str) -> None:
    job, fields = own_job(served, "key:ann"), PRESENTED[name]
    own_job(served, "jwt:ann"), own_job(served, "proxy:ann")
    before = len(served.relay.jobs())

    found = list(await answers(served, job, *fields))

    assert others(iter(found), denied) == {}
    challenges = {answered.headers["www-authenticate"] for _, route, answered in found if route.needs != "nothing"}
    assert len(challenges) == 1
    assert challenges.pop().startswith('Bearer realm="relay"')
    assert (len(served.relay.jobs()), served.upstream.submitted, served.upstream.cancelled) == (before, [], [])


@pytest.mark.parametrize("name", MADE)
async def test_a_credential_of_the_relay_itself_that_does_not_hold_opens_nothing(served: House, name: str) -> None:
    job = own_job(served, "key:ann")
    made = MADE[name]
    before = len(served.relay.jobs())

    fields, query = await made.make(served, job)
    found = await answers(served, job, *fields, query=query)

    assert others(found, denied_to_a_browser if made.ambient else denied) == {}
    assert (len(served.relay.jobs()), served.upstream.submitted, served.upstream.cancelled) == (before, [], [])


async def test_the_controls_of_this_matrix_are_valid(served: House) -> None:
    """Each token above differs from one of these in the one thing that is tested."""
    valid = [
        [bearer(mint())],
        [bearer(mint(exp=NOW - 59))],
        [bearer(signed({"alg": "RS256"}, claims(), private("RS256")))],
        ["X-Forwarded-User: ann", f"X-Relay-Proxy: {PROXY_SECRET}"],
    ]

    assert [(await served.ask("GET /v1/session", *fields)).status for fields in valid] == [200] * len(valid)


async def test_a_token_of_the_issuer_reaches_what_its_claims_allow(served: House) -> None:
    job = own_job(served, "jwt:ann")

    found = await answers(served, job, bearer(mint(scope="jobs:read jobs:cancel")))

    assert others(found, allowed_by("jobs:read", "jobs:cancel")) == {}
