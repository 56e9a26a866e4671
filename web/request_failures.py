"""Failed requests: counted, and reported to the operator in one line now and then."""

import asyncio
import logging
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from aiohttp.web import AppKey

from relay.notices import Notify, notice
from relay.text import bounded, inert

__all__ = ["FAILURES", "QUIET_FOR", "Kind", "RequestFailures"]

Kind: TypeAlias = Literal["malformed", "failed"]
"""`malformed`: the client sent no HTTP request. `failed`: the relay could not answer, by its own fault."""

QUIET_FOR: Final = 60.0
"""Seconds between two lines about the same failure."""

PLACES: Final = 100
"""How many failures are reported separately; all others share one line in QUIET_FOR seconds."""

SENTENCE: Final = 300


class RequestFailures:
    """Counts failures by kind, and reports each at most once in QUIET_FOR seconds. *now* is in seconds.

    A traceback goes through *redact* before it is logged.
    """

    def __init__(
        self, notify: Notify = notice, now: Callable[[], float] | None = None, redact: Callable[[str], str] = str
    ) -> None:
        self.counts: Counter[Kind] = Counter({"malformed": 0, "failed": 0})
        self._notify = notify
        self._now = now
        self._redact = redact
        self._reported: dict[str, float] = {}
        self._unreported: Counter[str] = Counter()

    def malformed(self, why: str, client: str | None) -> None:
        """A request of *client* could not be read."""
        self.counts["malformed"] += 1
        self._report("malformed", f"a request from {client or 'a client'} could not be read: {why}")

    def failed(self, what: str, error: BaseException | None) -> None:
        """Something failed with an unexpected *error*; the log has its traceback at level DEBUG."""
        self.counts["failed"] += 1
        if error is not None and (logger := logging.getLogger("relay")).isEnabledFor(logging.DEBUG):
            # As text: a handler would print the exception as it is, with the secrets that a client's library quotes.
            logger.debug("%s\n%s", what, self._redact("".join(traceback.format_exception(error))))
        place = _place(error)
        self._report(place, f"{what}: {place}")

    def _report(self, thing: str, sentence: str) -> None:
        now = self._now() if self._now is not None else asyncio.get_running_loop().time()
        if thing not in self._reported and len(self._reported) >= PLACES:
            thing = "other"
        last = self._reported.get(thing)
        if last is not None and now - last < QUIET_FOR:
            self._unreported[thing] += 1
            return
        self._reported[thing] = now
        suppressed = self._unreported.pop(thing, 0)
        more = f" (and {suppressed:,} more like it since the last such line)" if suppressed else ""
        self._notify(bounded(inert(sentence), SENTENCE) + more)


def _place(error: BaseException | None) -> str:
    """The type of *error* and where it was raised; not its text, which may hold parts of the request."""
    if error is None:
        return "no reason is known"
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    where = f" in {frames[-1].name}, line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""
    return f"{type(error).__name__}{where}"


FAILURES: Final = AppKey("failures", RequestFailures)
