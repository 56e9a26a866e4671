"""JSON Web Tokens of one issuer as a way in: verified once, refused cheaply, and never an error of the relay."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from relay import ConfigError
from relay.clock import Clock, SystemClock
from relay.config.access_settings import JwtSettings
from relay.notices import Notify, notice
from web.access.jwks import FIRST_AGAIN, Fetch, FetchedKeys, KeyFile, KeySource, LocalKeys, check_url, fetch_key_set
from web.access.jws import TOKEN_LIMIT, Reason, RefusedError, read_signed
from web.access.jwt_claims import Claims, read_claims
from web.access.jwt_keys import KeyRing, kind_of, read_key, read_key_set
from web.access.refusals import Refusals
from web.access.verified import VerifiedTokens

__all__ = ["Claims", "JwtVerifier"]

_WHERE: Final = "[access.jwt]"
_SHOWN: Final = 5
"""Notices of one key set"""


class JwtVerifier:
    """Verifies tokens as *settings* say: their issuer, audience, algorithms and keys.

    *fetch* fetches a key set; *notify* receives what the operator is to know: about keys, and why tokens are refused.
    A token that was verified is remembered until it expires, or any key changes. Raises ConfigError for settings that
    cannot be, for a key that is too weak or of another kind, and where the extra `jwt` is not installed. Use it on one
    event loop, and close it.
    """

    def __init__(
        self,
        settings: JwtSettings,
        *,
        fetch: Fetch = fetch_key_set,
        clock: Clock | None = None,
        notify: Notify = notice,
    ) -> None:
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self._keys = _source(settings, fetch, self._clock, notify)
        self._ring: KeyRing | None = None
        self._verified: VerifiedTokens[Claims] = VerifiedTokens()
        self.again: int = math.ceil(FIRST_AGAIN)
        """Seconds after which a client may try again while there has been no key."""
        self._refusals = Refusals(notify, self._clock.monotonic)

    @property
    def refusals(self) -> Mapping[Reason, int]:
        """How many tokens were refused, by the reason."""
        return self._refusals.counts

    async def start(self) -> None:
        """Begin to fetch the keys, so that no request need wait. A failure is a notice: the issuer may start later."""
        self._keys.start()

    async def close(self) -> None:
        """End a fetch that is under way."""
        await self._keys.close()

    @property
    def ready(self) -> bool:
        """Whether there has been any key: until then, a token that is refused may be valid."""
        return self._keys.ready

    def forget(self) -> None:
        """Verify every token again when it comes next."""
        self._verified.clear()

    async def recall(self, token: str) -> Claims | None:
        """What *token* claims, if it was verified with the keys of now and has not expired; it counts nothing."""
        claims, ring = self._verified.find(token, self._clock.now().timestamp()), self._ring
        if claims is None or self._use(await self._keys.ring(None)) is not ring:
            return None
        return claims

    async def verify(self, token: str) -> Claims | None:
        """What *token* claims, if it is valid now; None, and one more of *refusals*, for anything else a client sends.

        It waits for keys, if they have to be fetched first, for two seconds at most.
        """
        try:
            return await self._claims(token)
        except RefusedError as refused:
            self._refusals.add(refused.reason)
        except Exception as error:
            self._refusals.add("internal", error)
        return None

    async def _claims(self, token: str) -> Claims:
        """Raises RefusedError. What needs no key comes first: a token that cannot be valid costs no more than that."""
        if len(token) > TOKEN_LIMIT or not token.isascii():
            raise RefusedError("form")
        if (known := await self.recall(token)) is not None:
            return known
        signed = read_signed(token, self._settings.algorithms)
        claims = read_claims(signed.payload, self._settings, self._clock.now().timestamp())
        self._use(await self._keys.ring(signed.kid)).check(signed)
        self._verified.keep(token, claims, claims.expires)
        return claims

    def _use(self, ring: KeyRing) -> KeyRing:
        if ring is not self._ring:
            self._verified.clear()
            self._ring = ring
        return ring


def _source(settings: JwtSettings, fetch: Fetch, clock: Clock, notify: Notify) -> KeySource:
    """Where the keys of *settings* come from. Raises ConfigError."""
    algorithms, key, jwks = settings.algorithms, settings.key, settings.jwks
    if find_spec("joserfc") is None:
        raise ConfigError(f'{_WHERE} needs a library that is not installed: pip install "progress-relay[jwt]"')
    try:
        kind = kind_of(algorithms)
        if key is not None and jwks is None:
            return LocalKeys(
                lambda: key.reveal().encode(),
                lambda content: read_key(content.decode(), algorithms),
                f"key comes from {key.source}, which",
                notify,
            )
        if jwks is None or key is not None:
            raise ConfigError("needs either `key` or `jwks`, with which signatures are verified")

        known: set[str] = set()

        def read(body: bytes) -> KeyRing:
            ring, problems = read_key_set(body, algorithms)
            fresh = [problem for problem in problems if problem not in known]
            known.clear()
            known.update(problems)
            for problem in fresh[:_SHOWN]:
                notify(f"{_WHERE}: in the key set, {problem}")
            if len(fresh) > _SHOWN:
                notify(f"{_WHERE}: {len(fresh) - _SHOWN} more keys of the set cannot be used")
            return ring

        if jwks.startswith("file:"):
            path = Path(jwks.removeprefix("file:"))
            return LocalKeys(KeyFile(path), read, f"jwks is the file {path}, which", notify)
        check_url(jwks)
        if kind == "oct":
            raise ConfigError(f"jwks must be a file for {', '.join(algorithms)}: a key of these is a secret")
        return FetchedKeys(jwks, read, fetch=fetch, clock=clock, notify=notify)
    except ConfigError as error:
        raise ConfigError(f"{_WHERE} {error}") from None
