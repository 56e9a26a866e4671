"""What can be configured, as frozen data. `relay.config` reads it from `relay.toml` and the environment."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from relay.events import LEVELS, Level
from relay.journal.base import Keep
from relay.secret import NO_SECRET, Secret
from relay.tables import DURATION
from relay.upstreams.declared.declaration import CancelRequest, PollRequest, ResultRequest, SubmitRequest

__all__ = [
    "SINK_KINDS",
    "UPSTREAM_KINDS",
    "CallingSettings",
    "ComfyUISettings",
    "ConsoleSettings",
    "CustomSinkSettings",
    "DebugSettings",
    "FalSettings",
    "HttpSettings",
    "ItemSettings",
    "JournalSettings",
    "KlingSettings",
    "LogFormat",
    "LumaSettings",
    "MiniMaxSettings",
    "NewApiSettings",
    "OpenAIVideosSettings",
    "PaceSettings",
    "ReplicateSettings",
    "RunwaySettings",
    "ServerSettings",
    "Settings",
    "SinkSettings",
    "SoraSettings",
    "StatusDeadlines",
    "UpstreamSettings",
    "VeoSettings",
    "WebhookSettings",
]

LogFormat: TypeAlias = Literal["pretty", "json"]

_Seconds = Annotated[float, Meta(ge=0.1, le=366 * 86400.0, description=f"{DURATION}, from 0.1 s to 366 days")]
_Port = Annotated[int, Meta(ge=0, le=65535, description="a port number from 0 to 65535")]
_HTTP_URL = Meta(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$", description="an http or https URL without user or query")
_Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="a name of letters, digits, '.', '_' and '-'")
]
_Model = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+$", description="a model such as fal-ai/fast-sdxl")
]
_Level = Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")]


class ServerSettings(Struct, frozen=True, kw_only=True):
    """Where and how the relay serves; times are in seconds. *public_url* is how users reach it.

    The rest is as in `web.create_app`.
    """

    host: Annotated[str, Meta(description="an address of this machine")] = "127.0.0.1"
    port: _Port = 8080
    heartbeat: _Seconds = 15.0
    send_timeout: _Seconds = 10.0
    slow_after: _Seconds = 2.0
    max_age: _Seconds = 3_600.0
    max_streams: Annotated[int, Meta(ge=1, description="a number of streams, 1 or more")] = 10_000
    max_streams_per_client: Annotated[int, Meta(ge=0, description="a number of streams, 0 for any number")] = 0
    debug: Annotated[bool, Meta(description="true or false")] = False
    public_url: Annotated[str, _HTTP_URL] | None = None


class JournalSettings(Struct, frozen=True, kw_only=True):
    """Where records are kept, and how many. A path in *url* is relative to the current directory."""

    url: Annotated[str, Meta(description='"sqlite:PATH" or "memory:"')] = "sqlite:relay.db"
    keep: Keep = Keep()

    @property
    def scheme(self) -> str:
        """What is before the colon of *url*: one of JOURNALS."""
        return self.url.partition(":")[0]

    @property
    def path(self) -> str:
        """What is behind the colon of *url*: for `sqlite`, the file."""
        return self.url.partition(":")[2]


class StatusDeadlines(Struct, frozen=True, kw_only=True):
    """How many seconds a job may stay in one status, where that is limited."""

    queued: _Seconds | None = None
    running: _Seconds | None = None
    unknown: _Seconds | None = None


class PaceSettings(Struct, frozen=True, kw_only=True):
    """When an upstream is asked, beyond its interval and its deadline, as `relay.Pace` has it."""

    jitter: Annotated[float, Meta(ge=0, le=0.5, description="a share of the interval, from 0 to 0.5")] = 0.1
    adaptive: Annotated[bool, Meta(description="true or false")] = False
    fastest: _Seconds = 1.0
    slowest: _Seconds = 15.0
    requests_per_second: Annotated[
        float, Meta(ge=0, le=100_000, description="a number of requests a second, 0 for any number")
    ] = 0.0
    deadlines: StatusDeadlines = StatusDeadlines()


class SoraSettings(Struct, frozen=True, kw_only=True):
    """One account of Sora's web backend. *interval*, *deadline* and *timeout* are in seconds."""

    base_url: Annotated[str, _HTTP_URL]
    token: Secret
    name: _Name = "sora"
    interval: _Seconds = 2.5
    deadline: _Seconds = 1500.0
    timeout: _Seconds = 30.0
    pace: PaceSettings = PaceSettings()


class ComfyUISettings(Struct, frozen=True, kw_only=True):
    """One ComfyUI server, as `relay.upstreams.ComfyUI` has it."""

    base_url: Annotated[str, _HTTP_URL]
    token: Secret = NO_SECRET
    name: _Name = "comfyui"
    interval: _Seconds = 2.5
    deadline: _Seconds = 1500.0
    timeout: _Seconds = 30.0
    pace: PaceSettings = PaceSettings()


class ItemSettings(Struct, frozen=True, kw_only=True):
    """One account of an upstream that is asked about each task by itself, as `relay.upstreams.ItemUpstream` has it."""

    base_url: Annotated[str, _HTTP_URL]
    token: Secret
    name: _Name
    interval: _Seconds = 5.0
    deadline: _Seconds = 1500.0
    timeout: _Seconds = 30.0
    concurrency: Annotated[int, Meta(ge=1, le=1000, description="a number of requests from 1 to 1000")] = 8
    pace: PaceSettings = PaceSettings()


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """How an upstream is asked to call the relay, as `relay.callbacks.CallbackKeys` has it."""

    secret: Secret
    signing_secret: Secret = NO_SECRET


class CallingSettings(ItemSettings, frozen=True, kw_only=True):
    """One account of an upstream that can call the relay: with *webhook* it is asked to."""

    webhook: WebhookSettings | None = None


class OpenAIVideosSettings(ItemSettings, frozen=True, kw_only=True):
    """One account of an API in the dialect of OpenAI's videos."""

    name: _Name = "openai-videos"
    interval: _Seconds = 2.5


class NewApiSettings(ItemSettings, frozen=True, kw_only=True):
    """One account of a new-api gateway."""

    name: _Name = "new-api"


class RunwaySettings(ItemSettings, frozen=True, kw_only=True):
    """One account of Runway's API."""

    name: _Name = "runway"


class LumaSettings(CallingSettings, frozen=True, kw_only=True):
    """One account of Luma's Dream Machine."""

    name: _Name = "luma"


class ReplicateSettings(CallingSettings, frozen=True, kw_only=True):
    """One account of Replicate."""

    name: _Name = "replicate"
    interval: _Seconds = 2.5


class FalSettings(CallingSettings, frozen=True, kw_only=True):
    """One account in fal's queue. With a *model*, a request id alone is one of that model."""

    name: _Name = "fal"
    interval: _Seconds = 2.5
    model: _Model | None = None
    stream: Annotated[bool, Meta(description="true or false")] = False


class VeoSettings(ItemSettings, frozen=True, kw_only=True):
    """One key of the Gemini API."""

    name: _Name = "veo"
    interval: _Seconds = 10.0


class KlingSettings(CallingSettings, frozen=True, kw_only=True):
    """One account of Kling's API: with a *token*, or with the two keys of which the API's own tokens are made."""

    token: Secret = NO_SECRET
    name: _Name = "kling"
    interval: _Seconds = 10.0
    access_key: Secret = NO_SECRET
    secret_key: Secret = NO_SECRET


class MiniMaxSettings(CallingSettings, frozen=True, kw_only=True):
    """One account of MiniMax, by version 1 of its API."""

    name: _Name = "minimax"
    interval: _Seconds = 10.0


class HttpSettings(Struct, frozen=True, kw_only=True):
    """One account of an API that is declared here, as `relay.upstreams.Declared` has it."""

    base_url: Annotated[str, _HTTP_URL]
    poll: PollRequest
    token: Secret = NO_SECRET
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer"
    headers: Annotated[Mapping[str, str], Meta(description="a table of texts")] = {}
    states: Annotated[Mapping[str, str], Meta(description="a table of texts")] = {}
    codes: Annotated[Mapping[str, str], Meta(description="a table of texts")] = {}
    submit: SubmitRequest | None = None
    result: ResultRequest | None = None
    cancel: CancelRequest | None = None
    name: _Name = "http"
    interval: _Seconds = 5.0
    deadline: _Seconds = 1500.0
    timeout: _Seconds = 30.0
    concurrency: Annotated[int, Meta(ge=1, le=1000, description="a number of requests from 1 to 1000")] = 8
    pace: PaceSettings = PaceSettings()


class ConsoleSettings(Struct, frozen=True, kw_only=True):
    """Records on standard output; without *format*, pretty on a terminal and JSON lines elsewhere."""

    level: _Level = "debug"
    format: Annotated[LogFormat, Meta(description="one of pretty, json")] | None = None


class DebugSettings(Struct, frozen=True, kw_only=True):
    """Records and raw exchanges, for debugging."""

    level: _Level = "debug"


class CustomSinkSettings(Struct, frozen=True, kw_only=True):
    """A sink of anybody's own: *target* is `package.module:Name`, *options* are what a class is made with."""

    target: str
    level: Level = "debug"
    options: Mapping[str, Any] = {}


UpstreamSettings: TypeAlias = SoraSettings | ItemSettings | HttpSettings | ComfyUISettings
SinkSettings: TypeAlias = ConsoleSettings | DebugSettings | CustomSinkSettings

UPSTREAM_KINDS: Final[Mapping[str, type[UpstreamSettings]]] = {
    "sora": SoraSettings,
    "openai-videos": OpenAIVideosSettings,
    "new-api": NewApiSettings,
    "runway": RunwaySettings,
    "luma": LumaSettings,
    "replicate": ReplicateSettings,
    "fal": FalSettings,
    "veo": VeoSettings,
    "kling": KlingSettings,
    "minimax": MiniMaxSettings,
    "http": HttpSettings,
    "comfyui": ComfyUISettings,
}
"""What `kind` of [[upstreams]] may say."""

SINK_KINDS: Final[Mapping[str, type[ConsoleSettings | DebugSettings]]] = {
    "console": ConsoleSettings,
    "debug": DebugSettings,
}
"""What `kind` of [[sinks]] may say, besides the name of a custom sink."""


class Settings(Struct, frozen=True, kw_only=True):
    """All that is configured."""

    server: ServerSettings = ServerSettings()
    journal: JournalSettings = JournalSettings()
    upstreams: tuple[UpstreamSettings, ...] = ()
    sinks: tuple[SinkSettings, ...] = ()
