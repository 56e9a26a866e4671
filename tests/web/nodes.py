"""Nodes of a cluster in one process, one of which is served."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import ClientSession
from aiohttp.web import Application

from relay import Job
from relay.events import Level, Log
from tests.cluster.house import Cluster, House, cluster
from tests.cluster.memory_engine import MemoryEngine
from tests.cluster.memory_node import MemoryNode
from tests.web.serving import serve_app
from web import create_app
from web.streaming.keys import STREAMS

__all__ = ["INTERVAL", "Served", "served"]

INTERVAL = 2.5
"""Seconds between two polls."""


class Served(NamedTuple):
    """Nodes, and the application of the first one."""

    nodes: Cluster
    house: House
    app: Application
    client: ClientSession

    @property
    def engine(self) -> MemoryEngine:
        assert self.nodes.engine is not None
        return self.nodes.engine

    def gates(self, house: House) -> MemoryNode:
        assert isinstance(house.journal, MemoryNode)
        return house.journal

    def say(self, job: Job, line: str, severity: Level = "info") -> None:
        """Publish at the owner of *job*."""
        owner = self.nodes.owner(job)
        owner.relay.bus.publish(owner.job(job), Log(line=line, severity=severity))

    async def all_live(self, count: int) -> None:
        """Return when *count* streams are open, and up to date."""
        while [stream.state for stream in self.app[STREAMS]] != ["live"] * count:
            await self.nodes.advance(0.0)

    async def lose(self) -> None:
        """Lose all data of the engine, and let its nodes begin anew."""
        self.engine.flush()
        await self.nodes.advance(3 * INTERVAL)


@asynccontextmanager
async def served(nodes: int = 1, **options: Any) -> AsyncGenerator[Served]:
    async with cluster(nodes) as made:
        house = made.houses[0]
        app = create_app(house.relay, **{"send_timeout": 3_600, "slow_after": 3_600, **options})
        async with serve_app(app) as client:
            yield Served(made, house, app, client)
