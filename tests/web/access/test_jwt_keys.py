"""Which keys may verify: of the family that is configured, strong enough, and meant for it."""

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

from relay.errors import ConfigError
from relay.secret import read_text
from relay.testing import ManualClock
from tests.web.access.issuer import SECRET, claims, jwk, jwks, mint, pem, private, settings, signed
from web.access.jws import RefusedError, read_signed
from web.access.jwt import JwtVerifier
from web.access.jwt_keys import read_key_set

VECTORS: Final = Path(__file__).parent / "wycheproof" / "json_web_key_test.json"


def problem(*algorithms: str, **changed: Any) -> str:
    """What the configuration of a relay that does not start is told."""
    with pytest.raises(ConfigError) as caught:
        JwtVerifier(settings(*algorithms, **changed))
    return str(caught.value)


# Algorithms


@pytest.mark.parametrize(
    ("algorithms", "expected"),
    [
        (("none",), "algorithms has 'none', with which every token is valid; remove it"),
        (("RS256", "NONE"), "algorithms has 'NONE', with which every token is valid; remove it"),
        (("RS265",), "algorithms has 'RS265', which is none of HS256, HS384"),
        (("rs256",), "algorithms has 'rs256', which is none of HS256, HS384"),
        (("ES256K",), "algorithms has 'ES256K', which is none of HS256, HS384"),
        (("RSA-OAEP",), "algorithms has 'RSA-OAEP', which is none of HS256, HS384"),
        (("HS256", "RS256"), "algorithms must be of one family, with which the issuer signs: HS256, HS384"),
        (("RS256", "ES256"), "algorithms must be of one family"),
        (("ES256", "EdDSA"), "algorithms must be of one family"),
        ((), "algorithms must be of one family"),
    ],
    ids=str,
)
def test_the_algorithms_are_known_and_of_one_family(algorithms: tuple[str, ...], expected: str) -> None:
    assert problem(key=SECRET, algorithms=algorithms).startswith(f"[access.jwt] {expected}")


@pytest.mark.parametrize(
    "algorithms", [("RS256", "PS512"), ("HS256", "HS512"), ("ES256", "ES384"), ("EdDSA", "Ed25519")]
)
async def test_algorithms_of_one_family_go_together(algorithms: tuple[str, ...]) -> None:
    verifier = JwtVerifier(settings(*algorithms), clock=ManualClock(), notify=pytest.fail)

    assert await verifier.verify(mint(algorithms[0])) is not None


# The one key of a configuration


def _private_pem(algorithm: str) -> str:
    made: bytes = private(algorithm).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.decode()


@pytest.mark.parametrize(
    ("algorithm", "key", "expected"),
    [
        ("HS256", "a" * 31, "has 31 bytes; 32 at random are the least for HS256"),
        ("HS384", "a" * 47, "has 47 bytes; 48 at random are the least for HS384"),
        ("HS512", "a" * 63, "has 63 bytes; 64 at random are the least for HS512"),
        ("HS256", pem("RS256"), "is a public key, and no secret"),
        ("HS256", pem("ES256"), "is a public key, and no secret"),
        ("RS256", pem("RS256", "one", 1_024), "has 1,024 bits; an RSA key has 2,048 to 8,192"),
        ("RS256", pem("ES256"), "is no public key of the kind RSA in PEM or JWK"),
        ("ES256", pem("RS256"), "is no public key of the kind EC in PEM or JWK"),
        ("ES256", pem("ES384"), "is of the curve 'P-384', which is not that of ES256"),
        ("EdDSA", pem("ES256"), "is no public key of the kind OKP in PEM or JWK"),
        (
            "RS256",
            _private_pem("RS256"),
            "is private, so this relay could sign as the issuer does; give it the public one",
        ),
        (
            "ES256",
            _private_pem("ES256"),
            "is private, so this relay could sign as the issuer does; give it the public one",
        ),
        ("RS256", '{"kty":"RSA","d":"AA"}', "is private, so this relay could sign as the issuer does"),
        ("RS256", "a password", "is no public key of the kind RSA in PEM or JWK"),
        ("RS256", "-----BEGIN PUBLIC KEY-----\nAAAA", "is no public key of the kind RSA in PEM or JWK"),
        ("RS256", "{", "is no public key of the kind RSA in PEM or JWK"),
        ("RS256", "{}", "is no public key of the kind RSA in PEM or JWK"),
        ("RS256", json.dumps({"keys": [jwk("RS256")]}), "is no public key of the kind RSA in PEM or JWK"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_key_that_is_weak_or_of_another_kind_is_an_error_at_the_start(
    algorithm: str, key: str, expected: str
) -> None:
    said = problem(algorithm, key=key)

    assert said.startswith(f"[access.jwt] key comes from the program, which {expected}")
    assert not any(line in said for line in key.splitlines() if len(line) > 8)


def test_the_secret_is_long_enough_for_one_of_the_algorithms_at_least() -> None:
    with pytest.raises(ConfigError, match="has 31 bytes; 32 at random are the least for HS512, HS256"):
        JwtVerifier(settings("HS512", "HS256", key="a" * 31))


async def test_a_secret_is_used_with_the_algorithms_that_it_is_long_enough_for() -> None:
    verifier = JwtVerifier(settings("HS256", "HS512", key="b" * 40), clock=ManualClock(), notify=lambda _: None)

    assert await verifier.verify(signed({"alg": "HS256"}, claims(), "b" * 40)) is not None
    assert await verifier.verify(signed({"alg": "HS512"}, claims(), "b" * 40)) is None
    assert verifier.refusals == {"key": 1}


async def test_a_certificate_is_a_public_key() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=private("RS256").public_key(),
        serial_number=1,
        not_valid_before=now,
        not_valid_after=now + timedelta(days=1),
    )
    text = builder.sign(private("RS256"), hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    verifier = JwtVerifier(settings(key=text), clock=ManualClock(), notify=pytest.fail)
    assert await verifier.verify(mint()) is not None


def test_a_modulus_that_can_be_factored_is_refused() -> None:
    """Wycheproof 7: a key of the library whose keys can be factored."""
    groups = json.loads(VECTORS.read_text("utf-8"))["testGroups"]
    (weak,) = (group["public"]["keys"][0] for group in groups if group["comment"] == "jws_rsa_roca_key")

    assert "can be factored (ROCA, CVE-2017-15361)" in problem(key=json.dumps(weak))


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def test_a_modulus_that_takes_long_is_refused() -> None:
    key = {"kty": "RSA", "e": "AQAB", "n": _number((1 << 8_199) + 12_345)}

    assert "has 8,200 bits; an RSA key has 2,048 to 8,192" in problem(key=json.dumps(key))


def test_one_or_an_even_number_is_no_exponent() -> None:
    for exponent in (1, 2, 65_536):
        key = jwk("RS256", e=_number(exponent))
        assert "is no public key of the kind RSA" in problem(key=json.dumps(key))


@pytest.mark.parametrize("both", [True, False])
def test_there_is_one_source_of_keys(both: bool) -> None:
    configured = replace(settings(), jwks="file:keys.json") if both else replace(settings(), key=None)

    with pytest.raises(ConfigError, match=r"\[access.jwt\] needs either `key` or `jwks`"):
        JwtVerifier(configured)


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)

    expected = '[access.jwt] needs a library that is not installed: pip install "progress-relay[jwt]"'
    assert problem() == expected


def test_a_relay_that_verifies_no_tokens_loads_nothing_for_it() -> None:
    program = "import sys, web.app; print('web.access.jwt' in sys.modules); import web.access.jwt; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    verifying, *loaded = done.stdout.split()

    assert verifying == "False"
    assert not {"joserfc", "cryptography"} & set(loaded)


async def test_a_key_in_a_file_that_changes_is_used_at_once(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem("RS256"))
    notices: list[str] = []
    configured = replace(settings(), key=read_text(f"file:{path}", {}, tmp_path))
    verifier = JwtVerifier(configured, clock=ManualClock(), notify=notices.append)

    token = mint()
    assert await verifier.verify(token) is not None
    path.write_text(pem("RS256", "two"))
    assert await verifier.verify(token) is None
    assert await verifier.verify(mint(key="two")) is not None
    path.write_text("no key any more")
    assert await verifier.verify(mint(key="two")) is not None
    assert notices[1:] == [
        f"key comes from the file {path}, which is no public key of the kind RSA in PEM or JWK;"
        " the keys stay as they were"
    ]


# Keys of a set


def checked(keys: bytes, token: str, *algorithms: str) -> str | None:
    """Why the signature of *token* is not that of a key of the set; None where it is."""
    ring, _ = read_key_set(keys, algorithms or ("RS256",))
    try:
        ring.check(read_signed(token, algorithms or ("RS256",)))
    except RefusedError as refused:
        return refused.reason
    return None


def test_a_key_that_cannot_be_read_leaves_the_others() -> None:
    odd: list[Any] = [
        {"kty": "RSA"},
        {"kty": "RSA", "n": "=", "e": "AQAB"},
        {"kty": "RSA", "n": 1, "e": 2},
        {"kty": "RSA", "n": _number((1 << 1_023) + 1), "e": "AQAB"},
        "a text",
        None,
        {**jwk("RS256"), "d": "AA", "kid": "private"},
        {**jwk("RS256"), "kid": 5},
    ]
    others: list[Any] = [{}, {"kty": "EC", "crv": "P-999"}, {"kty": "oct", "k": "AA"}, {"kty": ["RSA"]}, jwk("ES256")]
    ring, problems = read_key_set(jwks(*odd, *others, jwk("RS256", "two")), ("RS256",))

    assert len(ring) == 1
    ring.check(read_signed(mint(key="two"), ("RS256",)))
    assert problems == [
        "key 1 cannot be read (KeyParameterError)",
        "key 2 cannot be read (Error)",
        "key 3 cannot be read (KeyParameterError)",
        "key 4 has 1,024 bits; an RSA key has 2,048 to 8,192",
        "key 5 is no JSON object",
        "key 6 is no JSON object",
        "key 7 is private, so this relay could sign as the issuer does; give it the public one",
        "key 8 has a kid that is no text of 1 to 256 characters that print",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"use": "sig", "key_ops": ["verify"]}, None),
        ({"key_ops": ["verify", "sign"]}, None),
        ({"use": "enc"}, "key"),
        ({"use": "SIG"}, "key"),
        ({"use": ["sig"]}, "key"),
        ({"key_ops": ["encrypt"]}, "key"),
        ({"key_ops": ["sign"]}, "key"),
        ({"key_ops": []}, "key"),
        ({"key_ops": "verify"}, "key"),
        ({"alg": "RS256"}, None),
        ({"alg": "RS512"}, "key"),
        ({"alg": "RSA-OAEP"}, "key"),
        ({"alg": ["RS256"]}, "key"),
        ({"x5u": 5, "x5c": "no list", "other": {}}, None),
    ],
    ids=str,
)
def test_a_key_is_used_for_that_which_it_is_meant_for(fields: dict[str, Any], expected: str | None) -> None:
    made = {**jwk("RS256", alg=None, use=None), **fields}

    assert checked(jwks(made), mint()) == expected


def test_each_key_of_a_set_is_found_by_its_name() -> None:
    keys = jwks(jwk("RS256", "one"), jwk("RS256", "two"))

    assert [checked(keys, mint(key=name)) for name in ("one", "two", "three")] == [None, None, "key"]
    swapped = signed({"alg": "RS256", "kid": "two"}, claims(), private("RS256", "one"))
    assert checked(keys, swapped) == "signature"


def test_a_token_without_a_name_of_a_key_needs_the_only_one() -> None:
    token = signed({"alg": "RS256"}, claims())

    assert checked(jwks(jwk("RS256", "one")), token) is None
    assert checked(jwks(jwk("RS256", None)), token) is None
    assert checked(jwks(jwk("RS256", "one"), jwk("RS256", "two")), token) == "key"
    assert (
        checked(jwks(jwk("RS256", "one", alg="RS256"), jwk("RS256", "two", alg="RS512")), token, "RS256", "RS512")
        is None
    )


def test_a_key_without_a_name_is_for_tokens_without_one() -> None:
    assert checked(jwks(jwk("RS256", None)), mint()) == "key"


def test_a_name_that_two_keys_share_names_neither() -> None:
    first, second = jwk("RS256", "one"), {**jwk("RS256", "two"), "kid": "one"}

    for keys in ([first, second], [second, first], [first, first], [first, {**second, "n": "="}]):
        assert checked(jwks(*keys), mint()) == "key"
    assert checked(jwks(first, {**second, "use": "enc"}), mint()) is None
    _, problems = read_key_set(jwks(first, second), ("RS256",))
    assert problems[0] == "several keys are named 'one', and none of these is used"


def test_what_a_set_says_is_inert_in_a_notice() -> None:
    named = jwk("RS256", "a\u202eb")
    _, problems = read_key_set(jwks(named, {**named, "kid": "c" * 200}, {**named, "kid": "c" * 200}), ("RS256",))

    assert all(text.isprintable() and len(text) < 200 for text in problems)


def test_secrets_in_a_file_are_found_by_name_and_are_long_enough() -> None:
    def secret(kid: str, size: int) -> dict[str, str]:
        return {"kty": "oct", "kid": kid, "k": base64.urlsafe_b64encode(b"a" * size).rstrip(b"=").decode()}

    keys = jwks(secret("short", 31), secret("long", 32))
    tokens = [signed({"alg": "HS256", "kid": kid}, claims(), "a" * size) for kid, size in (("short", 31), ("long", 32))]
    assert [checked(keys, token, "HS256") for token in tokens] == ["key", None]
