"""Both journals: what one promises, the other promises too."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeAlias

import pytest

from relay.journal import Journal, MemoryJournal, Retention, SqliteJournal

Open: TypeAlias = Callable[..., Journal]


@pytest.fixture(params=["memory", "sqlite"])
def begin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Begin a journal."""
    with ExitStack() as stack:

        def begun(keep: Retention | None = None) -> Journal:
            made = MemoryJournal(keep) if request.param == "memory" else SqliteJournal(tmp_path / "relay.db", keep)
            return stack.enter_context(closing(made))

        yield begun
