"""The progress of a workflow of nodes, by its server's reports on each node. Pure: no I/O, no clock."""

import math
from typing import Any, Final, cast

from relay.upstreams.reading.values import read_number

__all__ = ["NodeProgress"]

NODES: Final = 10_000
"""How many nodes of one workflow are remembered."""

_STATES: Final = frozenset(
    {
        "execution_start",
        "execution_cached",
        "executing",
        "executed",
        "execution_success",
        "execution_error",
        "execution_interrupted",
    }
)


class NodeProgress:
    """ComfyUI's WebSocket messages about one task: which nodes are done, and how far the one at work is.

    *reported_at* is when that was last passed on, on the caller's clock.
    """

    __slots__ = ("_at_work", "_done", "_share", "reported_at")

    def __init__(self) -> None:
        self.reported_at: float = -math.inf
        self._done: set[str] = set()
        self._at_work: str | None = None
        self._share = 0.0

    def receive(self, kind: str, data: dict[str, Any]) -> bool:
        """Take in one message; return whether it is more than a step within a node."""
        match kind:
            case "execution_start":
                self._done, self._at_work, self._share = set(), None, 0.0
            case "execution_cached":
                for node in cast("list[object]", data["nodes"]) if isinstance(data.get("nodes"), list) else ():
                    self._finish(node)
            case "executing":
                self._begin(data.get("node"))
            case "executed":
                self._finish(data.get("node"))
            case "progress":
                self._begin(data.get("node"))
                self._share = max(self._share, _share(data.get("value"), data.get("max")))
            case "progress_state":
                states = data.get("nodes")
                for node, state in cast("dict[str, Any]", states).items() if isinstance(states, dict) else ():
                    if isinstance(state, dict) and cast("dict[str, Any]", state).get("state") == "finished":
                        self._finish(node)
            case _:
                pass
        return kind in _STATES

    def percent(self, nodes: int) -> int | None:
        """How much of a workflow of so many *nodes* is done, None where that is not known."""
        if nodes < 1:
            return None
        return min(100, math.floor(100 * (len(self._done) + self._share) / nodes))

    def _begin(self, node: object) -> None:
        if node != self._at_work:
            self._finish(self._at_work)
            self._at_work, self._share = node if isinstance(node, str) and node not in self._done else None, 0.0

    def _finish(self, node: object) -> None:
        if isinstance(node, str) and len(self._done) < NODES:
            self._done.add(node)
            if node == self._at_work:
                self._at_work, self._share = None, 0.0


def _share(value: object, whole: object) -> float:
    """How much *value* is of *whole*, from 0 to 1; 0 for what makes no sense."""
    part, all_of_it = read_number(value), read_number(whole)
    return min(1.0, max(0.0, part / all_of_it)) if part is not None and all_of_it is not None and all_of_it > 0 else 0.0
