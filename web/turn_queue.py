"""Fair turns at work on the event loop, so that a crowd of clients holds up no other work."""

import asyncio
from collections import deque
from typing import Final

__all__ = ["TurnQueue"]

AT_ONCE: Final = 4
"""How many turns one round of the event loop has: a turn is a page of records, or a slice of snapshots, and lasts a
few milliseconds at most."""


class TurnQueue:
    """A number of turns in each round of the loop; later callers wait for the next round, first come, first served.

    A plain `sleep(0)` between two pages lets other tasks run as well, but every reader that is behind has a page in
    each round: a hundred readers held the loop for a hundred pages.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._next_round: asyncio.Handle | None = None

    def has_turn(self) -> bool:
        """Whether it is the caller's turn at once, which counts as one then."""
        if not self._left or self._waiting:
            return False
        if self._next_round is None:
            self._next_round = asyncio.get_running_loop().call_soon(self._renew)
        self._left -= 1
        return True

    async def wait_turn(self) -> None:
        """Return when it is the caller's turn: at once if no caller waits and the round has a turn left."""
        if self.has_turn():
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _renew(self) -> None:
        self._left = self._at_once
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # its caller may have been cancelled
                turn.set_result(None)
                self._left -= 1
        used = self._left < self._at_once
        self._next_round = asyncio.get_running_loop().call_soon(self._renew) if used else None
