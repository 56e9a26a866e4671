"""Where the keys of an issuer come from: a secret or a file, read again when it changes, or a URL, fetched again.

[spec] RFC 7517, 5 (JWK sets)
"""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from relay import ConfigError, UpstreamError
from relay.clock import Clock, wait_within
from relay.notices import Notify, describe
from relay.upstreams.http.partial_response import PartialResponse
from relay.upstreams.http.status import error_kind_for_status
from relay.upstreams.http.transport import Transport
from web.access.jwt_keys import KeyRing

__all__ = [
    "FIRST_AGAIN",
    "SET_LIMIT",
    "Fetch",
    "FetchedKeys",
    "KeyFile",
    "KeySource",
    "LocalKeys",
    "check_url",
    "fetch_key_set",
]

SET_LIMIT: Final = 256 * 1024
"""The most bytes of a key set."""

TIMEOUT: Final = 5.0
"""Seconds for a whole fetch."""

FRESH: Final = 300.0
"""Seconds after which a set is fetched again, while it is used."""

STALE: Final = 600.0
"""Seconds after which a set is not used before it was fetched again: nobody has used it for a while."""

AGAIN: Final = 30.0
"""Seconds between two attempts, whatever tokens name."""

FIRST_AGAIN: Final = 5.0
"""The same while there is no set at all, as when the issuer starts after the relay."""

PATIENCE: Final = 2.0
"""The most seconds that one request waits for a fetch."""

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
"""Fetches the body at a URL, within limits. May raise anything."""

ReadKeys: TypeAlias = Callable[[bytes], KeyRing]
"""Reads keys. Raises ValueError or ConfigError for what holds none; its text goes on after the name of the source."""


class KeySource(Protocol):
    """The keys of one issuer. The ring stays the same object until the keys change."""

    @property
    def ready(self) -> bool:
        """Whether there has been any key: until then, no token can be verified."""
        ...

    async def ring(self, kid: str | None, /) -> KeyRing:
        """The keys as they are now, for a token that names *kid*: they are fetched again if it is not among them."""
        ...

    def start(self) -> None:
        """Begin to fetch the keys, if they have to be fetched."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


class LocalKeys:
    """Keys that *content* returns at once, read again whenever that is something else.

    While it cannot be had or read, the keys stay as they were, with one notice. *what* names it in messages. Raises
    ConfigError where there is none to begin with.
    """

    def __init__(self, content: Callable[[], bytes], read: ReadKeys, what: str, notify: Notify) -> None:
        self._content = content
        self._read = read
        self._what = what
        self._notify = notify
        self._failing = False
        self._seen: bytes | None = None
        problem = None
        try:
            self._ring = self._changed(content())
        except (OSError, ValueError, ConfigError) as error:
            problem = _words(error)
        if problem is not None:
            raise ConfigError(f"{what} {problem}")

    @property
    def ready(self) -> bool:
        return True

    async def ring(self, _: str | None, /) -> KeyRing:
        try:
            if (content := self._content()) != self._seen:
                self._ring = self._changed(content)
            self._failing = False
        except Exception as error:
            if not self._failing:
                self._notify(f"{self._what} {_words(error)}; the keys stay as they were")
            self._failing = True
        return self._ring

    def _changed(self, content: bytes) -> KeyRing:
        self._seen = content
        if not (ring := self._read(content)):
            raise ConfigError("has no key that can be used")
        return ring

    def start(self) -> None:
        pass

    async def close(self) -> None:
        pass


class KeyFile:
    """The content of the file at *path*, read whenever it has changed. Raises OSError, ValueError above SET_LIMIT."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: object = None
        self._content = b""

    def __call__(self) -> bytes:
        found = self._path.stat()
        version = (found.st_mtime_ns, found.st_size, found.st_ino)
        if version != self._version:
            with self._path.open("rb") as file:
                content = file.read(SET_LIMIT + 1)
            if len(content) > SET_LIMIT:
                raise ValueError(f"is longer than {SET_LIMIT:,} bytes")
            self._version, self._content = version, content
        return self._content


class FetchedKeys:
    """The key set at *url*: fetched when it is needed first, and again from time to time while it is used.

    One fetch is made at a time. While none succeeds the set stays as it was, with one notice.
    """

    def __init__(self, url: str, read: ReadKeys, *, fetch: Fetch, clock: Clock, notify: Notify) -> None:
        self._url = url
        self._what = f"the key set at {url.partition('?')[0]}"
        self._read = read
        self._fetch = fetch
        self._clock = clock
        self._notify = notify
        self._ring = KeyRing([])
        self._body: bytes | None = None
        self._attempted: float | None = None
        self._fetched = 0.0
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self._body is not None

    async def ring(self, kid: str | None, /) -> KeyRing:
        known = self._ring.knows(kid)
        if self._is_due(FRESH if known else AGAIN):
            self.start()
        if not known or (not self._failing and self._clock.monotonic() - self._fetched >= STALE):
            await self._wait()
        return self._ring

    def start(self) -> None:
        if self._task is None:
            self._attempted = self._clock.monotonic()
            self._task = asyncio.create_task(self._update(), name="fetch the key set of [access.jwt]")

    async def close(self) -> None:
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait({task})

    def _is_due(self, seconds: float) -> bool:
        if self._failing or self._body is None:
            seconds = AGAIN if self._body is not None else FIRST_AGAIN
        return self._attempted is None or self._clock.monotonic() - self._attempted >= seconds

    async def _wait(self) -> None:
        """Wait for the fetch that is under way, but not for long: it goes on, for the requests that come later."""
        if self._task is not None:
            await wait_within(self._clock, PATIENCE, self._task)

    async def _update(self) -> None:
        try:
            body = await self._fetch(self._url)
            if body != self._body:
                self._ring, self._body = self._read(body), body
            self._fetched = self._clock.monotonic()
            if self._failing:
                self._notify(f"{self._what} can be fetched again")
            self._failing = False
        except Exception as error:
            if not self._failing:
                kept = "the keys stay as they were" if self._body is not None else "no token is valid until then"
                self._notify(f"{self._what} {_words(error)}; {kept}, and it is fetched again")
            self._failing = True
        finally:
            self._task = None


def _words(error: Exception) -> str:
    """The problem in words, which stand behind the name of a source of keys."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or type(error).__name__}"
    if isinstance(error, UpstreamError):
        return f"cannot be fetched: {error.message}"
    return str(error) if isinstance(error, ConfigError | ValueError) else f"cannot be used: {describe(error)}"


async def fetch_key_set(url: str) -> bytes:
    """The body at *url*: 200, of at most SET_LIMIT bytes after decompression, within TIMEOUT; no redirect is followed.

    Raises UpstreamError.
    """
    arriving = PartialResponse(SET_LIMIT)
    async with Transport(url, timeout=TIMEOUT) as transport:
        problem = await transport.ask("GET", url, _HEADERS, None, arriving)
        host = transport.host
    if (status := arriving.status) is not None and status != 200:
        redirect = ", a redirect, which is not followed" if 300 <= status < 400 else ""
        raise UpstreamError(error_kind_for_status(status), f"{host} answered {status}{redirect}")
    if problem is not None:
        raise problem
    return arriving.content


_HEADERS: Final = {"Accept": "application/jwk-set+json, application/json", "User-Agent": "progress-relay"}


def check_url(url: str) -> None:
    """Raise ConfigError unless keys may be fetched from *url*: an attacker that changes the answer can sign tokens."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("https", "http") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError("jwks must be a URL such as https://login.example/keys, or file:PATH")
    if parts.username is not None or parts.fragment:
        raise ConfigError("jwks must hold no user name and no fragment: keys that verify are public")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(
            f"jwks must be https: anybody on the way to {host} could replace the keys, and sign any token"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
