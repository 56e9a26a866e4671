"""The configuration as frozen data. `relay.config` reads it from `relay.toml` and the environment."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from relay.config.access_settings import AccessSettings
from relay.config.tables import TextOrSecret
from relay.events import LEVELS, Level
from relay.journal.base import Retention
from relay.secret import Secret
from relay.upstreams.settings import DURATION, Flag, HttpUrl, Name, Seconds, UpstreamSettings

__all__ = [
    "SHARED_JOURNALS",
    "AttachSettings",
    "ClusterSettings",
    "ConfiguredSink",
    "CustomSinkSettings",
    "GatewayModel",
    "GatewaySettings",
    "JournalSettings",
    "LevelSettings",
    "Reasoning",
    "RedactSettings",
    "ServerSettings",
    "Settings",
    "TlsSettings",
]

_Port = Annotated[int, Meta(ge=0, le=65535, description="a port number from 0 to 65535")]


_File = Annotated[str, Meta(min_length=1, description="the path of a file")]


class TlsSettings(Struct, frozen=True, kw_only=True):
    """The certificate of the server with the chain behind it, and its private key: paths of PEM files."""

    cert: _File
    key: _File


class ServerSettings(Struct, frozen=True, kw_only=True):
    """Where and how the relay serves; times are in seconds. *public_url* is how users reach it.

    *host* is an address or a name of this machine, `unix:PATH`, or `systemd`. The rest is as in `web.create_app`.
    """

    host: Annotated[str, Meta(description='an address of this machine, "unix:PATH" or "systemd"')] = "127.0.0.1"
    port: _Port = 8080
    heartbeat: Seconds = 15.0
    send_timeout: Seconds = 10.0
    slow_after: Seconds = 2.0
    max_age: Seconds = 3_600.0
    max_streams: Annotated[int, Meta(ge=1, description="a number of streams, 1 or more")] = 10_000
    max_streams_per_client: Annotated[int, Meta(ge=0, description="a number of streams, 0 for any number")] = 0
    max_jobs: Annotated[int, Meta(ge=1, description="a number of jobs, 1 or more")] = 10_000
    max_jobs_per_client: Annotated[int, Meta(ge=0, description="a number of jobs, 0 for any number")] = 5_000
    new_jobs_per_minute: Annotated[int, Meta(ge=0, description="a number of jobs, 0 for any number")] = 3_000
    debug: Flag = False
    fast_accept: Flag = True
    public_url: HttpUrl | None = None
    origins: Annotated[
        tuple[str, ...], Meta(max_length=100, description='a list of origins, such as ["https://app.example"]')
    ] = ()
    tls: TlsSettings | None = None


SHARED_JOURNALS: Final = (
    *("redis", "rediss", "valkey", "valkeys"),
    *("redis+cluster", "rediss+cluster", "valkey+cluster", "valkeys+cluster"),
    *("redis+sentinel", "rediss+sentinel", "valkey+sentinel", "valkeys+sentinel"),
    *("unix", "redis+unix", "valkey+unix"),
)
"""The schemes of journal URLs that lead to a server of Redis or Valkey, where several relays share one journal."""


class JournalSettings(Struct, frozen=True, kw_only=True):
    """Where records are kept, and how many. A path in *url* is relative to the current directory.

    The address of a server is a `Secret`, since it may hold a password.
    """

    url: Annotated[TextOrSecret, Meta(description='"sqlite:PATH", "memory:" or the address of a server of Redis')] = (
        "sqlite:relay.db"
    )
    keep: Retention = Retention()

    @property
    def scheme(self) -> str:
        """The part of *url* before the colon: one of JOURNALS."""
        return self.reveal().partition(":")[0]

    @property
    def path(self) -> str:
        """The file of a `sqlite` journal; empty for any other."""
        scheme, _, path = self.reveal().partition(":")
        return path if scheme == "sqlite" else ""

    @property
    def shared(self) -> bool:
        """Whether several relays may use this journal at the same time."""
        return self.scheme in SHARED_JOURNALS

    @property
    def where(self) -> str:
        """The journal as messages begin to speak of one that is no file: "a journal in memory"."""
        return {"memory": "a journal in memory", "sqlite": "a journal in a file"}.get(self.scheme, "a journal in Redis")

    def reveal(self) -> str:
        """*url* itself. For a server it may hold a password: hand it straight to what connects."""
        return self.url.reveal() if isinstance(self.url, Secret) else self.url


_ShortName = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$", description="a name of up to 48 letters, digits, '.', '_', '-'"),
]


class ClusterSettings(Struct, frozen=True, kw_only=True):
    """What relays that share a journal agree on: all but *node* is the same for each of them.

    *lease*: the seconds after which the jobs of a node that has stopped go to another. *shards*: the parts in which
    jobs are shared out. *name* begins the keys in the server, so that several clusters may use one. *node* begins the
    name of this node.
    """

    lease: Annotated[float, Meta(ge=0.5, le=300, description=f"{DURATION}, from 0.5 s to 5 minutes")] = 10.0
    shards: Annotated[int, Meta(ge=1, le=1024, description="a number of shards from 1 to 1024")] = 64
    name: _ShortName = "relay"
    node: _ShortName | None = None


class LevelSettings(Struct, frozen=True, kw_only=True):
    """The key that every kind of sink has beside its own: the least level of records that it receives."""

    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "debug"


class AttachSettings(Struct, frozen=True, kw_only=True):
    """The keys that every sink has, whatever its kind: which records it receives, and under which name."""

    name: Name | None = None
    types: Annotated[tuple[str, ...], Meta(description='a list of types of events, such as ["done", "failed"]')] = ()
    jobs: Annotated[tuple[str, ...], Meta(description="a list of ids of jobs")] = ()
    since: Annotated[Literal["now", "start"], Meta(description='"now" or "start"')] = "now"
    durable: Flag = False


class CustomSinkSettings(Struct, frozen=True, kw_only=True):
    """A sink of anybody's own: *target* is `package.module:Name`, *options* are what a class is made with.

    A text of *options*, at any depth, that was a reference to a secret is that `Secret`.
    """

    target: str
    level: Level = "debug"
    options: Mapping[str, Any] = {}


class ConfiguredSink(Struct, frozen=True, kw_only=True):
    """One table of [[sinks]]: the *settings* of its kind, and how the sink is *attached*."""

    settings: Struct
    attached: AttachSettings = AttachSettings()


Reasoning = Annotated[
    Literal["both", "reasoning_content", "content"], Meta(description='"both", "reasoning_content" or "content"')
]
_Path = Annotated[
    str, Meta(pattern=r"^[^.]+([.][^.]+)*$", description='a key, or keys with dots such as "input.prompt"')
]

_Wait = Annotated[
    float,
    Meta(
        ge=1,
        le=290,
        description='seconds, or text like "90s" or "4m", from 1 s to 290 s: clients repeat a request'
        " that has no answer after 300 s",
    ),
]


class GatewayModel(Struct, frozen=True, kw_only=True):
    """A model that chat clients may name: an upstream, and the *input* that each of its submissions begins with.

    *prompt* and *image* are the keys of the input that the prompt and the image of a request are put at; by default
    those of the upstream's adapter. *reasoning* is as in GatewaySettings, for this model.
    """

    upstream: Name
    input: Annotated[Mapping[str, Any], Meta(description="a table")] = {}
    prompt: _Path | None = None
    image: _Path | None = None
    reasoning: Reasoning | None = None


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """The dialect of OpenAI-style clients: `/v1/chat/completions`, `/v1/videos` and `/v1/responses`.

    *models*: by name; without any, each upstream that accepts submissions is a model under its own name. *wait*: the
    seconds that a request without `stream` waits for the job's end; SDKs repeat a request after 300. *level*: the least
    level of the records in a chat stream. *reasoning*: the fields of a chunk that hold the text of a record.
    *cancel_on_disconnect*: whether a job is cancelled once the client that submitted it leaves.
    *content*: whether `/v1/videos/{id}/content` passes the file on, or redirects to it; *content_bytes* is the most it
    passes on. *allow_private*: whether files at private addresses are passed on.
    """

    models: Mapping[str, GatewayModel] = {}
    wait: _Wait = 240.0
    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "info"
    reasoning: Reasoning = "both"
    cancel_on_disconnect: Flag = False
    content: Annotated[Literal["proxy", "redirect"], Meta(description='"proxy" or "redirect"')] = "proxy"
    content_bytes: Annotated[int, Meta(ge=1, description="a number of bytes, 1 or more")] = 1024 * 1024 * 1024
    allow_private: Flag = False


class RedactSettings(Struct, frozen=True, kw_only=True):
    """The parts of texts that are masked wherever they leave the relay, besides known secrets.

    *patterns* are regular expressions; the first group of each is masked, or all that it matches if it has none.
    """

    patterns: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=1_000)], ...],
        Meta(max_length=100, description="a list of up to 100 regular expressions"),
    ] = ()


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that is configured. The settings of a sink are those of its kind, or CustomSinkSettings.

    Without *access*, every client may do everything; the relay serves this machine alone then.
    """

    server: ServerSettings = ServerSettings()
    journal: JournalSettings = JournalSettings()
    cluster: ClusterSettings = ClusterSettings()
    gateway: GatewaySettings = GatewaySettings()
    redact: RedactSettings = RedactSettings()
    access: AccessSettings | None = None
    upstreams: tuple[UpstreamSettings, ...] = ()
    sinks: tuple[ConfiguredSink, ...] = ()
