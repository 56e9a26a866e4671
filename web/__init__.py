"""The relay over HTTP: an aiohttp application, to run as it is, or to mount in another application."""

from web.app import create_app

__all__ = ["create_app"]
