"""Records in a JetStream of NATS, one message each.

[measured] A publish that timed out while the client reconnected was sent later all the same, so the client neither
reconnects nor buffers here: each attempt has a connection that works or is over. The id of a message lets the server
leave out what it has, within the `duplicate_window` of its stream, also across a restart of the server.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Final, Self, Unpack

from msgspec import Meta
from msgspec.structs import replace

from relay.errors import ConfigError
from relay.events import Record
from relay.notices import describe
from relay.secret import Secret
from relay.wire.addresses import Address, read_address, secret_parts
from sinks._remote import (
    CLOSE_WITHIN,
    Duration,
    QueueOptions,
    Refused,
    RemoteSettings,
    RemoteSink,
    missing,
    options_of,
    within,
)

__all__ = ["NatsSettings", "NatsSink"]

SCHEMES: Final = {"nats": 4222, "tls": 4222}

NAME: Final = "relay"
BATCH: Final = 256
MOST: Final = 1_000
KEEP: Final = 7 * 86_400.0
MAX_BYTES: Final = 1024**3
DUPLICATE_WINDOW: Final = 600.0

_TOKENS: Final = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
_SUBJECT_WORDS: Final = 'words of letters, digits, "_" and "-", with a dot between one and the next'
_NOT_IN_A_TOKEN: Final = re.compile(r"[^A-Za-z0-9_-]")

HEADERS: Final = 512
"""Bytes of a message that its headers may need, beside the record."""


class NatsSettings(RemoteSettings, frozen=True, kw_only=True):
    """Each record as a message with the subject `SUBJECT.JOB.TYPE`, in the stream that collects these.

    *url*: `nats://` or `tls://`; several, separated by commas. The stream is there already, unless *create* is true:
    then *stream* is made if it is missing, with *keep* and *max_bytes* as its bounds, and *duplicate_window*.
    """

    kind: ClassVar[str] = "nats"

    subject: Annotated[
        str,
        Meta(pattern=rf"^{_TOKENS}$", max_length=200, description='words of letters, digits, "_" and "-", with dots'),
    ] = NAME
    batch: Annotated[int, Meta(ge=1, le=MOST, description="a number of records from 1 to 1000")] = BATCH
    create: Annotated[bool, Meta(description="true or false")] = False
    stream: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$", description='a name of up to 32 letters, digits, "_" and "-"')
    ] = NAME
    keep: Duration = KEEP
    max_bytes: Annotated[int, Meta(ge=1024, description="a number of bytes from 1024 on")] = MAX_BYTES
    duplicate_window: Duration = DUPLICATE_WINDOW

    def hidden(self) -> frozenset[str]:
        """The parts of *url* that no output may show: a user alone is a token."""
        return secret_parts(self.url.reveal(), token=True)


class _Link:
    """A client that is connected, its JetStream, and an event for the end of both, which the first error is as well.

    The client comes with types for a part only.
    """

    def __init__(self, client: Any, stream: Any, over: asyncio.Event) -> None:
        self.client = client
        self.stream = stream
        self.over = over


class NatsSink(RemoteSink[_Link]):
    """Publishes each record to a JetStream, as NatsSettings says.

    A message has the JSON on the wire, the position as `Nats-Msg-Id`, and `Relay-Skipped` if records are missing in
    front of it. A batch is published without waiting in between, and is done once all of it is acknowledged. A record
    that is longer than the server allows is left out. Raises ConfigError for an address that cannot be one, and where
    the client is not installed.
    """

    settings: ClassVar[type[NatsSettings]] = NatsSettings

    @classmethod
    def from_settings(cls, settings: NatsSettings) -> Self:
        """The sink of one table of [[sinks]]."""
        return cls(**options_of(settings))

    def __init__(
        self,
        url: Secret | str,
        *,
        subject: str = NAME,
        create: bool = False,
        stream: str = NAME,
        keep: float = KEEP,
        max_bytes: int = MAX_BYTES,
        duplicate_window: float = DUPLICATE_WINDOW,
        **options: Unpack[QueueOptions],
    ) -> None:
        try:
            from nats.aio.client import Client
        except ImportError:
            raise missing("nats") from None
        options.setdefault("batch", BATCH)
        super().__init__(url, _read, **options)
        if not re.fullmatch(_TOKENS, subject):
            raise ConfigError(f"subject must be {_SUBJECT_WORDS}")
        self._client: Callable[[], Any] = Client
        self._subject = subject
        self._create = create
        self._stream: dict[str, Any] = {
            "name": stream,
            "subjects": [f"{subject}.>"],
            "max_age": keep,
            "max_bytes": max_bytes,
            "duplicate_window": duplicate_window,
        }
        self._trouble: Exception | None = None

    async def _connect(self, address: Address) -> _Link:
        client, over = self._client(), asyncio.Event()
        self._trouble = None

        async def note(error: Exception) -> None:
            # [measured] An answer with an error in it raises in the client's own callback, so it arrives here, and the
            # future that waits for the answer never ends.
            self._trouble = error
            over.set()

        async def closed() -> None:
            over.set()

        try:
            # [measured] Without `max_reconnect_attempts` it tries for ever where nobody listens; 0 means no bound, too.
            await client.connect(
                address.url.split(","),
                name="progress-relay",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, round(self.timeout)),
                error_cb=note,
                disconnected_cb=closed,
                closed_cb=closed,
            )
            self._trouble = None
            over.clear()  # of the servers that were tried before
            stream = client.jetstream(timeout=self.timeout, publish_async_max_pending=MOST)
            link = _Link(client, stream, over)
            if self._create:
                await self._make(link.stream)
        except BaseException:
            if not await within(CLOSE_WITHIN, client.close()):
                _abort(client)
            raise
        return link

    async def _make(self, stream: Any) -> None:
        from nats.js.api import StreamConfig
        from nats.js.errors import NotFoundError

        try:
            await stream.stream_info(self._stream["name"])
        except NotFoundError:
            await stream.add_stream(StreamConfig(**self._stream))

    async def _write(self, connection: _Link, records: Sequence[Record], skipped: int) -> list[Refused]:
        limit = connection.client.max_payload - HEADERS
        refused: list[Refused] = []
        answers: list[asyncio.Future[Any]] = []
        try:
            for record in records:
                if len(record.json) > limit:
                    refused.append(Refused(record, f"it is longer than the {limit:,} bytes that the server allows"))
                    continue
                headers = {"Nats-Msg-Id": str(record.position)}
                if skipped and record is records[0]:
                    headers["Relay-Skipped"] = str(skipped)
                subject = f"{self._subject}.{_NOT_IN_A_TOKEN.sub('_', record.job)}.{record.event.type}"
                answers.append(await connection.stream.publish_async(subject, record.json, headers=headers))
            await _all_acknowledged(answers, connection.over)
        finally:
            for answer in answers:
                if not answer.cancel() and not answer.cancelled():
                    answer.exception()  # so that the event loop does not report it as never looked at
        return refused

    async def _close(self, connection: _Link, *, broken: bool) -> None:  # noqa: ARG002 - both are closed alike
        await connection.client.close()

    def _abandon(self, connection: _Link) -> None:
        _abort(connection.client)

    def _reason(self, error: Exception) -> object:
        from nats.errors import NoServersError
        from nats.js.errors import NoStreamResponseError

        if isinstance(error, NoStreamResponseError):
            return f'no stream of the server has the subject "{self._subject}.>"; create one, or set create = true'
        if isinstance(error, NoServersError | ConnectionError) and self._trouble is not None:
            error = self._trouble
        return describe(error)


async def _all_acknowledged(answers: Sequence["asyncio.Future[Any]"], over: asyncio.Event) -> None:
    """Wait for all *answers*; raise the first error among them, and ConnectionError if it is *over* before that."""
    if not answers:
        return
    everything, end = asyncio.ensure_future(asyncio.wait(answers)), asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait((everything, end), return_when=asyncio.FIRST_COMPLETED)
        if not everything.done():
            raise ConnectionError("the connection ended before all messages were acknowledged")
        for answer in answers:
            answer.result()
    finally:
        end.cancel()
        everything.cancel()


def _abort(client: Any) -> None:
    """Free the socket of a client that could not be closed.

    [measured] Closing it first writes what is buffered, and waits for a server that does not read; it cannot be called
    a second time, and nothing of its public interface ends that.
    """
    stream = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if isinstance(stream, asyncio.StreamWriter):
        stream.transport.abort()


def _read(url: str) -> Address:
    """The address of all servers; the client reads from the URL which user and password each has."""
    addresses = [read_address(one, SCHEMES, token=True) for one in url.split(",")]
    if not all(address.hosts for address in addresses):
        raise ConfigError("url has no host; it should look like nats://USER:PASSWORD@HOST")
    return replace(
        addresses[0],
        hosts=tuple(host for address in addresses for host in address.hosts),
        url=url,
        secrets=secret_parts(url, token=True),
    )
