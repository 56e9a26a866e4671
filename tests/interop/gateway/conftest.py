"""The programs of the clients, each started when it is first needed and ended with the session."""

from collections.abc import Iterator

import pytest

from tests.interop.gateway.program import Programs


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    programs = Programs()
    yield programs
    programs.end()
