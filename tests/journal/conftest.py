"""All journals: what one promises, the others promise too."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import TypeAlias

import pytest

from relay.journal import Journal, MemoryJournal, Retention, SqliteJournal
from tests.journal.awaited import AwaitedJournal
from tests.journal.redis.servers import EngineServer, running_engine

Open: TypeAlias = Callable[..., Journal]

_NAMES = count()


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=[pytest.mark.server, pytest.mark.redis])])
def begin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Begin a journal."""
    with ExitStack() as stack:

        def begun(keep: Retention | None = None) -> Journal:
            return stack.enter_context(closing(_begun(request, tmp_path, keep)))

        yield begun


def _begun(request: pytest.FixtureRequest, folder: Path, keep: Retention | None) -> Journal:
    match request.param:
        case "memory":
            return MemoryJournal(keep)
        case "sqlite":
            return SqliteJournal(folder / "relay.db", keep)
        case _:
            server: EngineServer = request.getfixturevalue("shared_engine")
            return AwaitedJournal(server.url, keep, name=f"contract-{next(_NAMES)}")


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[EngineServer]:
    """One redis-server for all journals that the contract is tried on; each has a name of its own."""
    with running_engine("redis") as server:
        yield server
