"""Which tokens are valid, and that no other ever is, whatever it looks like."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from relay.testing import ManualClock
from tests.web.access.issuer import (
    AUDIENCE,
    ISSUER,
    NOW,
    SECRET,
    claims,
    encoded,
    jwk,
    mint,
    pem,
    private,
    settings,
    signed,
)
from web.access.jwt import Claims, JwtVerifier

RS256 = {"alg": "RS256", "typ": "JWT"}


def verifier(*algorithms: str, **changed: Any) -> JwtVerifier:
    return JwtVerifier(settings(*algorithms, **changed), clock=ManualClock(), notify=lambda _: None)


async def verified(token: str, *algorithms: str, **changed: Any) -> Claims | None:
    return await verifier(*algorithms, **changed).verify(token)


async def refusal(token: str, *algorithms: str, **changed: Any) -> str | None:
    """Why the token is refused; None where it is valid."""
    verifying = verifier(*algorithms, **changed)
    valid = await verifying.verify(token)
    assert sum(verifying.refusals.values()) == (valid is None)
    return next(iter(verifying.refusals), None)


# What is valid


async def test_a_valid_token_gives_all_that_it_claims() -> None:
    token = mint(scope="openid jobs:read operate", jobs=["a", "b"], iat=NOW - 5, nbf=NOW, jti="one")

    assert await verified(token) == Claims(
        subject="ann",
        scopes=frozenset({"jobs:read", "operate"}),
        jobs=frozenset({"a", "b"}),
        expires=NOW + 660.0,
        issued=NOW - 5,
        id="one",
    )


async def test_a_token_without_more_than_it_needs_may_do_nothing_and_sees_its_own() -> None:
    assert await verified(mint()) == Claims(
        subject="ann", scopes=frozenset(), jobs="own", expires=NOW + 660.0, issued=None, id=""
    )


@pytest.mark.parametrize(
    "algorithm",
    [
        *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    ],
)
async def test_each_algorithm_verifies_what_another_library_signed(algorithm: str) -> None:
    assert await refusal(mint(algorithm), algorithm) is None
    assert await refusal(mint(algorithm, key="two"), algorithm) == "signature"


@pytest.mark.parametrize("configured", [("Ed25519",), ("EdDSA",)])
@pytest.mark.parametrize("named", ["Ed25519", "EdDSA"])
async def test_ed25519_is_accepted_by_the_name_that_is_configured(configured: tuple[str], named: str) -> None:
    content = f"{encoded({'alg': named})}.{encoded(claims())}"
    token = f"{content}.{encoded(private('EdDSA').sign(content.encode()))}"

    assert await refusal(token, *configured, key=pem("EdDSA")) == (None if named in configured else "algorithm")
    assert await refusal(token, "Ed25519", "EdDSA", key=pem("EdDSA")) is None


@pytest.mark.parametrize("kind", [None, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
async def test_a_token_is_of_the_general_type_or_an_access_token(kind: str | None) -> None:
    assert await refusal(signed({"alg": "RS256", **({"typ": kind} if kind else {})}, claims())) is None


async def test_an_audience_may_be_one_of_several() -> None:
    assert await refusal(mint(aud=["other", AUDIENCE])) is None


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://attacker.example/keys"},
        {"x5u": "https://attacker.example/chain"},
        {"x5c": ["AAAA"]},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"nonce": "an extension that is not critical", "kid": "whatever"},
    ],
    ids=lambda header: next(iter(header)),
)
async def test_keys_and_addresses_within_a_token_are_not_looked_at(header: dict[str, Any]) -> None:
    assert await refusal(signed({**RS256, **header}, claims())) is None
    assert await refusal(signed({**RS256, **header}, claims(), private("RS256", "two"))) == "signature"


# Times


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"exp": NOW - 59}, None),
        ({"exp": NOW - 60}, "time"),
        ({"exp": NOW + 9 * 365 * 86_400}, None),
        ({"exp": NOW + 11 * 365 * 86_400}, "time"),
        ({"exp": 10**300}, "time"),
        ({"nbf": NOW + 60}, None),
        ({"nbf": NOW + 61}, "time"),
        ({"iat": NOW + 60}, None),
        ({"iat": NOW + 61}, "time"),
    ],
    ids=str,
)
async def test_a_token_is_valid_in_its_time_and_a_minute_on_either_side(changed: Any, expected: str | None) -> None:
    assert await refusal(signed(RS256, claims(**changed))) == expected


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [str(NOW), 1e300, NOW + 0.5, True, None, -1, [], {}], ids=repr)
async def test_a_time_is_a_whole_number_of_seconds(name: str, value: Any) -> None:
    assert await refusal(signed(RS256, {**claims(), name: value})) == "claims"


@pytest.mark.parametrize("number", [b"1e300", b"NaN", b"Infinity", b"-Infinity", b"9" * 5_000, b"null"])
async def test_a_time_that_other_readers_take_for_a_number_is_none(number: bytes) -> None:
    payload = b'{"iss":"%b","aud":"%b","sub":"ann","exp":%b}' % (ISSUER.encode(), AUDIENCE.encode(), number)

    assert await refusal(signed(RS256, payload)) == "claims"


async def test_leeway_is_as_it_is_configured() -> None:
    assert await refusal(mint(exp=NOW), leeway=0.0) == "time"
    assert await refusal(mint(exp=NOW), leeway=1.0) is None


# Claims


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"iss": None}, "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"iss": ISSUER.upper()}, "issuer"),
        ({"aud": None}, "audience"),
        ({"aud": "Relay"}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": [[AUDIENCE]]}, "audience"),
        ({"aud": [AUDIENCE, 1]}, "audience"),
        ({"aud": [AUDIENCE] * 101}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"exp": None}, "claims"),
        ({"sub": None}, "claims"),
        ({"sub": ""}, "claims"),
        ({"sub": " "}, "claims"),
        ({"sub": "ann "}, "claims"),
        ({"sub": 1}, "claims"),
        ({"sub": "ann\0"}, "claims"),
        ({"sub": "ann\nbob"}, "claims"),
        ({"sub": "ann\u202ebob"}, "claims"),
        ({"sub": "ann\u200b"}, "claims"),
        ({"sub": "ann\ud800"}, "claims"),
        ({"sub": "a" * 253}, "claims"),
        ({"jti": 1}, "claims"),
        ({"jti": "a\rb"}, "claims"),
        ({"scope": ["jobs:read"]}, "claims"),
        ({"scope": {"jobs:read": True}}, "claims"),
        ({"scope": "jobs:read\toperate"}, "claims"),
        ({"scope": "jobs:read " * 500}, "claims"),
        ({"scope": "jobs:read caf\u00e9"}, "claims"),
        ({"other": float("nan")}, "claims"),
        ({"jobs": "all"}, "claims"),
        ({"jobs": "OWN"}, "claims"),
        ({"jobs": 1}, "claims"),
        ({"jobs": {"a": 1}}, "claims"),
        ({"jobs": ["*", "a"]}, "claims"),
        ({"jobs": ["a", 1]}, "claims"),
        ({"jobs": ["../a"]}, "claims"),
        ({"jobs": ["a" * 129]}, "claims"),
        ({"jobs": ["a"] * 1_001}, "claims"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_claim_that_is_not_as_it_should_be_refuses_the_token(changed: Any, expected: str) -> None:
    assert await refusal(signed(RS256, claims(**changed))) == expected


@pytest.mark.parametrize(
    ("changed", "scopes", "jobs"),
    [
        ({"scope": ""}, set(), "own"),
        ({"scope": "jobs:read"}, {"jobs:read"}, "own"),
        ({"scope": "jobs:submit  Operate operate2"}, {"jobs:submit"}, "own"),
        ({"jobs": "own"}, set(), "own"),
        ({"jobs": "*"}, set(), "*"),
        ({"jobs": []}, set(), frozenset()),
        ({"jobs": ["a", "a"]}, set(), frozenset({"a"})),
        ({"sub": "Ann Bé <ann@example>"}, set(), "own"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_scopes_and_jobs_are_those_that_are_named(changed: Any, scopes: set[str], jobs: Any) -> None:
    found = await verified(mint(**changed))

    assert found is not None
    assert found.scopes == scopes
    assert found.jobs == jobs


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "scope", "other"])
async def test_a_claim_that_is_there_twice_refuses_the_token(name: str) -> None:
    written = json.dumps({**claims(), name: claims().get(name, "x")}).encode()

    assert await refusal(signed(RS256, written)) is None
    assert await refusal(signed(RS256, written[:-1] + b',"%b":1}' % name.encode())) == "claims"
    assert await refusal(signed(RS256, b'{"\\u0073ub":"bob",' + written[1:])) == "claims"


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}x", b"[]", b"null", b'"text"', b"\xff", b"\xef\xbb\xbf{}", b"[" * 3_000, b'{"a":' * 1_100, b"{'a':1}"],
    ids=lambda payload: repr(payload[:12]),
)
async def test_a_payload_that_is_no_json_object_refuses_the_token(payload: bytes) -> None:
    assert await refusal(signed(RS256, payload)) == "claims"


# Headers, algorithms and signatures


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "nOnE", "", None, ["RS256"], {}, 1, "rs256", "RS256 ", "RS384"]
)
@pytest.mark.parametrize("signature", [b"", b"\0", None], ids=["no signature", "a byte", "a good signature"])
async def test_the_token_does_not_choose_its_algorithm(name: Any, signature: bytes | None) -> None:
    token = signed({"alg": name, "typ": "JWT"}, claims(), signature)

    assert await refusal(token) == ("form" if signature == b"" else "algorithm")
    assert await refusal(token, "HS256") == ("form" if signature == b"" else "algorithm")


async def test_a_token_without_an_algorithm_is_refused() -> None:
    assert await refusal(signed({"typ": "JWT"}, claims())) == "algorithm"


@pytest.mark.parametrize("key", [pem("RS256"), pem("RS256").strip(), pem("RS256").replace("\n", "")])
async def test_a_public_key_is_never_the_secret_of_an_hmac(key: str) -> None:
    """The oldest trick: the attacker has the public key, and signs with it as if it were a secret."""
    content = f"{encoded({'alg': 'HS256'})}.{encoded(claims())}"
    token = f"{content}.{encoded(hmac.digest(key.encode(), content.encode(), hashlib.sha256))}"

    assert await refusal(token) == "algorithm"


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "id+jwt"},
        {"typ": "logout+jwt"},
        {"typ": "JOSE"},
        {"typ": ""},
        {"typ": None},
        {"typ": ["JWT"]},
        {"typ": "JWT\0"},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"kid": 1},
        {"kid": None},
        {"kid": ["one"]},
        {"kid": ""},
        {"kid": "a" * 257},
        {"kid": "../../dev/null\0"},
    ],
    ids=lambda header: repr(header)[:40],
)
async def test_a_header_that_is_not_understood_refuses_the_token(header: dict[str, Any]) -> None:
    assert await refusal(signed({**RS256, **header}, claims())) == "header"


async def test_a_name_that_is_twice_in_the_header_refuses_the_token() -> None:
    assert await refusal(signed(b'{"alg":"none","alg":"RS256"}', claims())) == "header"


async def test_a_changed_token_is_refused() -> None:
    header, payload, signature = mint().split(".")
    other = encoded(claims(sub="bob"))

    for token in (f"{header}.{other}.{signature}", f"{header}.{payload}.{encoded(bytes(256))}"):
        assert await refusal(token) == "signature"
    for token in (f"{header}.{payload}.", f"{header}.{payload}", f"{header}..{signature}", f".{payload}.{signature}"):
        assert await refusal(token) in ("form", "claims")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 255, 257, 1_024])
async def test_a_signature_of_any_length_is_refused(size: int) -> None:
    assert await refusal(signed({"alg": "ES256"}, claims(), bytes(size)), "ES256") in ("form", "signature")
    assert await refusal(signed({"alg": "RS256"}, claims(), bytes(size))) in ("form", "signature")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "\0",
        "é.é.é",
        "\udce9.\udce9.\udce9",
        "a" * 100_000,
        "." * 8_192,
        f"{mint()}=",
        f"{mint()}==",
        f" {mint()}",
        f"{mint()}\n",
        f"{mint()}.a.b",
        mint().replace(".", "\0."),
        f"Bearer {mint()}",
        encoded(b"[" * 3_000) + f".{encoded(claims())}.AAAA",
        encoded(b"{" * 20) + f".{encoded(claims())}.AAAA",
    ],
    ids=lambda token: repr(token[:20]),
)
async def test_what_is_no_token_is_refused_by_its_form(token: str) -> None:
    assert await refusal(token) in ("form", "header")


async def test_a_signature_has_one_spelling() -> None:
    """[RFC 4648, 3.5] The last character of a signature has bits that stand for nothing."""
    token = mint("ES256")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [token[:-1] + character for character in alphabet if character != token[-1]]
    same = [other for other in spellings if _bytes(other) == _bytes(token)]

    assert len(same) == 15
    assert {await refusal(other, "ES256") for other in same} == {"form"}


def _bytes(token: str) -> bytes:
    signature = token.rpartition(".")[2]
    return base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))


async def test_a_token_of_the_greatest_length_is_read_and_a_longer_one_is_not() -> None:
    token = mint(pad="")
    fill = (8_192 - len(token)) * 3 // 4

    assert [await refusal(mint(pad="a" * (fill - less))) for less in (4, -4)] == [None, "form"]


async def test_a_token_of_another_issuer_that_has_the_same_kid_is_refused() -> None:
    other = settings(issuer="https://other.example", key=pem("RS256", "two"))

    token = mint()
    assert await refusal(token) is None
    assert await JwtVerifier(other, clock=ManualClock(), notify=lambda _: None).verify(token) is None
    stolen = signed({"alg": "RS256", "kid": "one"}, claims(), private("RS256", "two"))
    assert await refusal(stolen) == "signature"


async def test_a_secret_verifies_its_own_tokens_alone() -> None:
    assert await refusal(mint("HS256"), "HS256") is None
    assert await refusal(mint("HS256"), "HS256", key=SECRET[:-1] + "!") == "signature"
    assert await refusal(mint("HS512"), "HS256") == "algorithm"
    assert await refusal(mint("HS512"), "HS256", "HS512") is None


# What is remembered


async def test_a_verified_token_is_valid_until_it_expires_and_not_longer() -> None:
    clock = ManualClock()
    verifying = JwtVerifier(settings(), clock=clock, notify=lambda _: None)
    token = mint(exp=NOW + 100)

    first = await verifying.verify(token)
    assert first is not None
    await clock.advance(159)
    assert await verifying.verify(token) is first
    await clock.advance(1)
    assert await verifying.verify(token) is None
    assert verifying.refusals == {"time": 1}


async def test_a_token_is_verified_anew_once_all_are_forgotten() -> None:
    verifying = verifier()
    token = mint()

    first = await verifying.verify(token)
    verifying.forget()
    second = await verifying.verify(token)
    assert first == second
    assert first is not second


async def test_an_error_of_the_code_refuses_the_token_and_is_a_notice_once(monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    verifying = JwtVerifier(settings(), clock=ManualClock(), notify=notices.append)

    def fail(*_: object) -> None:
        raise KeyError("the token itself")

    monkeypatch.setattr("web.access.jwt.read_claims", fail)

    assert [await verifying.verify(mint()) for _ in range(2)] == [None, None]
    assert verifying.refusals == {"internal": 2}
    assert notices == [
        "[access.jwt]: a token was refused: it could not be verified, which is an error of the relay (KeyError)"
    ]


async def test_the_operator_learns_each_reason_once_in_ten_minutes() -> None:
    clock, notices = ManualClock(), list[str]()
    verifying = JwtVerifier(settings(), clock=clock, notify=notices.append)
    refused = [mint(aud="other"), mint(iss="other"), mint("HS256"), mint(exp=1), mint(sub=""), mint(key="two")]
    refused += [signed({"alg": "RS256", "typ": "id+jwt"}, claims()), "rlk_an-api-key", "a.b.c"]

    for _ in range(3):
        for token in refused:
            assert await verifying.verify(token) is None
    assert [text.removeprefix("[access.jwt]: a token was refused: ") for text in notices] == [
        "its `aud` is not `audience`",
        "its `iss` is not `issuer`",
        "its `alg` is none of `algorithms`",
        "it has expired or is not valid yet; if it should be, compare the clocks",
        "one of its claims is missing, there twice, or not of the form that it should have",
        "its signature is not that of the issuer's key",
        "its header has another `typ`, a critical extension, or a `kid` that is no text",
    ]
    notices.clear()
    await clock.advance(600)
    await verifying.verify(refused[0])
    assert notices == [
        "[access.jwt]: a token was refused: its `aud` is not `audience` (and 2 more since the last such line)"
    ]


async def test_a_jwk_is_a_key_as_well_as_pem_is() -> None:
    assert await refusal(mint(), key=json.dumps(jwk("RS256"))) is None
