"""An issuer of tokens: PyJWT signs them, which is not the library that verifies them, or they are put together here."""

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.config.access_settings import JwtSettings
from relay.secret import Secret

__all__ = [
    "AUDIENCE",
    "ISSUER",
    "NOW",
    "SECRET",
    "claims",
    "encoded",
    "jwk",
    "jwks",
    "mint",
    "pem",
    "private",
    "settings",
    "signed",
]

ISSUER: Final = "https://login.example/realms/one"
AUDIENCE: Final = "relay"
NOW: Final = 1_767_225_600
"""2026-01-01 00:00 UTC, at which a ManualClock starts."""

SECRET: Final = "a secret of an HMAC, which is 64 characters long for every hash."

CURVES: Final = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


def private(algorithm: str, name: str = "one", bits: int = 2_048) -> Any:
    """The private key of *algorithm* that tests know by *name*; for an HMAC, the secret."""
    return _private("RSA" if algorithm.startswith(("RS", "PS")) else _known(algorithm), name, bits)


@cache
def _private(algorithm: str, name: str, bits: int) -> Any:
    if algorithm.startswith("HS"):
        return SECRET if name == "one" else name * 64
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65_537, bits)


def pem(algorithm: str, name: str = "one", bits: int = 2_048) -> str:
    """The public key in PEM; for an HMAC, the secret."""
    key = private(algorithm, name, bits)
    if isinstance(key, str):
        return key
    encoded_key: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded_key.decode()


def jwk(algorithm: str, kid: str | None = "one", **fields: Any) -> dict[str, Any]:
    """The public key by the name *kid* as a JWK; *fields* are added to it, and None takes one away."""
    key = private(algorithm, kid or "one")
    public = key if isinstance(key, str) else key.public_key()
    made: dict[str, Any] = json.loads(jwt.get_algorithm_by_name(_known(algorithm)).to_jwk(public))
    made = {**made, "kid": kid, **fields}
    made.pop("key_ops", None) if "key_ops" not in fields else None
    return {name: value for name, value in made.items() if value is not None}


def jwks(*keys: Mapping[str, Any]) -> bytes:
    """A set of keys."""
    return json.dumps({"keys": keys}).encode()


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of a valid token, with some *changed*; None takes one away."""
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": NOW + 600, **changed}
    return {name: value for name, value in made.items() if value is not None}


def mint(
    algorithm: str = "RS256", /, *, key: str = "one", headers: Mapping[str, Any] | None = None, **changed: Any
) -> str:
    """A token as PyJWT makes it, with the claims of `claims`; *key* is the name of the key, and its `kid`."""
    named = {"kid": key, **(headers or {})}
    return jwt.encode(claims(**changed), private(algorithm, key), _known(algorithm), dict(named))


def signed(header: Any, payload: Any, key: Any = None) -> str:
    """A token put together by hand, whose header and payload may be anything, bytes as they are.

    It has the signature of *key*: RS256, ES256 for a key of that kind, HS256 for a text; the one of RS256 by default.
    """
    key = private("RS256") if key is None else key
    content = f"{encoded(header)}.{encoded(payload)}"
    return f"{content}.{encoded(_signature(content.encode(), key))}"


def encoded(part: Any) -> str:
    """*part* in base64url without padding, as JSON unless it is bytes."""
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def settings(*algorithms: str, key: str | None = None, jwks: str | None = None, **changed: Any) -> JwtSettings:
    """Settings for tokens of this issuer, signed by one of *algorithms* (RS256); with its public key by default."""
    algorithms = algorithms or ("RS256",)
    text = pem(algorithms[0]) if key is None else key
    return JwtSettings(
        **{
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "algorithms": algorithms,
            "key": Secret(text) if jwks is None else None,
            "jwks": jwks,
            **changed,
        }
    )


def _signature(content: bytes, key: Any) -> bytes:
    match key:
        case bytes():
            return key
        case rsa.RSAPrivateKey():
            return key.sign(content, padding.PKCS1v15(), hashes.SHA256())
        case str():
            made: bytes = jwt.get_algorithm_by_name("HS256").sign(content, key.encode())
            return made
        case _:
            made = jwt.get_algorithm_by_name("ES256").sign(content, key)
            return made


def _known(algorithm: str) -> str:
    return "EdDSA" if algorithm == "Ed25519" else algorithm
