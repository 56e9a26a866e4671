"""Streams are served in four ways, and a test of streams holds for all. The collector is left alone."""

from contextlib import nullcontext

import pytest

import relay.cli.serving
import tests.web.serving
from web import create_app
from web.stream_lane import StreamLane
from web.streaming.reactor import Reactor


@pytest.fixture(params=["on a descriptor", "on a transport", "with aiohttp", "on the short way"])
def take_over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Serve the streams of the test in four ways, one after the other: on a bare descriptor, on a transport that was
    taken over, as where there is no epoll, with `take_over=False`, and without aiohttp's server from the beginning.
    """
    chosen: bool = request.param != "with aiohttp"
    if request.param == "on a transport":
        without_reactor(monkeypatch)
    monkeypatch.setattr(tests.web.serving, "SHORT_WAY", request.param == "on the short way")
    if request.param != "on the short way":
        without_short_way(monkeypatch)
    monkeypatch.setitem(create_app.__kwdefaults__ or {}, "take_over", chosen)
    return chosen


@pytest.fixture(params=["on the short way", "with aiohttp's server"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `relay serve` answer plain requests for streams by itself, and then leave them to aiohttp's server."""
    if request.param != "on the short way":
        without_short_way(monkeypatch)


def without_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave every connection to aiohttp's server."""
    monkeypatch.setattr(StreamLane, "can_serve", lambda _: False)


def without_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no reactor adopt a descriptor, so that streams stay on the transports of the event loop."""
    monkeypatch.setattr(Reactor, "adopt", lambda *_: False)


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the collector as it is: to go through all objects of the tests takes longer than most of the tests.

    tests/cli/test_gc_tuning.py tests what `relay serve` does with it.
    """
    monkeypatch.setattr(relay.cli.serving, "tuned_gc", nullcontext)
