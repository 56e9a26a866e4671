"""No secret is shown, however whoever repeats it spells it, and nothing else is taken for one."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from html import escape
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import UpstreamError
from relay.events import Exchange
from relay.jobs.observations import Failure, Observation, Result
from relay.testing import ManualClock
from relay.upstreams import Declared, Sora
from relay.upstreams.declared.declaration import PollRequest, SubmitRequest
from relay.upstreams.http.client import HttpClient
from relay.upstreams.http.redaction import Redactor, carries_a_secret, redact, redacted_headers
from relay.wire.spellings import RUN, decoded
from tests.upstreams.stub import Stub, reply

TOKEN = "sk/7Q+=tok_en-&\"'\\%41~x9"

PLAIN_TOKEN = "canary-7Q/+=token"

tokens = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=RUN, max_size=60)
surroundings = st.text(st.sampled_from("ab \n\"'{}[]:,=&;#%\\/25u04x"), max_size=12)

Spelling = Callable[[str], str]
PLAIN: list[Spelling] = [
    lambda c: c,
    lambda c: f"\\u{ord(c):04x}",
    lambda c: f"\\u{ord(c):04X}",
    lambda c: f"\\\\u{ord(c):04x}",
    lambda c: f"\\x{ord(c):02x}",
    lambda c: f"\\u{{{ord(c):x}}}",
    lambda c: f"%{ord(c):02x}",
    lambda c: f"%{ord(c):02X}",
    lambda c: f"%25{ord(c):02x}",
    lambda c: f"%2525{ord(c):02X}",
    lambda c: f"&#{ord(c)};",
    lambda c: f"&#0{ord(c)};",
    lambda c: f"&#x{ord(c):x};",
    lambda c: f"&#X{ord(c):X};",
    lambda c: f"&amp;#{ord(c)};",
    lambda c: f"%5Cu{ord(c):04x}",
    lambda c: f"\\u0026#x{ord(c):x};",
    lambda c: f"%26%23{ord(c)}%3B",
    lambda c: escape(c),
    lambda c: {"/": "&sol;", "+": "&plus;", "=": "&equals;", "_": "&lowbar;"}.get(c, c),
    lambda c: f"\\{c}" if not c.isalnum() else c,
    lambda c: quote(c, safe=""),
    lambda c: json.dumps(c)[1:-1],
    lambda c: json.dumps(json.dumps(c))[3:-3] if c not in '"\\' else json.dumps(json.dumps(c)[1:-1])[1:-1],
]


def runs(text: str) -> set[str]:
    return {text[place : place + RUN] for place in range(len(text) - RUN + 1)}


def shown(text: str, secret: str) -> set[str]:
    """The runs of *secret* that a reader finds in *text*, as it is or once escapes are resolved."""
    resolved = decoded(text)
    return (runs(text) | (runs(resolved.text) if resolved else set())) & runs(secret)


@settings(max_examples=400, deadline=None)
@given(tokens, st.data(), surroundings, surroundings)
def test_no_run_of_a_token_is_left_in_any_mix_of_spellings(
    token: str, data: st.DataObject, before: str, after: str
) -> None:
    spellings = data.draw(st.lists(st.sampled_from(PLAIN), min_size=len(token), max_size=len(token)))
    text = before + "".join(spell(c) for spell, c in zip(spellings, token, strict=True)) + after
    assert shown(Redactor([token])(text), token) == set()


@settings(max_examples=200, deadline=None)
@given(tokens, st.sampled_from(PLAIN), st.text(max_size=20), st.text(max_size=20), st.booleans(), st.booleans())
def test_no_run_of_a_token_is_left_in_base64_wherever_it_stands(
    token: str, spell: Spelling, before: str, after: str, url_safe: bool, padded: bool
) -> None:
    whole = before.encode() + token.encode() + after.encode()
    encoded = (urlsafe_b64encode if url_safe else b64encode)(whole).decode()
    encoded = encoded if padded else encoded.rstrip("=")
    masked = Redactor([token])(f"Basic {''.join(map(spell, encoded))}")
    left = (decoded(masked) or decoded(masked + "\\/")).text.rstrip("/")  # type: ignore[union-attr]
    core = encoded[-(-len(before.encode()) * 4 // 3) : (len(before.encode()) + len(token)) * 4 // 3]
    assert not (runs(left) & runs(core)), (masked, core)


@pytest.mark.parametrize("padding", range(RUN + 2))
def test_a_part_of_a_token_is_not_shown_either(padding: int) -> None:
    text = "x" * padding + TOKEN[3:-4] + "y"
    assert shown(Redactor([TOKEN])(text), TOKEN) == set()
    assert Redactor(["canary-0123456789"])(text + "y-0123456!") == text + "***!"


@pytest.mark.parametrize(
    "text", ["", "a", "running", "57.5%", "50% of 41%", "C:\\users\\u0041", "&nbsp;&lt;b&gt;", "%", "\\", "&", "%zz"]
)
def test_what_holds_no_secret_is_left_as_it_is(text: str) -> None:
    assert Redactor([TOKEN, "another-token-9"])(text) == text


def test_a_secret_of_a_few_letters_is_found_whole() -> None:
    assert Redactor(["abc"])("ab xabcx \\u0061bc") == "ab x***x ***"


@pytest.mark.parametrize(
    "text", ["%25" * 50_000, "\\" * 100_000, "&amp;" * 30_000, "&" * 99_999, "\\u0026amp;" * 9_999]
)
def test_a_text_of_nothing_but_escapes_takes_no_long_time(text: str) -> None:
    assert len(Redactor([TOKEN])(text)) <= len(text)


def test_a_text_with_more_kinds_of_escapes_than_anybody_reads_is_masked_whole() -> None:
    text = "sk"
    for level in range(20):
        text = (f"%{ord(text[0]):02x}" if level % 2 else f"&#{ord(text[0])};") + text[1:]
    assert Redactor([TOKEN])(text) == "***"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('{"client_secret": "abc"}', '{"client_secret": "***"}'),
        ('{"api-key":"abc","n":1}', '{"api-key":"***","n":1}'),
        ('{"password": 12345}', '{"password": ***}'),
        ('{"accessToken":"a\\"b\\\\"}', '{"accessToken":"***"}'),
        ('{"x-auth-token": "abc"}', '{"x-auth-token": "***"}'),
        ("{'secretAccessKey': 'abc'}", "{'secretAccessKey': '***'}"),
        ('{"m": "{\\"password\\": \\"a b\\", \\"n\\": 1}"}', '{"m": "{\\"password\\": \\"***\\", \\"n\\": 1}"}'),
        ('"{\\\\\\"apiKey\\\\\\":\\\\\\"abc\\\\\\"}"', '"{\\\\\\"apiKey\\\\\\":\\\\\\"***\\\\\\"}"'),
        ("grant_type=x&client_secret=abc&a=1", "grant_type=x&client_secret=***&a=1"),
        ("password=hunter2", "password=***"),
        ("host: a\npassword: hunter2\nport: 1", "host: a\npassword: ***\nport: 1"),
        ("db_password: 'a b'\n", "db_password: '***'\n"),
        ("x-auth-token: abcdef12\nx: y", "x-auth-token: ***\nx: y"),
        ("Authorization: Bearer abc.def\nx: y", "Authorization: Bearer ***\nx: y"),
        ("Cookie: a=b; c=d\nx: y", "Cookie: ***\nx: y"),
        ("got Bearer abcdef123456", "got Bearer ***"),
        ("%22password%22%3A%22abc%22", "%22password%22%3A%22***%22"),
        ("&quot;api_key&quot;:&quot;abc&quot;", "&quot;api_key&quot;:&quot;***&quot;"),
        ("https://user:pass@host/a", "https://***@host/a"),
        ("https:\\/\\/user:pass@host\\/a", "https:\\/\\/***@host\\/a"),
        ('{"token": null, "password": true}', '{"token": null, "password": true}'),
        ('{"max_tokens": 4096, "token_type": "Bearer"}', '{"max_tokens": 4096, "token_type": "Bearer"}'),
        ('{"nextPageToken": "abc", "key": "k"}', '{"nextPageToken": "abc", "key": "k"}'),
        ("invalid token: it has expired", "invalid token: it has expired"),
        ("basic authentication required", "basic authentication required"),
        ("the secretary: Bob", "the secretary: Bob"),
    ],
)
def test_what_is_named_like_a_secret_is_masked_and_nothing_else(text: str, masked: str) -> None:
    assert Redactor([])(text) == masked


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *[(name, True) for name in ("Authorization", "X-Api-Key", "x-auth-token", "xi-api-key", "Api-Key")],
        *[
            (name, True)
            for name in ("X-Amz-Security-Token", "Ocp-Apim-Subscription-Key", "Set-Cookie", "Client-Secret")
        ],
        *[(name, False) for name in ("Accept", "Idempotency-Key", "X-RateLimit-Remaining-Tokens", "Content-Type")],
    ],
)
def test_headers_that_carry_a_secret_are_known_by_name(name: str, secret: bool) -> None:
    assert (carries_a_secret(name), "value" in redacted_headers({name: "value"})) == (secret, not secret)


def test_all_that_an_observation_quotes_is_masked() -> None:
    spelled = "".join(f"\\u{ord(c):04x}" for c in PLAIN_TOKEN)
    seen = Observation(
        status="failed",
        raw_status=f"bad {spelled}",
        raw_percent=f"x {spelled}",
        log=("a line", f"with {quote(PLAIN_TOKEN, safe='')}"),
        warning=f"odd: {spelled}",
        failure=Failure(kind="upstream", message=f"no {escape(PLAIN_TOKEN)}"),
        result=Result(
            urls=(f"https://u:p@v/a?sig=1&x={quote(PLAIN_TOKEN, safe='')}",), value={"said": spelled, "n": [1]}
        ),
    )
    assert redact(seen, Redactor([PLAIN_TOKEN])) == Observation(
        status="failed",
        raw_status="bad ***",
        raw_percent="x ***",
        log=("a line", "with ***"),
        warning="odd: ***",
        failure=Failure(kind="upstream", message="no ***"),
        result=Result(urls=("https://***@v/a?sig=1&x=***",), value={"said": "***", "n": [1]}),
    )


@pytest.mark.parametrize("id", ["{}", "prefix-{}", "{}-7"])
async def test_a_token_that_is_repeated_as_a_task_s_id_is_no_id(id: str) -> None:
    token = "canary-0123456789"
    body = json.dumps({"id": id.format(token)})
    declared = SubmitRequest(path="tasks", id="id"), PollRequest(path="tasks/{task}", status="s", urls="u")
    async with Stub(reply(body)) as stub:
        for upstream in (
            Sora(stub.url, token),
            Declared(stub.url, token, submit=declared[0], poll=declared[1]),
        ):
            async with upstream:
                with pytest.raises(UpstreamError, match="its id repeats a secret of ours") as caught:
                    await upstream.submit({"prompt": "a cat"})
            assert (caught.value.kind, "canary" in str(caught.value)) == ("malformed", False)


async def test_the_values_of_declared_headers_are_secrets_too() -> None:
    heard: list[Exchange] = []
    headers = {"X-Client": "client-canary-1", "X-Api-Version": "2024-11-06", "Accept-Language": "en-canary"}
    poll = PollRequest(
        path="tasks/{task}", status="status", urls="u", error="error", headers={"X-Tenant": "tenant-canary-2"}
    )
    body = json.dumps({"status": "failed", "error": "no client-canary-1 of tenant-canary-2 at 2024-11-06"})
    async with (
        Stub(reply(body, x_echo="tenant-canary-2")) as stub,
        Declared(stub.url, "token", poll=poll, headers=headers, clock=ManualClock()) as upstream,
    ):
        upstream.on_exchange = heard.append
        seen = (await upstream.observe(["a"])).tasks["a"]
    assert isinstance(seen, Observation)
    assert isinstance(seen.failure, Failure)
    assert seen.failure.message == "no *** of *** at 2024-11-06"
    assert b"tenant-canary-2" in stub.requests[0]
    assert ("canary-1" in repr(heard), "canary-2" in repr(heard), "en-canary" in repr(heard)) == (False, False, True)


async def test_a_token_in_any_spelling_is_in_no_exchange_and_no_error() -> None:
    token = "canary-7Q/+=token"
    spelled = [
        token.replace("/", "\\/").replace("+", "\\u002B"),
        quote(token, safe="").lower(),
        quote(quote(token, safe=""), safe=""),
        "".join(f"&#x{ord(c):x};" for c in token),
        b64encode(f"user:{token}".encode()).decode(),
    ]
    for spelling in spelled:
        heard: list[Exchange] = []
        body = '{"message": "bad ' + spelling + '"}'
        async with (
            Stub(reply(body, "400 Bad Request", x_echo=spelling)) as stub,
            HttpClient(stub.url, token, upstream="test") as http,
        ):
            with pytest.raises(UpstreamError) as caught:
                await http.request("GET", f"jobs?x={spelling}", on_exchange=heard.append)
        told = str(caught.value) + repr(heard)
        assert shown(told, token) == set()
        assert b64encode(f"user:{token}".encode()).decode()[6:22] not in told


def test_a_json_value_is_masked_in_its_texts_its_names_and_by_its_names() -> None:
    value = {"a": [f"x {TOKEN}", 7, None], TOKEN: 1, "password": "p", "max_tokens": 5}
    assert Redactor([TOKEN]).value(value) == {"a": ["x ***", 7, None], "***": 1, "password": "***", "max_tokens": 5}
