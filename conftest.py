"""The code blocks of the documentation are tests, and every test runs on the event loops that are named."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sybil import Sybil

from relay.cli.loops import VARIABLE
from tests.docs.blocks import PARSERS, close_workbench, open_workbench
from tests.loops import factory_of
from tests.sharing import ByRoom, loops_of

# How long an example takes says how busy the machine is. Hypothesis has a profile of its own for CI, which says so too.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if "CI" not in os.environ:
    settings.load_profile("untimed")

# A package of its own, which is built, installed and tested by tests/docs/test_example_package.py.
collect_ignore = ["docs/examples"]

pytest_collect_file = Sybil(
    parsers=PARSERS,
    patterns=["README.md", "docs/**/*.md", "docs/reference/*/*.md"],
    excludes=["docs/_build/**", "docs/examples/**"],
    setup=open_workbench,
    teardown=close_workbench,
).pytest()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=("asyncio", "uvloop", "both"),
        default="asyncio",
        help="the event loop of tests and of the processes that they start; with both, some rooms run on each",
    )


def pytest_configure(config: pytest.Config) -> None:
    loop: str = config.getoption("--loop")
    os.environ[VARIABLE] = "asyncio" if loop == "both" else loop
    _let_programs_receive_signals()


def _let_programs_receive_signals() -> None:
    """Give the programs that tests start the signals of a terminal, also if this run itself is to ignore them.

    A run under nohup, or in the background of a script, ignores SIGHUP or SIGINT, and the programs that it starts
    inherit that. A handler is not inherited: a program that is started has the default in its place.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    wanted: str = config.getoption("--loop")
    return {name: factory_of(name) for name in loops_of(item.path, wanted)}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByRoom:
    return ByRoom(config, log)
