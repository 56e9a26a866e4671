"""The common part of sinks that write to a server: a queue, one connection, a count of every record that is lost."""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Annotated, Any, ClassVar, Final, Generic, NamedTuple, TypedDict, TypeVar, Unpack

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from relay.errors import ConfigError
from relay.events import LEVELS, Level, Position, Record
from relay.queue import Counts, OnFull, Queued, Retries, RetryLater, Undeliverable
from relay.secret import Secret
from relay.text import bounded, inert
from relay.wire.addresses import Address, secret_parts

__all__ = [
    "CLOSE_WITHIN",
    "TIMEOUT",
    "Duration",
    "QueueOptions",
    "Refused",
    "RemoteSettings",
    "RemoteSink",
    "missing",
    "options_of",
    "within",
]

C = TypeVar("C")

CLOSE_WITHIN: Final = 1.0
"""Seconds that a connection has to close. One to a machine that stands still is left after that."""

MESSAGE_LIMIT: Final = 200
"""The most characters of a server's own words in a notice."""

RETRIES: Final = Retries(within=math.inf, base=0.1, cap=10.0)
"""A batch waits for its server without a limit in time; the bound of the queue decides how much waits."""

BATCH: Final = 500
LINGER: Final = 0.05
TIMEOUT: Final = 10.0
CAPACITY: Final = 10_000

_DURATION: Final = 'a number of seconds, or text like "500ms", "90s" or "1h"'

Duration = Annotated[float, Meta(gt=0, le=366 * 86400.0, description=f"{_DURATION}, above 0")]


class RemoteSettings(Struct, frozen=True, kw_only=True):
    """The keys that every sink of this kind has.

    *batch*: the most records that are written together; *linger*: seconds that the first of them waits for others.
    *timeout*: seconds for one attempt, connecting included. *capacity*, *on_full*: as in `relay.queue.Queued`.
    """

    kind: ClassVar[str]

    url: Secret
    batch: Annotated[int, Meta(ge=1, le=10_000, description="a number of records from 1 to 10000")] = BATCH
    linger: Annotated[float, Meta(ge=0, le=60, description=f"{_DURATION}, from 0 to 60 s")] = LINGER
    timeout: Annotated[float, Meta(ge=0.1, le=300, description=f"{_DURATION}, from 0.1 s to 5 minutes")] = TIMEOUT
    capacity: Annotated[int, Meta(ge=1, le=1_000_000, description="a number of records from 1 to 1000000")] = CAPACITY
    on_full: Annotated[OnFull, Meta(description="one of drop-oldest, drop-newest, coalesce, close")] = "drop-oldest"
    level: Annotated[Level, Meta(description=f"one of {', '.join(LEVELS)}")] = "debug"

    def hidden(self) -> frozenset[str]:
        """The parts of *url* that no output may show. Its host is no secret: notices name it."""
        return secret_parts(self.url.reveal())


class QueueOptions(TypedDict, total=False):
    """What every sink of this kind accepts beside its own, as in RemoteSettings."""

    batch: int
    linger: float
    timeout: float
    capacity: int
    on_full: OnFull


class Refused(NamedTuple):
    """A record that the server will never accept, and why, in a sentence without secrets."""

    record: Record
    reason: str


class _Claim(NamedTuple):
    """A batch that was begun: its first position, the loss that its first record names, and its length."""

    first: Position
    skipped: int
    length: int


def options_of(settings: RemoteSettings) -> dict[str, Any]:
    """*settings* as arguments of their sink. Its level is the business of the relay."""
    return {key: value for key, value in asdict(settings).items() if key != "level"}


class RemoteSink(Queued, ABC, Generic[C]):
    """Writes records in batches over one connection, which is made when there is something to write.

    A server that cannot be reached, stands still or goes away does not matter to the relay: records wait in the queue,
    and each attempt is made over a new connection. An attempt that was cut off may have been carried out, so the same
    records are written again under the same keys, and the server leaves out what it has.

    Where records are missing, because the queue was full or the server refused them, the next record that is written
    says how many, as `skipped`.
    """

    def __init__(self, url: Secret | str, read: Callable[[str], Address], **options: Unpack[QueueOptions]) -> None:
        """*read* makes the address of what *url* is at that moment. Raises ConfigError as it does."""
        secret = url if isinstance(url, Secret) else Secret(url)
        self._read_address: Callable[[], Address] = lambda: read(secret.reveal())
        self._address = read(secret.reveal())
        super().__init__(
            self._deliver,
            capacity=options.get("capacity", CAPACITY),
            on_full=options.get("on_full", "drop-oldest"),
            batch=(options.get("batch", BATCH), options.get("linger", LINGER)),
            retries=RETRIES,
            timeout=options.get("timeout", TIMEOUT),
            lost=self._lose,
        )
        self.__qualname__ = type(self).__qualname__
        self._connection: C | None = None
        self._closing: asyncio.Task[None] | None = None
        self._skipped = 0
        self._claim: _Claim | None = None
        self._refused = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address})"

    def counts(self) -> Counts:
        """What became of the records so far; one that the server refused within a batch counts as failed."""
        counts = super().counts()
        return replace(counts, delivered=counts.delivered - self._refused, failed=counts.failed + self._refused)

    @property
    def missed(self) -> int:
        """How many records the server will never get."""
        return super().missed + self._refused

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self._disconnect(broken=False)
            await self._closed()

    @abstractmethod
    async def _connect(self, address: Address) -> C:
        """A connection to *address*. It is bounded in time by the attempt that it belongs to."""

    @abstractmethod
    async def _write(self, connection: C, records: Sequence[Record], skipped: int) -> list[Refused]:
        """Write *records*, which are in order, leaving out those that are there. The first one names *skipped*.

        Returns those that the server will never accept, whatever changes there. Raises anything else.
        """

    @abstractmethod
    async def _close(self, connection: C, *, broken: bool) -> None:
        """Close *connection*, which has failed if it is *broken*. It is cancelled after CLOSE_WITHIN seconds.

        It may raise.
        """

    def _abandon(self, connection: C) -> None:
        """Free what *connection* holds after `_close` was cancelled."""

    @abstractmethod
    def _reason(self, error: Exception) -> object:
        """The sentence for the operator about *error*. Parts of the URL that are secret are masked in it."""

    async def _deliver(self, records: Sequence[Record]) -> None:
        skipped = self._claimed(records)
        await self._closed()
        try:
            if self._connection is None:
                self._address = self._read_address()
                self._connection = await self._connect(self._address)
            refused = await self._write(self._connection, records, skipped)
        except RetryLater:
            raise
        except Exception as error:
            # Neither a second error of this connection nor the first one, which may hold the URL, is to be seen.
            words = self._address.masked(self._reason(error)).strip()
            reason = f"{self._address}: {bounded(inert(words), MESSAGE_LIMIT)}"
            self._disconnect(broken=True)
            raise RetryLater(reason) from None
        except BaseException:
            self._disconnect(broken=True)
            raise
        self._settle(records, skipped, refused)

    async def _lose(self, number: int) -> None:
        self._skipped += number

    def _claimed(self, records: Sequence[Record]) -> int:
        """The loss that the first of *records* names: in each attempt the same, since one in doubt may be stored."""
        first = records[0].position
        if self._claim is not None and self._claim.first == first:
            skipped = self._claim.skipped
        else:
            if self._claim is not None:
                self._skipped += self._claim.length  # which was given up on meanwhile
            skipped = self._skipped
        self._claim = _Claim(first, skipped, len(records))
        return skipped

    def _settle(self, records: Sequence[Record], skipped: int, refused: Sequence[Refused]) -> None:
        self._claim = None
        if not refused or refused[0].record is not records[0]:
            self._skipped -= skipped
        self._skipped += len(refused)
        if len(refused) == len(records):
            raise Undeliverable(f"{self._address}: {refused[0].reason}")
        self._refused += len(refused)
        for one in refused:
            self._worker.notify(f"{self._worker.what}: {one.record.position} is left out: {one.reason}")

    def _disconnect(self, *, broken: bool) -> None:
        """Begin to close the connection. An attempt that is cancelled does not wait for that, so it ends at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._closing = asyncio.create_task(self._close_in_time(connection, broken), name=f"closing of {self!r}")

    async def _close_in_time(self, connection: C, broken: bool) -> None:
        if not await within(CLOSE_WITHIN, self._close(connection, broken=broken)):
            self._abandon(connection)

    async def _closed(self) -> None:
        """Return once the last connection has been closed, which is within CLOSE_WITHIN seconds."""
        if self._closing is not None:
            await asyncio.wait((self._closing,))
            self._closing = None


async def within(seconds: float, act: Awaitable[object]) -> bool:
    """Await *act*, whatever it raises, for at most *seconds*; return whether it was done by then.

    [measured] `asyncio.wait_for` waits on for work that swallows its cancellation; `asyncio.wait` does not.
    """
    task = asyncio.ensure_future(act)
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
    finally:
        task.cancel()
    if done:
        with suppress(Exception, asyncio.CancelledError):
            task.result()
    return bool(done)


def missing(extra: str) -> ConfigError:
    """The error where the client that *extra* installs is not there."""
    return ConfigError(f'this sink needs a client that is not installed: pip install "progress-relay[{extra}]"')
