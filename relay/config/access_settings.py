"""[access] of the configuration as frozen data: what each subject may do, and how a request proves itself."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import asdict

from relay.secret import Secret
from relay.upstreams.settings import Name, Seconds

__all__ = ["AccessSettings", "JobsSetting", "JwtSettings", "KeySettings", "ProxySettings", "is_same"]

JobsSetting = Annotated[str | tuple[str, ...], Meta(description='"own", "*" or a list of ids of jobs')]
_Scopes = Annotated[str, Meta(description='scopes with spaces between, such as "jobs:read jobs:submit"')]
_Header = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$", description="the name of a header"),
]


class KeySettings(Struct, frozen=True, kw_only=True):
    """One API key, of the subject `key:NAME`. Two keys may have one name, while one takes the place of the other."""

    name: Name
    key: Secret
    scopes: _Scopes = "jobs:read"
    jobs: JobsSetting = "own"


class JwtSettings(Struct, frozen=True, kw_only=True):
    """Tokens of an *issuer*, for this *audience*, signed by one of *algorithms* with *key* or a key of *jwks*.

    *algorithms* are of one family. *jwks* is a URL, or a path behind `file:`. *leeway* is in seconds.
    """

    issuer: Annotated[str, Meta(min_length=1, max_length=1_000)]
    audience: Annotated[str, Meta(min_length=1, max_length=1_000)]
    algorithms: Annotated[tuple[str, ...], Meta(min_length=1, max_length=8, description='a list such as ["RS256"]')]
    key: Secret | None = None
    jwks: str | None = None
    leeway: Annotated[float, Meta(ge=0, le=300, description="seconds from 0 to 300")] = 60.0


class ProxySettings(Struct, frozen=True, kw_only=True, rename={"networks": "from"}):
    """A proxy that says in the header *user* who its client is, and is believed only from *networks*.

    *networks* are IP networks, or "unix" for the relay's own unix socket. From a network, the proxy sends *secret* in
    *secret_header*. *renew*: the seconds after which a stream is renewed, so that the proxy decides about it again.
    """

    networks: Annotated[
        tuple[str, ...], Meta(min_length=1, max_length=64, description='a list of networks such as ["10.0.0.0/24"]')
    ]
    user: _Header = "X-Forwarded-User"
    secret: Secret | None = None
    secret_header: _Header = "X-Relay-Proxy"  # noqa: S105
    scopes: _Scopes = "jobs:read"
    jobs: JobsSetting = "own"
    renew: Seconds = 600.0


class AccessSettings(Struct, frozen=True, kw_only=True):
    """The ways in, and how long what the relay itself gives out is valid, in seconds.

    *signing_key* signs sessions, tickets and watch links; without it they end with the process. *session_for*: the most
    seconds of a session. *watch_for*: those of the link in the answer to a submission; *failures* of one address are
    answered before it has to wait, and as many more in each minute.
    """

    keys: tuple[KeySettings, ...] = ()
    jwt: JwtSettings | None = None
    proxy: ProxySettings | None = None
    signing_key: Secret | None = None
    session_for: Seconds = 43_200.0
    watch_for: Seconds = 86_400.0
    failures: Annotated[int, Meta(ge=1, le=10_000, description="a number of attempts from 1 to 10000")] = 10


def is_same(one: Struct, other: Struct | None) -> bool:
    """Whether two settings say the same. A secret is equal to itself alone, so its value is compared in its place."""
    return other is not None and _values(one) == _values(other)


def _values(settings: Struct) -> dict[str, object]:
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in asdict(settings).items()}
