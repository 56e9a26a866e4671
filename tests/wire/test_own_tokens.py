"""What opens the relay itself is masked in any text, whether or not the redactor knows it as a secret."""

import json
from base64 import b64encode
from urllib.parse import quote

import jwt
import pytest

from relay import Done, Log, Redactor, UpstreamError
from relay.cli.api_keys import new_key
from relay.wire.event_redaction import redact_event
from web.access.signing import Claims, Signer

SIGNER = Signer(b"a key of 32 characters and more..")
CLAIMS = Claims(subject="key:ann", scopes=("jobs:read",), jobs="own", expires=2_000_000_000, issued=1)
TICKET = SIGNER.sign("ticket", CLAIMS)
TOKENS = {
    "key": new_key(),
    "session": SIGNER.sign("session", CLAIMS),
    "ticket": TICKET,
    "bound": SIGNER.bind(TICKET, "/v1/events"),
    "watch": SIGNER.sign_watch("job_b710914e.0b17-7d99", 2_000_000_000),
}
mask = Redactor()

TEXTS = [
    "{}",
    "no token {} is valid",
    "{}.",
    "<{}>",
    "https://relay.example/#watch={}",
    "/v1/events?ticket={}&job=a",
    "Authorization: Bearer {}",
    '{{"note": "{}"}}',
    "cookie relay-1234abcd={}; Path=/",
    "url_{}",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_masked_wherever_it_stands(kind: str, text: str) -> None:
    token = TOKENS[kind]
    masked = mask(text.format(token))
    assert token[4:] not in masked
    assert token[-20:] not in masked
    assert "***" in masked


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_masked_in_other_spellings_and_where_it_is_cut(kind: str) -> None:
    token = TOKENS[kind]
    escaped = quote(f"watch={token}", safe="")
    for text in (escaped, quote(escaped), json.dumps(json.dumps({"a": token})), f"&#x22;{token}&quot;"):
        assert token[-20:] not in mask(text)
    assert mask(f"{token[:30]}") == f"{token[:4]}***"
    assert mask(f"begin {token}", 30) == f"begin {token[:4]}***"


@pytest.mark.parametrize("kind", TOKENS)
def test_events_links_and_values_hold_no_token(kind: str) -> None:
    token = TOKENS[kind]
    link = f"https://cdn.example/v.mp4?sig=x#watch={token}"
    done = redact_event(Done(urls=(link,), result={token: [token]}), mask)
    assert done == Done(
        urls=(f"https://cdn.example/v.mp4?sig=x#watch={token[:4]}***",), result={f"{token[:4]}***": [f"{token[:4]}***"]}
    )
    assert redact_event(Log(line=f"a {token} b"), mask) == Log(line=f"a {token[:4]}*** b")
    with pytest.raises(UpstreamError, match="its id repeats a secret of ours"):
        mask.task(f"task-{token}")


def test_a_json_web_token_is_masked_in_texts_and_left_in_links_that_it_signs() -> None:
    token = jwt.encode({"sub": "ann"}, "a secret of 32 characters at least", "HS256")
    for text in TEXTS:
        assert token[-20:] not in mask(text.format(token))
    assert mask(f"refused {token}, once") == "refused eyJ***, once"
    link = f"https://cdn.example/{token}/v.mp4"
    assert redact_event(Done(urls=(link,)), mask) == Done(urls=(link,))
    assert mask("eyJ is how JSON begins, as eyJhbGciOi does") == "eyJ is how JSON begins, as eyJhbGciOi does"


@pytest.mark.parametrize(
    "text",
    ["url_parameters_and_more", "https://curl_client.example", "world_class", "rlk_short", "rls_policy.name", "rlc_"],
)
def test_words_that_begin_alike_stay(text: str) -> None:
    assert mask(text) == text
    assert mask.link(f"https://cdn.example/{text}") == f"https://cdn.example/{text}"


def test_a_secret_that_is_learned_later_is_masked_from_then_on_in_every_spelling() -> None:
    late = "plain-qwertzuiop-asdfghjkl"
    redactor = Redactor(["first-secret"])
    assert redactor(f"first-secret {late}") == f"*** {late}"
    redactor.learn([late, "", late])
    assert redactor(f"first-secret {late} {b64encode(late.encode()).decode()}").startswith("*** *** ***")
