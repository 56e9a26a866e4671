"""Whatever is presented, wherever: no answer is a 500, and no record reaches a client that does not own its job."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from relay.events import Log
from tests.web.access.credentials import JSON, bearer
from tests.web.access.house import LISTED_ORIGIN, PROXY_SECRET, House, house
from tests.web.access.issuer import mint
from tests.web.access.keys import ANN
from tests.web.raw import request
from tests.web.test_fuzz import Probe

SECRET_TASK: Final = "task-of-somebody-else"
SECRET_LINE: Final = "a line of somebody else"
OWN_LINE: Final = "a line of ann"

SENT_AT_ONCE: Final = 12


class Sent(Struct, frozen=True):
    """One request, in which `<name>` stands for what the relay has made by then, changed as *changes* say."""

    method: str
    target: str
    fields: tuple[str, ...]
    changes: Mapping[str, tuple[str, int]]

    def filled(self, made: Mapping[str, str]) -> bytes:
        line, fields = f"{self.method} {self.target} HTTP/1.1", list(self.fields)
        for name, value in made.items():
            now = changed(value, *self.changes.get(name, ("none", 0)))
            line = line.replace(f"<{name}>", now)
            fields = [field.replace(f"<{name}>", now) for field in fields]
        host = None if any(field.lower().startswith("host:") for field in fields) else "localhost"
        return request(line, *fields, host=host)


def changed(value: str, how: str, place: int) -> str:
    """*value*, another one at *place*."""
    at = place % max(1, len(value))
    match how:
        case "flip":
            return value[:at] + ("A" if value[at : at + 1] != "A" else "B") + value[at + 1 :]
        case "cut":
            return value[:at]
        case "double":
            return value + value
        case "upper":
            return value.upper()
        case "escape":
            return value[:at] + "".join(f"%{ord(character):02x}" for character in value[at : at + 3]) + value[at + 3 :]
        case "latin":
            return f"{value[:at]}\xe9{value[at:]}"
        case _:
            return value


NAMES: Final[tuple[str, ...]] = ("ann", "jwt", "watch", "cookie", "ticket", "bound", "own", "foreign", "secret")

changes: st.SearchStrategy[dict[str, tuple[str, int]]] = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(st.sampled_from(["flip", "cut", "double", "upper", "escape", "latin"]), st.integers(0, 300)),
    max_size=2,
)
job = st.sampled_from(
    [
        "<own>",
        "<foreign>",
        "<foreign>",
        "%3Cforeign%3E",
        "<own>/../<foreign>",
        "<own>%2f..%2f<foreign>",
        "..",
        "%2e",
        "*",
        "",
    ]
)
path = st.sampled_from(
    [
        "/v1/jobs",
        "/v1/jobs/{}",
        "/v1/jobs/{}/events",
        "/v1/jobs/{}/cancel",
        "/v1/events",
        "/v1/events",
        "//v1/events",
        "/v1/events/",
        "/v1/./events",
        "/v1/%65vents",
        "/V1/events",
        "/v1/videos",
        "/v1/videos/{}",
        "/v1/videos/{}/content",
        "/v1/video/generations/{}",
        "/v1/responses/resp_{}",
        "/v1/session",
        "/v1/tickets",
        "/v1/sinks",
        "/metrics",
        "/static/..%2f..%2fmetrics",
        "/static/../metrics",
        "http://localhost/v1/jobs/{}",
    ]
)
queries = st.lists(
    st.sampled_from(
        [
            "job=<own>",
            "job=<foreign>",
            "job=<foreign>",
            "job=",
            "job=*",
            "ticket=<ticket>",
            "ticket=<bound>",
            "ticket=<cookie>",
            "ticket=<ann>",
            "ticket=",
            "Ticket=<ticket>",
            "%74icket=<ticket>",
            "access_token=<ann>",
            "after=<foreign>",
            "stream=true",
            "starting_after=0",
            "last_event_id=gone-0",
            "follow=false",
            "debug=1",
            "subject=key:else",
            "owner=key:else",
        ]
    ),
    max_size=3,
).map("&".join)
fields = st.lists(
    st.sampled_from(
        [
            "Authorization: Bearer <ann>",
            "Authorization: Bearer <ann>",
            "Authorization: bearer <ann>",
            "Authorization:Bearer\t<ann>",
            "Authorization: Bearer <jwt>",
            "Authorization: Bearer <watch>",
            "Authorization: Bearer <ticket>",
            "Authorization: Bearer",
            "Authorization: Basic YW5uOmE=",
            "Authorization: \xff\xfe",
            "Cookie: <cookie>",
            "Cookie: <cookie>; <cookie>",
            "Cookie: a=b; <cookie>; =; ;;",
            "Cookie: <bound-cookie>",
            "Cookie: <bound-cookie>; <cookie>",
            "Cookie: \xe9=\xe9; relay-=",
            "X-Forwarded-User: else",
            "X-Forwarded-User: ann",
            "X-Forwarded-User: key:else",
            "X-Forwarded-User: \xe9",
            "X-Relay-Proxy: <secret>",
            "X-Relay-Proxy: <secret>",
            "X-Forwarded-For: 10.0.0.1, <ann>, ::1, 999.9",
            "X-Forwarded-For: \xff,,,",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.example",
            "Forwarded: for=127.0.0.1;proto=https",
            f"Origin: {LISTED_ORIGIN}",
            "Origin: null",
            "Origin: http://localhost",
            "Origin: \xe9",
            "Host: localhost",
            "Host: evil.example",
            "Host: [::1",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-origin",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document",
            "Accept: text/event-stream",
            "Accept: application/x-ndjson",
            "Accept: application/json",
            "Last-Event-ID: gone-0",
            "Access-Control-Request-Method: GET",
            "X-HTTP-Method-Override: DELETE",
        ]
    ),
    max_size=5,
).map(tuple)


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    target, query = draw(path).replace("{}", draw(job)), draw(queries)
    method = draw(st.sampled_from(["GET"] * 6 + ["HEAD", "POST", "DELETE", "OPTIONS"]))
    return Sent(method, f"{target}?{query}" if query else target, draw(fields), draw(changes))


async def made_for_ann(served: House) -> dict[str, str]:
    """All that the relay gives to the user ann, and the ids of a job of hers and of another's."""
    own, foreign = served.job_of("key:ann"), served.job_of("key:else", SECRET_TASK)
    served.relay.bus.publish(own, Log(line=OWN_LINE))
    served.relay.bus.publish(foreign, Log(line=SECRET_LINE))
    signed_in = await served.ask("POST /v1/session", bearer(ANN))
    tickets = [await served.ask("POST /v1/tickets", bearer(ANN), JSON, body=b"{}") for _ in range(2)]
    fresh, bound = (one.body.decode().split('"')[3] for one in tickets)
    opened = await served.ask(f"GET /v1/events?ticket={bound}")
    return {
        "ann": ANN,
        "jwt": mint(scope="jobs:read"),
        "watch": served.guard.signer.sign_watch(own.id, int(served.guard.now()) + 60),
        "cookie": signed_in.headers["set-cookie"].partition(";")[0],
        "ticket": fresh,
        "bound": bound,
        "bound-cookie": opened.headers["set-cookie"].partition(";")[0],
        "own": own.id,
        "foreign": foreign.id,
        "secret": PROXY_SECRET,
    }


async def answered_to(served: House, probe: Probe, raw: bytes) -> bytes:
    """All that comes at once of one request, also of a stream."""
    received = bytearray()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.door.port)

    async def read() -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                received.extend(data)

    reading = asyncio.create_task(read())
    try:
        writer.write(raw)
        await probe.passes(3)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        writer.close()
    return bytes(received)


async def play(everyone: Sequence[Sent]) -> bytes:
    """The answers to all of these, in turn."""
    whole = b""
    async with house() as served:
        made = await made_for_ann(served)
        probe = Probe(*await asyncio.open_connection("127.0.0.1", served.door.port))
        for sent in everyone:
            answered = await answered_to(served, probe, sent.filled(made))
            assert not answered.startswith(b"HTTP/1.1 500"), sent
            assert served.door.failures.counts["failed"] == 0, sent
            for secret in (SECRET_TASK, SECRET_LINE, "key:else"):
                assert secret.encode() not in answered, sent
            whole += answered
        probe.writer.close()
    return whole


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(everyone=st.lists(requests(), min_size=1, max_size=SENT_AT_ONCE))
async def test_no_request_is_a_fault_or_is_answered_with_a_record_of_another(everyone: list[Sent]) -> None:
    await play(everyone)


async def test_the_records_of_its_owner_are_answered() -> None:
    """Or the test above would pass with a relay that answers nothing."""
    for fields in (["Authorization: Bearer <ann>"], ["Cookie: <cookie>"], ["Authorization: Bearer <watch>"]):
        for target in ("/v1/events", "/v1/jobs/<own>/events"):
            assert OWN_LINE.encode() in await play([Sent("GET", target, tuple(fields), {})])
    for target in ("/v1/events?ticket=<bound>", "/v1/events?job=<own>&ticket=<ticket>"):
        assert OWN_LINE.encode() in await play([Sent("GET", target, ("Cookie: <bound-cookie>",), {})])
