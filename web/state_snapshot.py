"""The states of jobs at one moment, encoded slice by slice: there may be tens of thousands."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from relay import Bus, Job, Position, Snapshot
from web.turn_queue import TurnQueue

__all__ = ["StateSnapshot"]

SLICE: Final = 250
"""How many snapshots are encoded in one turn; that lasts about a millisecond."""


class StateSnapshot:
    """The published states of *jobs* at the moment of construction, and the position that they belong to.

    A state is immutable, so that a reference to it keeps the moment.
    """

    def __init__(self, bus: Bus, jobs: Sequence[Job]) -> None:
        self._position = Position(bus.journal.epoch, bus.journal.head)
        self._states = [(job.id, job.state) for job in jobs]

    def slices(self, size: int) -> Iterator[list[Snapshot]]:
        """The snapshots in order, *size* at a time; one empty slice if there is no job."""
        for start in range(0, max(len(self._states), 1), size):
            yield [Job(id, state).snapshot() for id, state in self._states[start : start + size]]

    async def encoded(self, turns: TurnQueue, more: Mapping[str, Any] | None = None) -> bytes:
        """A JSON object of `position`, the fields of *more*, and `jobs`."""
        head = msgspec.json.encode({"position": str(self._position), **(more or {})})
        parts: list[bytes] = []
        for snapshots in self.slices(SLICE):
            await turns.wait_turn()
            parts.append(msgspec.json.encode(snapshots)[1:-1])
        return b'%b,"jobs":[%b]}' % (head[:-1], b",".join(parts))
