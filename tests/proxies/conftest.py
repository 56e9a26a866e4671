"""The real Chromium of tests/browser, for a look through real proxies."""

from tests.browser.conftest import browser

__all__ = ["browser"]
