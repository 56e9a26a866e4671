"""Records in a stream of Redis or Valkey, which any number of programs may read, each from where it got to.

[measured] By default redis-py repeats a command ten times by itself: it held one XADD for 26 s while the server stood
still, and the entry was there twice. Here it repeats nothing; an entry has the offset of its record as its id, and the
server refuses an id that is not above the last one.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self, Unpack, cast

from msgspec import Meta

from relay.errors import ConfigError
from relay.events import Record
from relay.notices import describe
from relay.secret import Secret
from relay.wire.addresses import Address, read_address
from sinks._remote import Duration, QueueOptions, Refused, RemoteSettings, RemoteSink, missing, options_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisSettings", "RedisSink"]

SCHEMES: Final[Mapping[str, int | None]] = {"redis": 6379, "rediss": 6379, "unix": None}

STREAM: Final = "relay"
MAXLEN: Final = 100_000
KEEP: Final = 7 * 86_400.0

_BEHIND: Final = "equal or smaller"
"""In the error for an id that is not above that of the last entry, in every version of both servers."""

_OTHER_WRITER: Final = (
    "a later entry is in the stream already; give each sink a stream of its own, since its ids have to grow"
)
_COMMAND: Final = re.compile(r".*caused error: \(?['\"]?(.*?)['\"]?,?\)?", re.DOTALL)


class RedisSettings(RemoteSettings, frozen=True, kw_only=True):
    """The records of each epoch in a stream `STREAM:EPOCH`; the key `STREAM:current` holds the name of the latest.

    *url*: `redis://`, `rediss://` (TLS) or `unix://`. A stream keeps about *maxlen* entries, and expires *keep* seconds
    after the last one.
    """

    kind: ClassVar[str] = "redis"

    stream: Annotated[str, Meta(min_length=1, max_length=200, description="a key, of at most 200 characters")] = STREAM
    maxlen: Annotated[int, Meta(ge=1, le=10**9, description="a number of entries from 1 on")] = MAXLEN
    keep: Duration = KEEP


class RedisSink(RemoteSink["Redis"]):
    """Appends each record to a stream of Redis or Valkey, one for each epoch, as RedisSettings says.

    An entry has the fields `job`, `type` and `record`, the JSON on the wire, and `skipped` if records are missing in
    front of it. A batch is one transaction. Raises ConfigError for an address that cannot be one, and where the client
    is not installed.
    """

    settings: ClassVar[type[RedisSettings]] = RedisSettings

    @classmethod
    def from_settings(cls, settings: RedisSettings) -> Self:
        """The sink of one table of [[sinks]]."""
        return cls(**options_of(settings))

    def __init__(
        self,
        url: Secret | str,
        *,
        stream: str = STREAM,
        maxlen: int = MAXLEN,
        keep: float = KEEP,
        **options: Unpack[QueueOptions],
    ) -> None:
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError:
            raise missing("redis") from None
        super().__init__(url, _read, **options)
        self._client = partial(
            Redis,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=self.timeout,
            socket_connect_timeout=self.timeout,
        )
        self._stream = stream
        self._maxlen = maxlen
        self._keep = max(1, int(keep * 1000))
        self._current: str | None = None

    async def _connect(self, address: Address) -> "Redis":
        self._current = None
        host, port = address.hosts[0] if address.hosts else ("", 0)
        place: dict[str, Any] = {"unix_socket_path": address.path} if not host else {"host": host, "port": port}
        if address.scheme == "rediss":
            place |= {"ssl": True, "ssl_ca_certs": address.options.get("ssl_ca_certs")}
        return self._client(
            **place, db=_database(address), username=address.user or None, password=address.password or None
        )

    async def _write(self, connection: "Redis", records: Sequence[Record], skipped: int) -> list[Refused]:
        refused: list[Refused] = []
        for epoch, group in groupby(records, key=lambda record: record.position.epoch):
            key = f"{self._stream}:{epoch}"
            refused += await self._append(connection, key, list(group), skipped)
            skipped = 0
        return refused

    async def _append(self, connection: "Redis", key: str, records: list[Record], skipped: int) -> list[Refused]:
        # Without MULTI each command is on its own: one that is refused for want of memory could never be added behind
        # those that follow it.
        async with connection.pipeline(transaction=True) as commands:
            for record, fields in zip(records, _entries(records, skipped), strict=True):
                commands.xadd(key, fields, id=_id(record), maxlen=self._maxlen, approximate=True)
            commands.pexpire(key, self._keep)
            if self._current != key:
                commands.set(f"{self._stream}:current", key)
            results = cast("list[object]", await commands.execute(raise_on_error=False))
        behind: list[Record] = []
        for record, result in zip(records, results, strict=False):
            if isinstance(result, Exception):
                if _BEHIND not in str(result):
                    raise result
                behind.append(record)
        self._current = key
        return await self._not_there(connection, key, behind) if behind else []

    async def _not_there(self, connection: "Redis", key: str, records: list[Record]) -> list[Refused]:
        """Those of *records*, which have an id below the last entry's, that are not in the stream and never were.

        Nearly always all are there: this is the second attempt. An entry may have been trimmed or deleted since.
        """
        async with connection.pipeline(transaction=True) as commands:
            commands.xinfo_stream(key)
            for record in records:
                commands.xrange(key, _id(record), _id(record))
            stream, *found = await commands.execute()
        first = _offset(stream["first-entry"][0]) if stream["first-entry"] else math.inf
        deleted = _offset(stream.get("max-deleted-entry-id", b"0-0"))
        return [
            Refused(record, _OTHER_WRITER)
            for record, entries in zip(records, found, strict=True)
            if not entries and first < record.position.offset and deleted < record.position.offset
        ]

    async def _close(self, connection: "Redis", *, broken: bool) -> None:  # noqa: ARG002 - both are closed alike
        await connection.aclose()

    def _reason(self, error: Exception) -> object:
        # [measured] The error of a refused transaction repeats the command, with the record in it.
        match = _COMMAND.fullmatch(str(error))
        return match[1] if match else describe(error)


def _read(url: str) -> Address:
    address = read_address(url, SCHEMES, options=("ssl_ca_certs", "db"))
    if len(address.hosts) > 1:
        raise ConfigError("url names several hosts; a Redis stream has one")
    if not address.hosts and address.scheme != "unix":
        raise ConfigError("url has no host; it should look like redis://USER:PASSWORD@HOST")
    _database(address)
    return address


def _database(address: Address) -> int:
    number = address.options.get("db") or ("" if address.scheme == "unix" else address.path.strip("/"))
    if number and not re.fullmatch(r"[0-9]{1,5}", number):
        raise ConfigError("url has a path that is no number of a database, such as /0")
    return int(number or 0)


def _entries(records: Sequence[Record], skipped: int) -> Iterator[dict[Any, Any]]:
    for record in records:
        entry: dict[Any, Any] = {"job": record.job, "type": record.event.type, "record": record.json}
        if skipped:
            entry["skipped"], skipped = skipped, 0
        yield entry


def _id(record: Record) -> str:
    return f"{record.position.offset}-0"


def _offset(id: bytes) -> int:
    return int(id.partition(b"-")[0])
