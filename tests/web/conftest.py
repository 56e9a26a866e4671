"""Streams are served in two ways, and a test of streams holds for both."""

import pytest

from web import create_app


@pytest.fixture(params=[True, False], ids=["taken over", "with aiohttp"])
def take_over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Make every application of the test with `take_over=True`, and then with `take_over=False`."""
    chosen: bool = request.param
    monkeypatch.setitem(create_app.__kwdefaults__ or {}, "take_over", chosen)
    return chosen
