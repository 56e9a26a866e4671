"""What several files of tests of a cluster set up alike."""

from collections.abc import AsyncIterator

import pytest

from tests.cluster.members import Cluster
from tests.journal.redis.servers import engine, engine_server

__all__ = ["cluster", "engine", "engine_server"]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """An engine in this process, and nodes on it."""
    made = Cluster()
    yield made
    await made.stop()
