"""How the tests are shared out: which of them stay together in one process, and which run on both event loops.

`make test` runs them in several processes. A file stays in one of them, so that what it sets up once is set up once.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from relay.cli.loops import LoopName

__all__ = ["ByRoom", "loops_of"]

TESTS: Final = Path(__file__).parent

TOGETHER: Final = ("bench", "browser", "faults", "interop", "parity", "proxies")
"""Rooms whose tests run one after another: each starts browsers, proxies or relays that need a processor."""

ON_BOTH_LOOPS: Final = ("attachments", "bus", "polling", "queue", "relay", "supervision", "web")
"""Rooms that work with sockets, tasks and time most."""


class ByRoom(LoadFileScheduling):  # type: ignore[misc]
    """Gives out whole files, and all rooms of TOGETHER as if they were one file."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "together" if _room(TESTS.parent / file) in TOGETHER else file


def loops_of(file: Path, wanted: str) -> list[LoopName]:
    """The event loops that a test in *file* runs on, if *wanted* is `asyncio`, `uvloop` or `both`."""
    if wanted == "uvloop":
        return ["uvloop"]
    if wanted == "both" and _room(file) in ON_BOTH_LOOPS and find_spec("uvloop") is not None:
        return ["asyncio", "uvloop"]
    return ["asyncio"]


def _room(file: Path) -> str:
    return file.relative_to(TESTS).parts[0] if file.is_relative_to(TESTS) else ""
