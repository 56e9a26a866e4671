"""Each server is started once for all tests that need it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.sinks.servers.far import Far, NatsFar, PostgresFar, RedisFar
from tests.sinks.servers.programs import NatsServer, PostgresServer, RedisServer, Server
from tests.sinks.servers.wire import Wire


def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    yield from _running(RedisServer())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    yield from _running(PostgresServer())


@pytest.fixture(scope="session")
def nats_server() -> Iterator[Server]:
    yield from _running(NatsServer())


@pytest.fixture
def redis(redis_server: Server) -> RedisFar:
    return RedisFar(redis_server)


@pytest.fixture
def postgres(postgres_server: Server) -> PostgresFar:
    return PostgresFar(postgres_server)


@pytest.fixture
def nats(nats_server: Server) -> NatsFar:
    return NatsFar(nats_server)


@pytest.fixture
def far(request: pytest.FixtureRequest) -> Far:
    """The server of the kind that the test is parametrised with."""
    made: Far = request.getfixturevalue(request.param)
    return made


@pytest.fixture
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    """A wire to the server of the test. A sink that was left has no task of its own any more."""
    far: Far = request.getfixturevalue("far")
    before = asyncio.all_tasks()
    async with Wire(far.server.dial) as made:
        yield made
        left = asyncio.all_tasks() - before - made.tasks - {asyncio.current_task()}
        assert left == set()
