"""The base of adapters that reach an account of an upstream with one HTTP client."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import ClassVar, Final, Self, TypedDict

from relay.clock import Clock
from relay.errors import UsageError
from relay.jobs.observations import Answer
from relay.secret import NO_SECRET, Secret
from relay.upstreams.base import ExchangeListener
from relay.upstreams.http.client import FileAccess, HttpClient, Token
from relay.upstreams.settings import PerAccountSettings, UpstreamSettings, default_of

__all__ = ["AccountOptions", "AccountUpstream", "TimingOptions"]

_NOT_OPTIONS: Final = ("base_url", "pace", "webhook")
"""The keys of a table that the adapter does not take as options; its secrets make the token."""


class TimingOptions(TypedDict, total=False):
    """The options of every adapter but for its clock. One that is not given is as the adapter's `settings` have it."""

    name: str
    interval: float
    deadline: float
    timeout: float


class AccountOptions(TimingOptions, total=False):
    """The options of every adapter."""

    clock: Clock | None


class AccountUpstream(ABC):
    """One account of an upstream. *interval*, *deadline* and *timeout* are in seconds; *headers* go with each request.

    A dialect sets `settings`, which holds the keys of [[upstreams]] and their defaults, and, if its API differs,
    *auth_header* and *auth_scheme*: the header of the token, and the word before it; *prompt_at* and *image_at*: the
    keys of a submission that hold prompt and image (see `relay.upstreams.base.prompt_keys`). Raises UsageError if
    *base_url* or *token* cannot be used, or if there is no *name*.

    *on_exchange*, if set, receives every raw exchange, with secrets redacted; its `jobs` are the task ids.
    """

    settings: ClassVar[type[UpstreamSettings]] = PerAccountSettings
    auth_header: ClassVar[str] = "Authorization"
    auth_scheme: ClassVar[str] = "Bearer"
    prompt_at: str = "prompt"
    image_at: str | None = None

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str | None = None,
        interval: float | None = None,
        deadline: float | None = None,
        timeout: float | None = None,
        clock: Clock | None = None,
        scheme: str | None = None,
        header: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not (name := name or self.settings.kind):
            raise UsageError("an upstream needs a name; give it as name=, or set the kind of its settings")
        self.name = name
        self.interval: float = default_of(self.settings, "interval") if interval is None else interval
        self.deadline: float = default_of(self.settings, "deadline") if deadline is None else deadline
        self.on_exchange: ExchangeListener | None = None
        self._http = HttpClient(
            base_url,
            token,
            upstream=name,
            timeout=default_of(self.settings, "timeout") if timeout is None else timeout,
            clock=clock,
            scheme=self.auth_scheme if scheme is None else scheme,
            header=self.auth_header if header is None else header,
            headers=headers,
        )

    @classmethod
    def from_settings(cls, settings: UpstreamSettings, clock: Clock) -> Self:
        """The adapter of one table of [[upstreams]]. Raises UsageError if the keys of the table do not fit together."""
        keys = (key for key in cls.settings.__struct_fields__ if key not in _NOT_OPTIONS)
        options = {key: value for key in keys if not isinstance(value := getattr(settings, key), Secret)}
        return cls(settings.base_url, cls.token_of(settings, clock), clock=clock, **options)

    @classmethod
    def token_of(cls, settings: UpstreamSettings, clock: Clock) -> Token:  # noqa: ARG003
        """The token, read before each request: the file that holds it may be replaced. *clock* dates signed tokens."""
        return None if settings.token is NO_SECRET else settings.token.reveal

    @abstractmethod
    async def observe(self, tasks: Sequence[str]) -> Answer:
        """See `relay.upstreams.Upstream`."""

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    def token_version(self) -> object:
        """A value that changes whenever the token does."""
        return self._http.token_version()

    @property
    def base_url(self) -> str:
        """The address of the API, without a slash at its end."""
        return self._http.base_url

    def file_access(self) -> FileAccess:
        """See `HttpClient.file_access`: for files at the origin of *base_url*, which need its token."""
        return self._http.file_access()
