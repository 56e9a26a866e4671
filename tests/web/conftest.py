"""Streams are served in three ways, and a test of streams holds for both. The collector is left alone."""

from contextlib import nullcontext

import pytest

import relay.cli.serving
from web import create_app
from web.streaming.reactor import Reactor


@pytest.fixture(params=["on a descriptor", "on a transport", "with aiohttp"])
def take_over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Serve the streams of the test in three ways, one after the other: on a bare descriptor, on a transport that was
    taken over, as where there is no epoll, and with `take_over=False`.
    """
    chosen: bool = request.param != "with aiohttp"
    if request.param == "on a transport":
        without_reactor(monkeypatch)
    monkeypatch.setitem(create_app.__kwdefaults__ or {}, "take_over", chosen)
    return chosen


def without_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no reactor adopt a descriptor, so that streams stay on the transports of the event loop."""
    monkeypatch.setattr(Reactor, "adopt", lambda *_: False)


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the collector as it is: to go through all objects of the tests takes longer than most of the tests.

    tests/cli/test_gc_tuning.py tests what `relay serve` does with it.
    """
    monkeypatch.setattr(relay.cli.serving, "tuned_gc", nullcontext)
