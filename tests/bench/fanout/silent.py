"""An upstream that never answers."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from relay.jobs.observations import Answer
from relay.upstreams.base import ExchangeListener

__all__ = ["Silent"]

DAY: Final = 86_400.0


class Silent:
    """An upstream that is asked about its jobs once, and never answers: their story is the publisher's alone."""

    def __init__(self) -> None:
        self.name = "silent"
        self.interval = self.deadline = DAY
        self.on_exchange: ExchangeListener | None = None
        self.asked = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def observe(self, tasks: Sequence[str]) -> Answer:
        self.asked.set()
        await asyncio.Event().wait()
        return Answer(tasks={}, listed=0)
