"""A node that knows what any other one knew a moment ago: a client may come from there."""

import asyncio

from relay.errors import JournalError
from relay.journal.shared import SharedJournal

__all__ = ["CatchingUp"]


class CatchingUp:
    """Waits for the tail of *journal*; one look at the engine serves all callers that came before it began."""

    def __init__(self, journal: SharedJournal) -> None:
        self._journal = journal
        self._running: asyncio.Task[bool] | None = None
        self._next: asyncio.Task[bool] | None = None

    async def __call__(self) -> bool:
        """Return once this node has all that the engine had when this was called; False if that is not to be had."""
        if self._next is None:
            self._next = asyncio.create_task(self._catch_up(self._running), name="catch up with the journal")
        # A caller that leaves does not take it from the others.
        return await asyncio.shield(self._next)

    async def _catch_up(self, before: "asyncio.Task[bool] | None") -> bool:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        try:
            await self._journal.catch_up()
        except JournalError:
            return False
        return True
