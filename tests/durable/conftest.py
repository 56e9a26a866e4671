"""A relay's journal in a file, and the sinks that read it."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.durable.far_end import House, house


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def here(path: Path) -> Generator[House]:
    with house(path) as opened:
        yield opened
