"""The laws of a sink as a fixture of pytest, and a summary of the sinks that were held to them.

Every run of pytest imports this module wherever the relay is installed, so it imports pytest and nothing else; the
laws come with the first use of the fixture. `-p no:progress_relay` turns it off.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from relay.testing import SinkReport

__all__ = ["check_sink", "pytest_terminal_summary"]

_PROPERTY: Final = "laws of sinks"


@pytest.fixture
def check_sink(request: pytest.FixtureRequest) -> "Callable[..., SinkReport]":
    """`relay.testing.check_sink`, whose reports are listed at the end of the run."""
    from relay.testing import check_sink as check

    def checked(sink: object, **options: Any) -> "SinkReport":
        report = check(sink, **options)
        # A property of the test, since that also comes from the processes of pytest-xdist, and into JUnit's XML.
        request.node.user_properties.append((_PROPERTY, str(report)))
        return report

    return checked


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List each sink that was checked: the laws that it keeps, and those that were not exercised."""
    lines = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == _PROPERTY
    ]
    if lines:
        terminalreporter.section(_PROPERTY)
        for line in lines:
            terminalreporter.write_line(line)
