"""Work that may block, done in a thread behind a queue: what the bridges to other logs have in common."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from relay.events import Record
from relay.queue import Queued

__all__ = ["InThread"]

TOGETHER: Final = (256, 0.05)
"""How many records, and for how many seconds, are handed to a thread at once: a hand-over costs 50 to 100 us."""


class InThread(Queued):
    """A sink that calls *handle* for each record in a thread, one after the other, and in order.

    A record that *handle* fails on is tried again, as `Queued` tries work again; those before it are not repeated.
    """

    def __init__(self, handle: Callable[[Record], object], **options: Any) -> None:
        super().__init__(self._work, batch=TOGETHER, **options)
        self._handle = handle
        self._batch: Sequence[Record] = ()
        self._handled = 0

    async def _work(self, records: Sequence[Record]) -> None:
        await asyncio.to_thread(self._handle_all, records)

    def _handle_all(self, records: Sequence[Record]) -> None:
        if records is not self._batch:
            self._batch, self._handled = records, 0
        for record in records[self._handled :]:
            self._handle(record)
            self._handled += 1
