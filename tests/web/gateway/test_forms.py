"""Forms (`multipart/form-data`) within limits: no body starts paid work by accident, and none blocks the event loop."""

import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, FormData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay import Relay
from relay.testing import ManualClock
from tests.relay.scripted import TwoStep, story
from tests.web.serving import serve
from web.gateway.forms import FILE_LIMIT, PARTS, TEXT_LIMIT

BOUNDARY = "xyz"


@pytest.fixture
def upstream() -> TwoStep:
    return TwoStep(story({}))


@pytest.fixture
async def client(upstream: TwoStep) -> AsyncIterator[ClientSession]:
    async with serve(Relay([upstream], clock=ManualClock())) as served:
        yield served


def part(name: str, content: bytes, more: str = "", headers: str = "") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n{headers}\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
PROMPT = part("prompt", b"a cat")


async def send(client: ClientSession, body: bytes, content_type: str = "multipart/form-data", **headers: str) -> int:
    headers = {"Content-Type": f"{content_type}; boundary={BOUNDARY}", **headers}
    async with client.post("/v1/videos", data=body, headers=headers) as response:
        answer = await response.json()
    assert response.status == 200 or set(answer["error"]) == {"message", "type", "param", "code"}
    return response.status


@pytest.mark.parametrize("body", [PROMPT + END, b"\r\n" + PROMPT + END, PROMPT + END.rstrip() + b"\r\n\r\nepilogue"])
async def test_a_whole_form_is_read(client: ClientSession, upstream: TwoStep, body: bytes) -> None:
    assert await send(client, body) == 200
    assert upstream.submitted == [{"prompt": "a cat"}]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nothing of a form", 400),
        (b"--other\r\n\r\n", 400),
        (PROMPT, 400),  # cut before its end
        ((PROMPT + END)[:-12], 400),
        (PROMPT + PROMPT + END, 400),
        (part("prompt", b"\xff") + END, 400),
        (part("prompt", b"YSBjYXQ=", headers="Content-Transfer-Encoding: base64\r\n") + END, 400),
        (part("prompt", b"", headers="Content-Type: multipart/mixed; boundary=b\r\n") + END, 400),
        (part("prompt", b"a cat", headers="X: y\r\n" * 9) + END, 400),
        (part("prompt", b"a cat", headers=f"X: {'y' * 3000}\r\n") + END, 400),
        (f"--{BOUNDARY}\r\n\r\na cat\r\n".encode() + END, 400),
        (part("n" * 200, b"a cat") + END, 400),
        (PROMPT + part("n", b"x").replace(b'"n"', b'"\xff"') + END, 400),
        (b"--xyz\r\nContent-Disposition: form-data; \r\n\r\na cat\r\n" + END, 400),
        (b"".join(part(f"f{number}", b"") for number in range(PARTS)) + PROMPT + END, 400),
        (PROMPT + part("metadata[job]", b"j") + END, 400),
        (PROMPT + part("video", b"x", '; filename="v.mp4"') + END, 400),
        (PROMPT + part("input_reference", b"<svg/>", '; filename="x.png"') + END, 400),
        (part("prompt", bytes(TEXT_LIMIT + 1)) + END, 413),
        (PROMPT + part("input_reference", bytes(FILE_LIMIT + 1), '; filename="x.png"') + END, 413),
    ],
)
async def test_a_form_that_is_not_whole_or_beyond_the_limits_starts_nothing(
    client: ClientSession, upstream: TwoStep, body: bytes, status: int
) -> None:
    assert await send(client, body) == status
    assert upstream.submitted == []


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/mixed"])
async def test_another_type_of_body_is_refused(client: ClientSession, upstream: TwoStep, content_type: str) -> None:
    assert await send(client, PROMPT + END, content_type) == 415
    assert upstream.submitted == []


OUR_FORM = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    # Firefox before 70, with `Referrer-Policy: no-referrer`.
    {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:60.0) Gecko/20100101 Firefox/60.0"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_form_of_a_page_of_another_origin_starts_nothing(
    client: ClientSession, upstream: TwoStep, headers: dict[str, str]
) -> None:
    assert await send(client, PROMPT + END, **headers) == 403
    assert upstream.submitted == []


async def test_a_form_of_the_page_itself_and_a_link_from_elsewhere_are_served(client: ClientSession) -> None:
    assert await send(client, PROMPT + END, **OUR_FORM) == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await client.get("/v1/videos", headers=link)).status == 200


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
NAMES = st.text("abcdefghijk_", min_size=1, max_size=12).filter(
    lambda name: name not in ("model", "prompt", "n", "input_reference")
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(NAMES, TEXTS, max_size=8), prompt=TEXTS.filter(str.strip))
async def test_every_field_of_a_form_reaches_the_upstream_as_it_was_sent(fields: dict[str, str], prompt: str) -> None:
    upstream = TwoStep(story({}))
    async with serve(Relay([upstream], clock=ManualClock())) as client:
        form = FormData({**fields, "prompt": prompt}, default_to_multipart=True)
        async with client.post("/v1/videos", data=form) as response:
            assert response.status == 200

    assert upstream.submitted == [{**fields, "prompt": prompt}]


WHOLE = PROMPT + part("seconds", b"4") + END


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(WHOLE)), end=st.integers(0, len(WHOLE)), new=st.binary(max_size=12))
async def test_a_broken_form_is_a_refusal_or_the_work_that_it_describes(cut: int, end: int, new: bytes) -> None:
    upstream = TwoStep(story({}))
    async with serve(Relay([upstream], clock=ManualClock())) as client:
        status = await send(client, WHOLE[:cut] + new + WHOLE[end:])

    assert status in (200, 400)
    assert len(upstream.submitted) == (status == 200)


@pytest.mark.parametrize(
    "body",
    [
        b"\n" * 1_000_000,
        b"--xyz\r\n" + b"\n" * 1_000_000,
        b"--xyz\r\n" + b"a: b\r\n" * 160_000,
        b"--other\n" * 120_000,
        b"--xyzz\n" * 120_000,
        b"--xyz\r\n--xyz\r\n" * 60_000,
        b"--xyz\r\n\r\n" * 100_000,
        PROMPT + b"\r\n--xy" * 160_000,
        PROMPT + END + b"\n" * 900_000,
        part("prompt", b"\n" * 60_000) * 16,
    ],
)
async def test_no_body_keeps_the_event_loop_busy(client: ClientSession, upstream: TwoStep, body: bytes) -> None:
    assert await send(client, PROMPT + END) == 200
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        status = await send(client, body)
    finally:
        sys.setprofile(None)

    assert status in (200, 400, 413)
    assert calls < 50_000, "calls and returns, of client and server together: 10,000 take a millisecond or two"
