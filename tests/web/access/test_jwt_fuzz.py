"""Whatever a client sends as a token: no exception, no error of the code, and no access that was not signed."""

from collections.abc import Coroutine
from typing import Any

import jwt
from hypothesis import given
from hypothesis import strategies as st
from jwt.types import Options

from relay.config.access import SCOPES
from relay.testing import ManualClock
from tests.web.access.issuer import AUDIENCE, ISSUER, NOW, SECRET, claims, encoded, mint, settings, signed
from web.access.jwt import Claims, JwtVerifier

VERIFIERS = {
    name: JwtVerifier(settings(name), clock=ManualClock(), notify=lambda _: None) for name in ("HS256", "ES256")
}
TOKENS = {name: mint(name) for name in VERIFIERS}

AT_ANY_TIME: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
"""PyJWT knows the clock of the machine alone."""

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([NOW, NOW + 60, ISSUER, AUDIENCE, "ann", "own", "*", "jobs:read operate", "RS256", "none"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
some_claims = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "scope", "jobs", "other"]),
    json_values,
    max_size=4,
)
some_header = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5u", "x5c", "cty", "enc", "zip"]),
    json_values | st.sampled_from(["HS256", "ES256", "none", "JWT", "at+jwt"]),
    max_size=5,
)
# aiohttp reads a header with a surrogate for each byte that is not UTF-8.
from_a_header = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
base64url = st.text("ABCXYZabcxyz0189-_", max_size=40)
three_parts = st.tuples(base64url, base64url, base64url).map(".".join)


def verified(name: str, token: str) -> Claims | None:
    """Without an event loop: a key of the configuration needs no fetch."""
    before = sum(VERIFIERS[name].refusals.values())
    found = _result(VERIFIERS[name].verify(token))
    assert sum(VERIFIERS[name].refusals.values()) == before + (found is None)
    assert VERIFIERS[name].refusals["internal"] == 0
    return found


def _result(coroutine: Coroutine[Any, Any, Claims | None]) -> Claims | None:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: Claims | None = stop.value
        return value
    raise AssertionError("it waited")


@given(token=st.text(max_size=60) | from_a_header | three_parts)
def test_no_text_is_a_token(token: str) -> None:
    for name in VERIFIERS:
        assert verified(name, token) is None


@given(header=some_header, payload=json_values | some_claims.map(lambda some: {**claims(), **some}))
def test_no_token_is_valid_without_a_signature(header: Any, payload: Any) -> None:
    for signature in ("", "AAAA", "A" * 86, TOKENS["ES256"].rpartition(".")[2]):
        assert verified("ES256", f"{encoded(header)}.{encoded(payload)}.{signature}") is None


@given(data=st.data())
def test_a_token_with_another_character_is_not_valid(data: st.DataObject) -> None:
    for name, token in TOKENS.items():
        place = data.draw(st.integers(0, len(token) - 1))
        character = data.draw(st.characters())
        changed = token[:place] + character + token[place + 1 :]
        assert (verified(name, changed) is None) == (changed != token)


@given(changed=some_claims, header=some_header)
def test_a_signed_token_gives_what_may_be_given_or_nothing(changed: dict[str, Any], header: dict[str, Any]) -> None:
    token = signed({"alg": "HS256", **header}, {**claims(), **changed}, SECRET)
    found = verified("HS256", token)

    if found is not None:
        other = jwt.decode(token, SECRET, ["HS256"], audience=AUDIENCE, issuer=ISSUER, options=AT_ANY_TIME)
        assert (other["sub"], other["exp"] + 60) == (found.subject, found.expires), "another library agrees"
        assert 1 <= len(found.subject) <= 252
        assert found.subject.isprintable()
        assert found.scopes <= set(SCOPES)
        assert found.jobs in ("own", "*") or all(1 <= len(job) <= 128 for job in found.jobs)
        assert NOW < found.expires < NOW + 11 * 366 * 86_400
        assert header.get("alg", "HS256") == "HS256"
        assert not {"crit", "b64"} & header.keys()


@given(payload=st.binary(max_size=200))
def test_a_signed_payload_of_any_bytes_is_no_error(payload: bytes) -> None:
    assert verified("HS256", signed({"alg": "HS256"}, payload, SECRET)) is None
