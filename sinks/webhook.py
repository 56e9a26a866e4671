"""Each record as a signed HTTP request (Standard Webhooks 1.0) to a program, or as a message to a chat."""

import re
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Annotated, ClassVar, Final, Self, get_args

from aiohttp.abc import AbstractResolver
from msgspec import Meta, Struct
from msgspec.structs import asdict

from relay.clock import Clock, SystemClock
from relay.errors import UsageError
from relay.events import LEVELS, Level, Record
from relay.notices import Notify, notice
from relay.queue import Counts, OnFull, Queued, Retries
from relay.secret import NO_SECRET, Secret
from relay.upstreams.http.addresses import is_public
from sinks._guard import PORTS, check_url, guarded_connector
from sinks._posting import LATEST, SOONEST, Poster, host_of, judge
from sinks._signing import Signer
from sinks._templates import TEMPLATES, TemplateName, delivery_id

__all__ = ["WebhookSettings", "WebhookSink"]

TIMEOUT: Final = 15.0
LANES: Final = 10
RETRY_FOR: Final = 72 * 3_600.0

_OWN_HEADERS: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_SOURCE: Final = re.compile(r"[A-Za-z0-9._~:/?@!$&'()*+,;=%-]{0,512}")


_Seconds = Annotated[
    float,
    Meta(ge=0.1, le=30 * 86_400.0, description='seconds, or text like "15s" or "72h", from 0.1 s to 30 days'),
]
_Port = Annotated[int, Meta(ge=1, le=65_535)]


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """Records posted to *url*, signed with *secret*. Times are in seconds."""

    kind: ClassVar[str] = "webhook"

    url: Annotated[Secret | str, Meta(description='an https URL, or "env:NAME" or "file:PATH"')]
    secret: Secret = NO_SECRET
    template: Annotated[TemplateName, Meta(description=f"one of {', '.join(TEMPLATES)}")] = "cloudevents"
    terminal_only: Annotated[bool, Meta(description="true or false")] | None = None
    headers: Annotated[Mapping[str, Secret | str], Meta(description="a table of headers")] = {}
    source: Annotated[str, Meta(description="a URI, such as https://relay.example")] = ""
    allow_private: Annotated[bool, Meta(description="true or false")] = False
    ports: Annotated[tuple[_Port, ...], Meta(description="a list of ports, such as [443, 8443]")] = PORTS
    timeout: _Seconds = TIMEOUT
    retry_for: _Seconds = RETRY_FOR
    lanes: Annotated[int, Meta(ge=1, le=1_000, description="a number of jobs from 1 to 1,000")] = LANES
    capacity: Annotated[int, Meta(ge=1, description="a number of records, 1 or more")] = 10_000
    on_full: Annotated[OnFull, Meta(description=f"one of {', '.join(get_args(OnFull))}")] = "drop-oldest"
    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "debug"


class WebhookSink:
    """Posts each record to *url* and tries again until the receiver answers with a status of 200 to 299.

    With the *template* `cloudevents`, the body is a CloudEvent, signed with each key of *secret* (`whsec_...`, white
    space between several). With `slack` or `discord` it is a message for an incoming webhook of that chat, without a
    signature, and of terminal records alone unless *terminal_only* says otherwise. *headers* are sent with each
    request. *source* is what CloudEvents call the relay: a URI, such as its public address.

    The receiver has *timeout* seconds for one attempt. What failed is tried again with back-off for *retry_for*
    seconds. 410 closes the sink, and a redirect is a failure. Records of one job arrive in order; records of up to
    *lanes* jobs are under way at once where the relay delivers by lanes, which it does for a durable sink. A record may
    arrive more than once, always with the same `webhook-id`.

    The URL is https, at one of *ports*, and each address that it leads to is public, unless *allow_private*. *url*,
    *secret* and values of *headers* may be a `relay.secret.Secret`. Raises UsageError for what cannot be sent.
    """

    settings: ClassVar[type[WebhookSettings]] = WebhookSettings

    @classmethod
    def from_settings(cls, settings: WebhookSettings) -> Self:
        """The webhook of one table of [[sinks]]. Raises UsageError. Its level is the relay's business."""
        return cls(**{key: value for key, value in asdict(settings).items() if key != "level"})

    def __init__(
        self,
        url: Secret | str,
        *,
        secret: Secret | str = NO_SECRET,
        template: TemplateName = "cloudevents",
        terminal_only: bool | None = None,
        headers: Mapping[str, Secret | str] | None = None,
        source: str = "",
        allow_private: bool = False,
        ports: Collection[int] = PORTS,
        timeout: float = TIMEOUT,
        lanes: int = LANES,
        retry_for: float = RETRY_FOR,
        capacity: int = 10_000,
        on_full: OnFull = "drop-oldest",
        resolver: AbstractResolver | None = None,
        public: Callable[[str], bool] = is_public,
    ) -> None:
        if template not in get_args(TemplateName):
            raise UsageError(f"a webhook has no template {template!r}; it has {', '.join(get_args(TemplateName))}")
        if lanes < 1 or timeout <= 0:
            raise UsageError("a webhook needs at least one lane, and some time for an attempt")
        if not _SOURCE.fullmatch(source):
            raise UsageError("the source of a webhook is a URI in ASCII, such as https://relay.example")
        self._template = TEMPLATES[template]
        try:
            self._url = check_url(_text(url), allow_private=allow_private, ports=ports)
        except UsageError as error:
            raise UsageError(f"the url of a webhook {error}") from None
        self.host: str = host_of(self._url)
        self._headers = _checked_headers(headers or {}, self._template.media_type)
        self._source = source.rstrip("/")
        self._terminal_only = self._template.terminal_only if terminal_only is None else terminal_only
        self._clock: Clock = SystemClock()
        self._notify: Notify = notice
        self._signer = self._signer_of(secret, template)
        self._attempt_within = timeout
        self._allow_private = allow_private
        self._resolver = resolver
        self._public = public
        self._poster: Poster | None = None
        self.timeout: float = 2 * timeout
        """A safety net around `work`, which ends in time by itself"""
        self.lanes: int = lanes
        """How many jobs have a record under way at once, where the relay delivers by lanes"""
        self.retries: Retries = Retries(within=retry_for, base=SOONEST, cap=max(SOONEST, LATEST))
        self._queue = Queued(
            self.work,
            capacity=capacity,
            on_full=on_full,
            retries=self.retries,
            timeout=self.timeout,
            name=f"webhook {self.host}",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.host}>"

    def __call__(self, record: Record) -> None:
        if self._wants(record):
            self._queue(record)

    def bind(self, clock: Clock, notify: Notify, name: str) -> None:
        """Use this clock, and report to this operator under *name*; the relay calls it for a sink that is added."""
        self._clock = clock
        self._notify = lambda text: notify(f"sink {name}: {text}")
        self._queue.bind(clock, notify, name)

    def counts(self) -> Counts:
        """What became of the records so far."""
        return self._queue.counts()

    async def work(self, record: Record) -> None:
        """Deliver *record*: one attempt.

        Raises RetryLater, Undeliverable or EndpointGone of `relay.queue`. Nothing in them is a secret.
        """
        if not self._wants(record):
            return
        if self._poster is None:
            raise UsageError("the webhook is not open; enter it with 'async with' first")
        body = self._template.body(record, self._source)
        async with self._poster.free:
            # Signed for this attempt, after the wait: receivers refuse a time that is five minutes old.
            headers = {name: _text(value) for name, value in self._headers.items()}
            if self._signer is not None:
                headers |= self._signer.headers(delivery_id(record), self._clock.now(), body)
            answer = await self._poster.post(body, headers)
        judge(answer, self.host, self._clock.now())

    async def __aenter__(self) -> Self:
        connector = guarded_connector(
            limit=self.lanes, allow_private=self._allow_private, resolver=self._resolver, public=self._public
        )
        self._poster = Poster(self._url, connector, timeout=self._attempt_within)
        await self._queue.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._queue.__aexit__(kind, error, trace)
        finally:
            poster, self._poster = self._poster, None
            if poster is not None:
                await poster.close()

    def _wants(self, record: Record) -> bool:
        return record.terminal or not self._terminal_only

    def _signer_of(self, secret: Secret | str, template: TemplateName) -> Signer | None:
        given = secret is not NO_SECRET
        if self._template.signed != given:
            raise UsageError(
                f"a webhook with the template {template} needs a secret (whsec_...), with which it is signed"
                if not given
                else f"a webhook with the template {template} has no signature; remove its secret"
            )
        if not given:
            return None
        try:
            return Signer(lambda: _text(secret), lambda text: self._notify(text))
        except UsageError as error:
            raise UsageError(f"the secret of a webhook {error}") from None


def _checked_headers(headers: Mapping[str, Secret | str], media_type: str) -> Mapping[str, Secret | str]:
    """All headers of each request but the signature. Raises UsageError, which repeats no value."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise UsageError("a header of a webhook has a name of letters, digits and '-'")
        lower = name.lower()
        if lower in _OWN_HEADERS or lower.startswith("webhook-"):
            raise UsageError(f"the header {name} of a webhook is the relay's own; remove it")
        if any(not " " <= character <= "~" and character != "\t" for character in _text(value)):
            raise UsageError(f"the header {name} of a webhook has a character that is not printing ASCII")
    named = {name.lower() for name in headers}
    own = {} if "user-agent" in named else {"User-Agent": "progress-relay"}
    return {**own, **headers, "Accept-Encoding": "identity", "Content-Type": media_type}


def _text(value: Secret | str) -> str:
    return value.reveal() if isinstance(value, Secret) else value
