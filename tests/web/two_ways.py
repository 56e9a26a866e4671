"""The same bytes to two servers of one relay, one with the short way to streams and one without: the answers are alike.

`python -m tests.web.two_ways 10000` compares that many heads of requests, the same ones each time; a second number is
the seed of others.
"""

import asyncio
import re
import sys
from asyncio import StreamReader
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import Any, Final

from aiohttp.web import Application
from hypothesis import HealthCheck, Phase, given, seed, settings
from msgspec import Struct

from relay import Relay
from relay.cli.listening import listening
from relay.cli.serving import serving_on
from relay.config.access_settings import AccessSettings
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep
from tests.web.access.house import ALL_WAYS, LISTED_ORIGIN
from tests.web.heads import Sent, heads
from web import create_app
from web.request_failures import FAILURES
from web.stream_lane import StreamLane
from web.streaming.keys import STREAMS

__all__ = ["ANSWERED_TOGETHER", "Answer", "Lanes", "Ways", "compare", "counted", "two_ways"]

PATIENCE: Final = 60.0
"""Seconds: a safety net only."""

ANSWERED_TOGETHER: Final = 10

ATTEMPTS: Final = 3
"""A server that closes a connection with unread bytes resets it, and its answer may be lost then."""

VARYING: Final = frozenset({"date"})
_RETRY: Final = re.compile(rb"retry: \d+")

TAIL: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""Follows bytes that may be no whole request, so that there is an answer in any case."""


class Answer(Struct, frozen=True):
    """A response: of a stream, its first bytes."""

    status: int
    fields: Sequence[tuple[str, str]]
    body: bytes


class Lanes(Struct):
    """How many requests were answered on the short way, and how many were offered to it."""

    opened: int = 0
    offered: int = 0


class Ways(Struct, frozen=True):
    """Two applications of one relay, and the ports that they are served on: with the short way first."""

    apps: tuple[Application, Application]
    ports: tuple[int, int]


@asynccontextmanager
async def two_ways(access: AccessSettings | None = None) -> AsyncGenerator[Ways]:
    """A relay with the jobs job_0 and job_1, which run, and job_2, which has ended."""
    numbers = iter(range(3))
    relay = Relay([TwoStep(_runs)], clock=ManualClock(), new_job_id=lambda: f"job_{next(numbers)}")
    options: dict[str, Any] = {"hosts": {"localhost", "127.0.0.1"}, "origins": {LISTED_ORIGIN}, "access": access}
    async with relay, AsyncExitStack() as stack:
        owner = "" if access is None else "key:ann"
        jobs = [relay.follow("scripted", task, owner) for task in ("a", "b", "c")]
        await relay.cancel(jobs[2].id)
        apps, ports = [], []
        for fast in (True, False):
            app = create_app(relay, **options)
            listeners = stack.enter_context(listening("127.0.0.1", 0))
            await stack.enter_async_context(serving_on(app, listeners, fast_accept=fast))
            apps.append(app)
            ports.append(listeners.sockets[0].getsockname()[1])
        yield Ways((apps[0], apps[1]), (ports[0], ports[1]))


def _runs(tasks: Any) -> Any:
    return dict.fromkeys(tasks, RUNNING)


@asynccontextmanager
async def counted() -> AsyncGenerator[Lanes]:
    """Count what the short way does meanwhile."""
    lanes, opens = Lanes(), StreamLane.open

    def opened(*args: Any) -> bool:
        found = opens(*args)
        lanes.opened += found
        lanes.offered += 1
        return found

    StreamLane.open = opened  # type: ignore[assignment, method-assign]
    try:
        yield lanes
    finally:
        StreamLane.open = opens  # type: ignore[method-assign]


async def compare(ways: Ways, sent: Sent) -> None:
    """Raises AssertionError if the two servers answer differently to *sent*, each time it is tried."""
    for left in reversed(range(ATTEMPTS)):
        fast, slow = await asyncio.gather(*(_answer(port, sent) for port in ways.ports))
        if fast == slow:
            return
        if not left:
            assert fast == slow, sent


async def compare_counts(ways: Ways) -> None:
    """Raises AssertionError if the two applications have counted differently."""
    fast, slow = ([*app[FAILURES].counts.items(), vars(app[STREAMS].counts)] for app in ways.apps)
    assert fast == slow
    for app in ways.apps:
        async with asyncio.timeout(PATIENCE):
            for stream in app[STREAMS]:
                await stream.done.wait()


async def _answer(port: int, sent: Sent) -> Answer | None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                for piece in sent.pieces if sent.whole else (b"".join(sent.pieces) + TAIL,):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
            return await _read(reader, bodiless=b"HEAD" in b"".join(sent.pieces))
    finally:
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
        writer.transport.abort()


async def _read(reader: StreamReader, *, bodiless: bool) -> Answer | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").rstrip().split("\r\n")
        fields = sorted((name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in rest))
        status, named = int(line.split()[1]), dict(fields)
        body = b""
        if status < 200:
            return await _read(reader, bodiless=bodiless)
        if bodiless or status in (204, 304):
            pass
        elif named.get("transfer-encoding") == "chunked":
            body = await reader.readexactly(int(await reader.readuntil(b"\r\n"), 16))
        elif "content-length" in named:
            body = await reader.readexactly(int(named["content-length"]))
        elif named.get("content-type") == "text/event-stream":
            body = await reader.readuntil(b"\n\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    kept = tuple(field for field in fields if field[0] not in VARYING)
    return Answer(status, kept, _RETRY.sub(b"retry: 0", body))


def run(
    examples: int, number: int | None = None, access: AccessSettings | None = None, *, first: Sequence[Sent] = ()
) -> Lanes:
    """Compare *first*, and then *examples* heads, for which *number* is the seed.

    Without a seed they are the same each time, as long as the same modules are loaded: hypothesis draws from their
    constants as well. What has to be among the heads is therefore in *first*.
    """
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        ways, lanes = runner.run(_entered(stack, access))

        @settings(
            max_examples=examples // ANSWERED_TOGETHER,
            derandomize=number is None,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        )
        @given(heads(ANSWERED_TOGETHER))
        def all_alike(sent: Sequence[Sent]) -> None:
            runner.run(_all(ways, sent))

        try:
            runner.run(_all(ways, first))
            (all_alike if number is None else seed(number)(all_alike))()
            runner.run(compare_counts(ways))
        finally:
            runner.run(stack.aclose())
    return lanes


async def _entered(stack: AsyncExitStack, access: AccessSettings | None) -> tuple[Ways, Lanes]:
    lanes = await stack.enter_async_context(counted())
    return await stack.enter_async_context(two_ways(access)), lanes


async def _all(ways: Ways, sent: Sequence[Sent]) -> None:
    for one in sent:
        await compare(ways, one)


if __name__ == "__main__":
    heads_of_each, number = int(sys.argv[1]) // 2, int(sys.argv[2]) if len(sys.argv) > 2 else None
    for name, access in (("everybody", None), ("those with an access", ALL_WAYS)):
        lanes = run(heads_of_each, number, access)
        print(f"{name}: {heads_of_each:,} heads are answered alike, {lanes.opened:,} of them on the short way")  # noqa: T201
