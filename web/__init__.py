"""The relay over HTTP: an aiohttp application, to run as it is, or to mount in another application."""

from web.access.access import Access
from web.access.guard import GUARD, Guard
from web.app import create_app

__all__ = ["GUARD", "Access", "Guard", "create_app"]
