"""The relay over HTTP: an aiohttp application, to run as it is, or to mount in another application.

Names are imported when they are first used: a part of it alone, such as `web.access.keys`, needs no application.
"""

from typing import TYPE_CHECKING

from relay._exports import lazy_exports

if TYPE_CHECKING:
    from web.access.access import Access as Access
    from web.access.guard import GUARD as GUARD
    from web.access.guard import Guard as Guard
    from web.app import create_app as create_app
else:
    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {"web.access.access": ["Access"], "web.access.guard": ["GUARD", "Guard"], "web.app": ["create_app"]},
    )
