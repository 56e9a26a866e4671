"""The code blocks of the documentation are tests, and every test runs on the event loop that is asked for."""

import asyncio
import os
from collections.abc import Callable

import pytest
from sybil import Sybil

from relay.cli.loops import VARIABLE, LoopName, loop_factory
from tests.docs.blocks import PARSERS, close_workbench, open_workbench

pytest_collect_file = Sybil(
    parsers=PARSERS,
    patterns=["README.md", "docs/**/*.md"],
    excludes=["docs/_build/**"],
    setup=open_workbench,
    teardown=close_workbench,
).pytest()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=("asyncio", "uvloop"),
        default="asyncio",
        help="the event loop of tests and of what they start",
    )


def pytest_configure(config: pytest.Config) -> None:
    os.environ[VARIABLE] = config.getoption("--loop")


def pytest_asyncio_loop_factories(
    config: pytest.Config,
    item: pytest.Item,  # noqa: ARG001
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    name: LoopName = config.getoption("--loop")
    return {name: loop_factory(name) or asyncio.new_event_loop}
