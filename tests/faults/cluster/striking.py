"""The faults of a soak: each strikes one node, its link or the engine, lasts for a while and is mended."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, get_args

from msgspec import Struct

from relay.clock import SystemClock
from tests.faults.cluster.engine import Engine
from tests.faults.cluster.history import FaultNote
from tests.faults.cluster.nodes import Node
from tests.faults.cluster.proxy import Proxy

__all__ = ["KINDS", "Kind", "Place", "Striker"]

Kind = Literal[
    "kill", "stop", "requests", "replies", "reset", "refuse", "delay", "clock", "leave", "engine-kill", "engine-stop"
]
"""`requests` and `replies` hold the bytes of a link in one direction; `stop` is SIGSTOP, from 0.5 to 2.5 leases."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

WEIGHTS: Final = {"kill": 3, "stop": 3, "requests": 2, "replies": 2, "reset": 2, "engine-stop": 0.3}

JUMPS: Final = (-7200.0, -30.0, 30.0, 3600.0, 100_000.0)
"""Seconds by which the time of day of a node is wrong."""


class Place(Struct, frozen=True, eq=False):
    """A node and its way to the engine."""

    node: Node
    proxy: Proxy


class Striker:
    """Strikes *places* and *engine*, by *chance*; *notes* has every fault in order. The engine stops *longest* seconds.

    One fault in four has company: another one, of another node or of the engine, at the same time.
    """

    def __init__(
        self, places: Sequence[Place], engine: Engine, chance: random.Random, *, lease: float, longest: float
    ) -> None:
        self.notes: list[FaultNote] = []
        self._places = places
        self._engine = engine
        self._chance = chance
        self._lease = lease
        self._longest = longest

    async def strike(self, kinds: Sequence[Kind] = KINDS) -> int:
        """One fault of *kinds*, or two; return their number once all of it is mended."""
        weights = [WEIGHTS.get(kind, 1) for kind in kinds]
        chosen = self._chance.choices(kinds, weights, k=2 if self._chance.random() < 0.25 else 1)
        if len(chosen) > 1 and all(map(_is_of_engine, chosen)):
            del chosen[1:]
        places = self._chance.sample(self._places, len(chosen))
        async with asyncio.TaskGroup() as tasks:
            for kind, place in zip(chosen, places, strict=True):
                tasks.create_task(self._strike_engine(kind) if _is_of_engine(kind) else self._strike_node(kind, place))
        return len(chosen)

    async def _strike_node(self, kind: Kind, place: Place) -> None:
        ways: dict[Kind, Callable[[Place], Awaitable[None]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "requests": self._hold_requests,
            "replies": self._hold_replies,
            "reset": self._reset,
            "refuse": self._refuse,
            "delay": self._delay,
            "clock": self._jump,
            "leave": self._leave,
        }
        await ways[kind](place)
        await self._lasts(0.1, 0.6)

    async def _strike_engine(self, kind: Kind) -> None:
        self._note(kind)
        if kind == "engine-kill":
            self._engine.kill()
            await self._lasts(0.0, 1.0)
            await asyncio.to_thread(self._engine.start)
        else:
            self._engine.freeze()
            await SystemClock().sleep(self._chance.uniform(0.1, self._longest))
            self._engine.thaw()
        self._note("engine-back")
        await self._lasts(0.5, 1.0)

    async def _kill(self, place: Place) -> None:
        name = place.node.name
        await place.node.kill()
        self._note("kill", name)
        await self._lasts(0.0, 2.0)
        await place.node.start()

    async def _leave(self, place: Place) -> None:
        self._note("leave", place.node.name)
        await place.node.leave()
        await self._lasts(0.0, 1.0)
        await place.node.start()

    async def _stop(self, place: Place) -> None:
        leases = self._chance.uniform(0.5, 2.5)
        self._note("stop" if leases > 1.5 else "pause", place.node.name)
        place.node.signal(signal.SIGSTOP)
        await SystemClock().sleep(leases * self._lease)
        place.node.signal(signal.SIGCONT)

    async def _hold_requests(self, place: Place) -> None:
        self._note("requests", place.node.name)
        place.proxy.requests.clear()
        await self._lasts(0.1, 2.5)
        if self._chance.random() < 0.5:
            # The client has given up, and sends the same again; the first one arrives nevertheless.
            place.proxy.give_up()
            await self._lasts(0.1, 0.5)
        place.proxy.release()

    async def _hold_replies(self, place: Place) -> None:
        self._note("replies", place.node.name)
        place.proxy.replies.clear()
        await self._lasts(0.1, 2.5)
        if self._chance.random() < 0.5:
            place.proxy.reset()
        place.proxy.release()

    async def _reset(self, place: Place) -> None:
        self._note("reset", place.node.name)
        place.proxy.reset()

    async def _refuse(self, place: Place) -> None:
        self._note("refuse", place.node.name)
        await place.proxy.refuse()
        await self._lasts(0.1, 2.5)
        await place.proxy.accept()

    async def _delay(self, place: Place) -> None:
        self._note("delay", place.node.name)
        place.proxy.delay = self._chance.uniform(0.01, 0.2) * self._lease
        await self._lasts(0.5, 2.0)
        place.proxy.release()

    async def _jump(self, place: Place) -> None:
        self._note("clock", place.node.name)
        place.node.jump(self._chance.choice(JUMPS))

    async def _lasts(self, least: float, most: float) -> None:
        """Wait for so many leases."""
        await SystemClock().sleep(self._chance.uniform(least, most) * self._lease)

    def _note(self, kind: str, node: str = "") -> None:
        self.notes.append(FaultNote(time.time(), kind, node))


def _is_of_engine(kind: Kind) -> bool:
    return kind.startswith("engine")
