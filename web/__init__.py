"""The relay over HTTP: an aiohttp application, to be run as it is or mounted in one that exists."""

from web.app import create_app

__all__ = ["create_app"]
