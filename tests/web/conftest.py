"""Streams are served in two ways, and a test of streams holds for both. The collector is left alone."""

from contextlib import nullcontext

import pytest

import relay.cli.serving
from web import create_app


@pytest.fixture(params=[True, False], ids=["taken over", "with aiohttp"])
def take_over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Make every application of the test with `take_over=True`, and then with `take_over=False`."""
    chosen: bool = request.param
    monkeypatch.setitem(create_app.__kwdefaults__ or {}, "take_over", chosen)
    return chosen


@pytest.fixture(autouse=True)
def collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the collector as it is: to go through all objects of the tests takes longer than most of the tests.

    tests/cli/test_gc_tuning.py tests what `relay serve` does with it.
    """
    monkeypatch.setattr(relay.cli.serving, "tuned_gc", nullcontext)
