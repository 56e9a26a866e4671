"""HTTP as every dialect needs it: one request, one bounded answer or one typed error, and no secret in either."""

import json as jsonlib
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from msgspec import Struct

from relay.clock import Clock, SystemClock
from relay.errors import RelayError, UpstreamError, UsageError
from relay.events import Exchange
from relay.secret import SECRET_LIMIT
from relay.text import bounded, inert
from relay.upstreams.base import ExchangeListener
from relay.upstreams.http.partial_response import PartialResponse
from relay.upstreams.http.redaction import Redactor, redacted_headers, secrets_among
from relay.upstreams.http.reply import Reply
from relay.upstreams.http.status import error_kind_for_status, may_have_acted, retry_after
from relay.upstreams.http.transport import Transport
from relay.upstreams.reading.values import is_html, read_json

__all__ = ["BODY_LIMIT", "FileAccess", "HttpClient", "Reply", "Token"]

BODY_LIMIT: Final = 1024 * 1024
"""The most bytes of an answer that are read, after decompression, and the most that are sent."""

EXCHANGE_LIMIT: Final = 4096
"""How many characters of a request or an answer an Exchange holds."""

QUOTE_LIMIT: Final = 200
"""How many characters of the upstream's own words an error message repeats."""

_TOKENS_KEPT: Final = 8
_LOOKED_THROUGH: Final = 64 * 1024
_LONGEST_SECRET: Final = 3 * SECRET_LIMIT
"""Every byte percent-encoded."""

Token: TypeAlias = str | Callable[[], str] | None
"""The token of an account: itself, or a function that returns its present value."""


class FileAccess(Struct, frozen=True):
    """With which *headers*, secrets among them, a file of an API is requested, and how its host is looked up."""

    headers: Mapping[str, str]
    resolver: AbstractResolver | None


class HttpClient:
    """One account's connections to one API: requests with its token, answers within limits, errors by kind.

    *base_url* may have a path; the token is sent in *header*, after *scheme*, and appears nowhere else. A *token* that
    is a function is read before each request, so that it can be replaced while jobs run. *headers* go with every
    request; those that may be secret are masked as the token is. *timeout* is in seconds for a whole exchange.
    Redirects are refused, cookies are not kept, and proxy variables of the environment are not read. A host name that
    led to a public address is not followed to a private one later; *resolver* looks names up in place of that. Enter it
    before use, leave it after.
    """

    def __init__(
        self,
        base_url: str,
        token: Token = None,
        *,
        upstream: str,
        timeout: float = 30.0,
        body_limit: int = BODY_LIMIT,
        clock: Clock | None = None,
        scheme: str = "Bearer",
        header: str = "Authorization",
        headers: Mapping[str, str] | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._base = _checked_base(base_url)
        self.requests: int = 0
        self._transport = Transport(self._base, timeout=timeout, resolver=resolver)
        self._headers: Mapping[str, str] = {
            "Accept": "application/json",
            "User-Agent": "progress-relay",
            **(headers or {}),
        }
        self._read_token: Callable[[], str | None] = token if callable(token) else lambda: token
        self._tokens: tuple[str, ...] = ()
        self._changes = 0
        self._token_header = header
        self._token_scheme = scheme
        self._secret_headers: frozenset[str] = frozenset()
        self._secret_values: tuple[str, ...] = ()
        self.redactor: Redactor = Redactor([])
        self.keep_secret(headers or {})
        self._take_token()
        self._upstream = upstream
        self._body_limit = body_limit
        self._clock: Clock = clock or SystemClock()

    def token_version(self) -> object:
        """A number that changes whenever the token does. Raises UpstreamError (auth) where the token cannot be had."""
        self._refresh_token()
        return self._changes

    @property
    def base_url(self) -> str:
        """What paths are joined to, without a slash at its end."""
        return self._base

    def keep_secret(self, headers: Mapping[str, str]) -> None:
        """Mask what may be secret in *headers*, which go with some of the requests."""
        names, values = secrets_among(headers)
        self._secret_headers |= names
        self._secret_values += values
        self.redactor = Redactor((*self._tokens, *self._secret_values))

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    def connection(self) -> tuple[aiohttp.ClientSession, Mapping[str, str]]:
        """The session, and what a request is headed with now, for what stays open (`relay.upstreams.http.push`).

        Raises UpstreamError (auth) where the token cannot be had, UsageError where the client is not open.
        """
        session = self._transport.session
        self._refresh_token()
        return session, self._headers

    def file_access(self) -> FileAccess:
        """The access to files at the origin of this API. It is for requests to that origin alone: it holds the token.

        Raises UpstreamError (auth) where the token cannot be had.
        """
        self._refresh_token()
        return FileAccess(self._headers, self._transport.resolver)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        jobs: Sequence[str] = (),
        answers: Collection[int] = (),
        limit: int | None = None,
        on_exchange: ExchangeListener | None = None,
    ) -> Reply:
        """Ask once. *path* is joined to the base URL, its query already encoded. *headers* go with this request alone.

        *on_exchange*, if given, receives the exchange, secrets redacted; *jobs* names its jobs. *answers* are the
        statuses, besides 2xx, with which this API answers the question: those are returned, not raised. *limit* is the
        most bytes of this answer, in place of the client's own.
        Raises UpstreamError, of the kind that fits, for anything but a whole answer with a 2xx status; UsageError where
        *json* cannot be written as JSON within BODY_LIMIT. An exception never holds the token, nor one that does.
        """
        url = f"{self._base}/{path.lstrip('/')}"
        body = None if json is None else _encoded(json)
        self._refresh_token()
        sent = self._headers if headers is None else {**self._headers, **headers}
        if body is not None:
            sent = {**sent, "Content-Type": "application/json"}
        started = self._clock.monotonic()
        self.requests += 1
        arriving = PartialResponse(limit or self._body_limit)
        problem = await self._transport.ask(method, url, sent, body, arriving)
        status, received, content = arriving.status, arriving.headers, arriving.content
        if on_exchange is not None:
            on_exchange(
                Exchange(
                    jobs=tuple(jobs),
                    upstream=self._upstream,
                    method=method,
                    url=self.redactor(url),
                    status=status,
                    seconds=max(0.0, self._clock.monotonic() - started),
                    request=self._shown(sent, body or b""),
                    response=self._shown(received, content) if status is not None else "",
                    at=self._clock.now(),
                )
            )
        if (
            status is not None
            and status not in answers
            and (declined := self._declined(status, received, content)) is not None
        ):
            raise declined
        if status is None or problem is not None:
            raise problem or UpstreamError("network", f"no answer from {self._transport.host}")
        return Reply(status, received, content, poll_after=self._wait(received))

    def _declined(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError | None:
        if 200 <= status < 300:
            return None
        problem = f"the upstream answered {status}"
        if 300 <= status < 400:
            problem += ", a redirect, which is not followed; set base_url to where it leads"
        elif quoted := self._quoted(body):
            problem += f": {quoted}"
        wait, acted = self._wait(headers), may_have_acted(status)
        return UpstreamError(error_kind_for_status(status), problem, retry_after=wait, acted=acted)

    def _wait(self, headers: Mapping[str, str]) -> float | None:
        return retry_after(value, self._clock.now()) if (value := headers.get("Retry-After")) else None

    def _quoted(self, body: bytes) -> str:
        """The upstream's own words on what is wrong, short and on one line; its code where it has no words."""
        if is_html(body):
            return "an HTML page"
        try:
            fields = _object(read_json(body))
        except UpstreamError:
            return ""
        error = fields.get("error")
        nested = _object(error)
        candidates = (nested.get("message"), nested.get("code"), error, fields.get("message"), fields.get("detail"))
        words = next((word for word in candidates if isinstance(word, str) and word.strip()), "")
        return bounded(inert(self.redactor(words.strip())), QUOTE_LIMIT)

    def _shown(self, headers: Mapping[str, str], body: bytes) -> str:
        shown = body[:_LOOKED_THROUGH].decode("utf-8", "replace")
        text = redacted_headers(headers, self._secret_headers) + "\n" + shown
        if len(body) > _LOOKED_THROUGH:
            # The cut may have left the first half of a secret at the end, which nothing would find.
            text = self.redactor(text)[:-_LONGEST_SECRET]
        return bounded(self.redactor(text, 2 * EXCHANGE_LIMIT), EXCHANGE_LIMIT)

    def _refresh_token(self) -> None:
        problem = None
        try:
            self._take_token()
        except (RelayError, OSError) as error:
            # Not raised from within: what reads tokens may carry one in its exceptions.
            problem = UpstreamError(
                "auth", f"the token cannot be had ({type(error).__name__}); see where it comes from"
            )
        if problem is not None:
            raise problem

    def _take_token(self) -> None:
        token = self._read_token()
        if token is None or self._tokens[-1:] == (token,):
            return
        value = f"{self._token_scheme} {_checked_token(token)}".lstrip()
        # Never changed in place: by the very object it is known that what a request is headed with is still the same.
        self._headers = {**self._headers, self._token_header: value}
        self._tokens = (*self._tokens, token)[-_TOKENS_KEPT:]
        self._changes += 1
        self.redactor = Redactor((*self._tokens, *self._secret_values))


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _encoded(value: Any) -> bytes:
    try:
        body = jsonlib.dumps(value, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the input cannot be written as JSON: {error}") from None
    if len(body) > BODY_LIMIT:
        raise UsageError(f"the input is longer than {BODY_LIMIT:,} bytes")
    return body


def _checked_base(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("base_url must be an http or https address, such as https://gateway.example/backend")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("base_url must hold no user name, no query and no fragment; the token is given by itself")
    return base_url.rstrip("/")


def _checked_token(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("the token must be printable ASCII without spaces or line breaks, and not empty")
    return token
