"""Keys that verify tokens: of one kind, strong enough, and each for the algorithms that it is for.

joserfc imports keys and verifies signatures. It and PyJWT accept keys that are too short, so these are refused here.
[spec] RFC 7517 (JSON Web Keys), RFC 7518 (algorithms), RFC 8037 (Ed25519), RFC 9864 (its name)
"""

import json
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from msgspec import Struct

from relay import ConfigError
from relay.text import bounded, inert
from web.access.jws import KID_LIMIT, RefusedError, Signed, is_name

if TYPE_CHECKING:
    from joserfc.jwk import Key

__all__ = ["KeyRing", "Kind", "kind_of", "read_key", "read_key_set"]

Kind = Literal["oct", "RSA", "EC", "OKP"]

FAMILIES: Final[Mapping[Kind, tuple[str, ...]]] = {
    "oct": ("HS256", "HS384", "HS512"),
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("Ed25519", "EdDSA"),
}
"""The algorithms of each kind of key. A configuration names those of one: a public key must never be used as the secret
of an HMAC [CVE-2015-9235]."""

LEAST_BITS: Final = 2_048
MOST_BITS: Final = 8_192
"""Of an RSA key. To verify with a longer one takes milliseconds, in which nothing else runs."""

MOST_KEYS: Final = 100

_LEAST_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""[spec] RFC 7518, 3.2: a key of an HMAC is as long as its hash at least."""

_CURVES: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("Ed25519", "EdDSA")}
_PARTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "oct": ("k",),
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
}
"""What of a key is imported: no certificate, no address, nothing private."""

_ROCA: Final = tuple(
    (prime, frozenset(pow(65_537, power, prime) for power in range(prime)))
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
)
"""A modulus that is a power of 65537 by each of these primes comes from a library whose keys can be factored
[CVE-2017-15361]; one of 2^27 others does by chance."""


class VerifyingKey(Struct, frozen=True):
    """A key, and the algorithms that it may be used with."""

    key: "Key"
    algorithms: frozenset[str]


class KeyRing:
    """The keys of one issuer, by `kid`. A `kid` that several keys share names none of them.

    These are *ambiguous*. With *named* false it is one key, whatever a token calls it.
    """

    def __init__(
        self,
        keys: Sequence[tuple[str | None, VerifyingKey]],
        *,
        ambiguous: frozenset[str] = frozenset(),
        named: bool = True,
    ) -> None:
        self._named = named
        self._ambiguous = ambiguous
        self._keys = [key for kid, key in keys if kid not in ambiguous]
        self._by_kid = {kid: key for kid, key in keys if kid is not None and kid not in ambiguous}

    def __len__(self) -> int:
        return len(self._keys)

    def knows(self, kid: str | None) -> bool:
        """Whether a newer set of the issuer would say nothing else about *kid*."""
        return not self._named or kid in self._by_kid or kid in self._ambiguous or (kid is None and bool(self._keys))

    def check(self, signed: Signed) -> None:
        """Raises RefusedError unless the signature of *signed* is that of the key which it names.

        A token that names no key is signed with the only one for its algorithm.
        """
        key = self._find(signed.kid if self._named else None, signed.algorithm)
        if key is None:
            raise RefusedError("key")
        try:
            valid = _is_signed(signed, key)
        except Exception:
            # What the library raises for some signatures is of many kinds [measured].
            valid = False
        if not valid:
            raise RefusedError("signature")

    def _find(self, kid: str | None, algorithm: str) -> "Key | None":
        if kid is not None:
            named = self._by_kid.get(kid)
            fitting = [named] if named is not None and algorithm in named.algorithms else []
        else:
            fitting = [key for key in self._keys if algorithm in key.algorithms]
        return fitting[0].key if len(fitting) == 1 else None


def kind_of(algorithms: Collection[str]) -> Kind:
    """The kind of key of *algorithms*. Raises ConfigError for an unknown one, and unless all are of one family."""
    known: dict[str, Kind] = {name: kind for kind, names in FAMILIES.items() for name in names}
    if unknown := [name for name in algorithms if name not in known]:
        if unknown[0].lower() == "none":
            raise ConfigError(f"algorithms has {unknown[0]!r}, with which every token is valid; remove it")
        raise ConfigError(f"algorithms has {unknown[0]!r}, which is none of {', '.join(known)}")
    kinds: set[Kind] = {known[name] for name in algorithms}
    if len(kinds) != 1:
        families = "; ".join(", ".join(names) for names in FAMILIES.values())
        raise ConfigError(f"algorithms must be of one family, with which the issuer signs: {families}")
    return kinds.pop()


def read_key(text: str, algorithms: Collection[str]) -> KeyRing:
    """The one key that *text* is: the secret itself for HMAC, otherwise a public key or certificate in PEM, or a JWK.

    Raises ConfigError, which goes on after the words "the key" and repeats nothing of it.
    """
    kind = kind_of(algorithms)
    problem = None
    try:
        key = _import(kind, _document(text) if kind != "oct" and text.startswith("{") else text)
        return KeyRing([(None, _checked(key, kind, algorithms))], named=False)
    except _UnfitError as error:
        problem = str(error)
    except ImportError:
        raise
    except Exception:
        problem = (
            "is a public key, and no secret" if kind == "oct" else f"is no public key of the kind {kind} in PEM or JWK"
        )
    # Not raised from within: a library's exception may quote the key.
    raise ConfigError(problem)


def read_key_set(body: bytes, algorithms: Collection[str]) -> tuple[KeyRing, list[str]]:
    """The keys of the JWK set *body* that can verify *algorithms*, and what is wrong with others, in sentences.

    Each key is imported by itself: one of an unknown curve, or with bad base64, fails a whole set in the library. Keys
    of another kind or use are passed over. Raises ValueError for what is no JWK set.
    """
    document = _document(body.decode("utf-8-sig"))
    listed = document.get("keys")
    if not isinstance(listed, list) or len(keys := cast("list[object]", listed)) > MOST_KEYS:
        raise ValueError(f'is no JWK set, which is a JSON object with a list "keys" of at most {MOST_KEYS}')
    kind = kind_of(algorithms)
    found: list[tuple[str | None, VerifyingKey]] = []
    kids: list[str] = []
    problems: list[str] = []
    for place, jwk in enumerate(keys, 1):
        try:
            if (meant := _meant_here(jwk, kind, algorithms)) is None:
                continue
            kid, fields, fitting = meant
            # Counted before the import: a key that cannot be read may be the one that a token means.
            kids += [kid] if kid is not None else []
            found.append((kid, _checked(_import(kind, fields), kind, fitting)))
        except _UnfitError as error:
            problems.append(f"key {place} {error}")
        except ImportError:
            raise
        except Exception as error:
            problems.append(f"key {place} cannot be read ({type(error).__name__})")
    ambiguous = frozenset(kid for kid, times in Counter(kids).items() if times > 1)
    problems += [f"several keys are named {_quoted(kid)}, and none of these is used" for kid in sorted(ambiguous)]
    ring = KeyRing(found, ambiguous=ambiguous)
    if not ring:
        problems.append(f"no key can verify {', '.join(algorithms)}, so every token is refused")
    return ring, problems


class _UnfitError(Exception):
    """A key that must not be used; the text goes on after its name."""


def _document(text: str) -> Mapping[str, object]:
    problem = "is no JSON"
    try:
        if isinstance(document := json.loads(text), dict):
            return cast("dict[str, object]", document)
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError:
        pass
    raise ValueError(f"{problem}: it should be an object, as in RFC 7517")


def _meant_here(
    jwk: object, kind: Kind, algorithms: Collection[str]
) -> tuple[str | None, Mapping[str, object], list[str]] | None:
    """The `kid` and the fields of *jwk*, and those of *algorithms* that it is for; None where it is for other uses."""
    if not isinstance(jwk, dict):
        raise _UnfitError("is no JSON object")
    fields = cast("dict[str, object]", jwk)
    if fields.get("kty") != kind or fields.get("use", "sig") != "sig" or not _verifies(fields.get("key_ops")):
        return None
    intended = fields.get("alg")
    # One kind of signature has two names.
    names = FAMILIES["OKP"] if kind == "OKP" and intended in FAMILIES["OKP"] else (intended,)
    fitting = [name for name in algorithms if intended is None or name in names]
    if not fitting:
        return None
    kid = fields.get("kid")
    if kid is not None and not is_name(kid, KID_LIMIT):
        raise _UnfitError(f"has a kid that is no text of 1 to {KID_LIMIT} characters that print")
    return cast("str | None", kid), fields, fitting


def _verifies(operations: object) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in cast("list[object]", operations))


def _import(kind: Kind, source: Mapping[str, object] | str) -> "Key":
    """The key that *source* is, a JWK or the text of a key. Raises _UnfitError, or anything else of the library."""
    from joserfc.jwk import JWKRegistry

    data: Any = source
    if not isinstance(source, str):
        if "d" in source:
            raise _UnfitError(_PRIVATE)
        data = {"kty": kind, **{part: source[part] for part in _PARTS[kind] if part in source}}
    with warnings.catch_warnings():
        # The library warns of keys that are weak. `_checked` refuses them.
        warnings.simplefilter("ignore")
        return JWKRegistry.import_key(data, kind)


_PRIVATE: Final = "is private, so this relay could sign as the issuer does; give it the public one"


def _checked(key: "Key", kind: Kind, algorithms: Collection[str]) -> VerifyingKey:
    """*key* with those of *algorithms* that it is for. Raises _UnfitError where it is too weak, or for none of them."""
    if kind != "oct" and key.is_private:
        raise _UnfitError(_PRIVATE)
    raw: Any = key.raw_value
    match kind:
        case "oct":
            fitting = {name for name in algorithms if len(raw) >= _LEAST_BYTES[name]}
            if not fitting:
                least = min(_LEAST_BYTES[name] for name in algorithms)
                raise _UnfitError(f"has {len(raw)} bytes; {least} at random are the least for {', '.join(algorithms)}")
        case "RSA":
            if not LEAST_BITS <= raw.key_size <= MOST_BITS:
                raise _UnfitError(f"has {raw.key_size:,} bits; an RSA key has {LEAST_BITS:,} to {MOST_BITS:,}")
            if _has_roca(cast("int", raw.public_numbers().n)):
                raise _UnfitError("can be factored (ROCA, CVE-2017-15361), so anybody could sign with it; replace it")
            fitting = set(algorithms)
        case _:
            curve = cast("str", cast("Any", key).curve_name)
            fitting = {name for name in algorithms if name in _CURVES.get(curve, ())}
            if not fitting:
                raise _UnfitError(f"is of the curve {_quoted(curve)}, which is not that of {', '.join(algorithms)}")
    return VerifyingKey(key, frozenset(fitting))


def _has_roca(modulus: int) -> bool:
    return all(modulus % prime in powers for prime, powers in _ROCA)


def _is_signed(signed: Signed, key: "Key") -> bool:
    """Whether the signature is that of *key*."""
    from joserfc.jws import JWSRegistry

    # The library's function for whole tokens would read the header again, and warn of `EdDSA` each time.
    algorithm = JWSRegistry.algorithms[signed.algorithm]
    algorithm.check_key(key)
    content, _, _ = signed.token.rpartition(".")
    return algorithm.verify(content.encode("ascii"), signed.signature, key)


def _quoted(text: str) -> str:
    return repr(inert(bounded(text, 80)))
