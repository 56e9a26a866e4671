"""The record of use, for the operator: submissions, cancellations, refusals, and changes of the relay itself.

It names the subject and the address, and no token. Refusals are reported once a minute for each address.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from aiohttp.web import AppKey, Request

from relay.notices import Notify
from relay.text import bounded, inert
from web.access.access import ACCESS
from web.access.denied import DeniedError
from web.access.guard import GUARD

__all__ = ["PLACES", "QUIET_FOR", "USE_LOG", "UseLog"]

QUIET_FOR: Final = 60.0
PLACES: Final = 1_000
"""How many addresses have a line of their own within QUIET_FOR seconds; all others share one."""

_LINE: Final = 300
_UNIX: Final = "a unix socket"


class UseLog:
    """Notifies the operator of what is done with an access; of nothing while everybody has every access."""

    def __init__(self, notify: Notify, now: Callable[[], float]) -> None:
        self._notify = notify
        self._now = now
        self._told: dict[str, float] = {}
        self._untold: Counter[str] = Counter()

    def used(self, request: Request, what: str) -> None:
        """The subject of *request* did *what*, such as "submitted job_1 to sora"."""
        access = request.get(ACCESS)
        if access is not None and access.subject:
            self._say(f"{access.subject} at {_address(request)} {what}")

    def refused(self, request: Request, denied: DeniedError) -> None:
        """A request was refused; one without any credential is no news."""
        if not denied.reason and denied.status == 401:
            return
        address, now = _address(request), self._now()
        place = address if address in self._told or len(self._told) < PLACES else "others"
        if now - self._told.get(place, -QUIET_FOR) < QUIET_FOR:
            self._untold[place] += 1
            return
        self._told[place] = now
        more = f" (and {count:,} more since the last such line)" if (count := self._untold.pop(place, 0)) else ""
        self._say(f"{address} was refused ({denied.status:d}): {denied.detail}{more}")
        self._told = {known: at for known, at in self._told.items() if now - at < QUIET_FOR or self._untold[known]}

    def _say(self, line: str) -> None:
        self._notify(bounded(inert(line), _LINE))


def _address(request: Request) -> str:
    return request.app[GUARD].address(request) or _UNIX


USE_LOG: Final = AppKey("use_log", UseLog)
