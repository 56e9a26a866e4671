"""Keys of [[upstreams]] that several dialects have, as frozen data. Each dialect's own settings stand beside it."""

from typing import Annotated, Any, ClassVar, Final, Protocol

from msgspec import Meta, Struct
from msgspec.structs import fields

from relay.secret import NO_SECRET, Secret

__all__ = [
    "DURATION",
    "Concurrency",
    "Flag",
    "HttpUrl",
    "Name",
    "PaceSettings",
    "PerAccountSettings",
    "PerTaskSettings",
    "Seconds",
    "StatusDeadlines",
    "UpstreamSettings",
    "WebhookSettings",
    "WebhookUpstreamSettings",
    "default_of",
]

DURATION: Final = 'a number of seconds, or text like "90s", "25m" or "1h"'

Seconds = Annotated[float, Meta(ge=0.1, le=366 * 86400.0, description=f"{DURATION}, from 0.1 s to 366 days")]
Flag = Annotated[bool, Meta(description="true or false")]
HttpUrl = Annotated[
    str, Meta(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$", description="an http or https URL without user or query")
]
Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="a name of letters, digits, '.', '_' and '-'")
]
Concurrency = Annotated[int, Meta(ge=1, le=1000, description="a number of requests from 1 to 1000")]


class StatusDeadlines(Struct, frozen=True, kw_only=True):
    """How many seconds a job may stay in one status, where that is limited."""

    queued: Seconds | None = None
    running: Seconds | None = None
    unknown: Seconds | None = None


class PaceSettings(Struct, frozen=True, kw_only=True):
    """When the relay polls an upstream, beyond its interval and its deadline: the fields of `relay.Pace`."""

    jitter: Annotated[float, Meta(ge=0, le=0.5, description="a share of the interval, from 0 to 0.5")] = 0.1
    adaptive: Flag = False
    fastest: Seconds = 1.0
    slowest: Seconds = 15.0
    requests_per_second: Annotated[
        float, Meta(ge=0, le=100_000, description="a number of requests a second, 0 for any number")
    ] = 0.0
    deadlines: StatusDeadlines = StatusDeadlines()


class UpstreamSettings(Protocol):
    """The keys that every kind of upstream has, and the *kind* itself. *interval*, *deadline* and *timeout* are in
    seconds."""

    kind: ClassVar[str]
    __struct_fields__: ClassVar[tuple[str, ...]]

    @property
    def base_url(self) -> str: ...
    @property
    def token(self) -> Secret: ...
    @property
    def name(self) -> str: ...
    @property
    def interval(self) -> float: ...
    @property
    def deadline(self) -> float: ...
    @property
    def timeout(self) -> float: ...
    @property
    def pace(self) -> PaceSettings: ...


class PerAccountSettings(Struct, frozen=True, kw_only=True):
    """One account of an upstream that answers for all tasks in one request. Times are in seconds."""

    kind: ClassVar[str] = ""

    base_url: HttpUrl
    token: Secret
    name: Name
    interval: Seconds = 2.5
    deadline: Seconds = 1500.0
    timeout: Seconds = 30.0
    pace: PaceSettings = PaceSettings()


class PerTaskSettings(Struct, frozen=True, kw_only=True):
    """One account of an upstream that needs a request for each task. Times are in seconds."""

    kind: ClassVar[str] = ""

    base_url: HttpUrl
    token: Secret
    name: Name
    interval: Seconds = 5.0
    deadline: Seconds = 1500.0
    timeout: Seconds = 30.0
    concurrency: Concurrency = 8
    pace: PaceSettings = PaceSettings()


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """The keys by which calls of an upstream are verified, as `relay.webhooks.WebhookKeys` has them."""

    secret: Secret
    signing_secret: Secret = NO_SECRET


class WebhookUpstreamSettings(PerTaskSettings, frozen=True, kw_only=True):
    """One account of an upstream that can call the relay; with a *webhook*, submissions request that."""

    webhook: WebhookSettings | None = None


def default_of(settings: type[Any], key: str) -> Any:
    """The value of *key* if a table of *settings* does not hold it. Raises KeyError if the key must be given."""
    found = {field.name: field for field in fields(settings)}[key]
    if found.required:
        raise KeyError(key)
    return found.default
