"""The laws of an adapter, as a function that checks one."""

import asyncio
from functools import partial

from relay.testing.conduct import CONDUCT_LAWS
from relay.testing.hastening import HasteningLoop, run_hastened
from relay.testing.laws import ANSWER_LAWS, Law
from relay.testing.trial import BrokenLawError, Make, UpstreamBodies, trying

__all__ = ["check_upstream"]


def check_upstream(make: Make, bodies: UpstreamBodies) -> None:
    """Hold an adapter to every law: what it makes of answers good and bad, and how it behaves.

    *make* is called with a base URL and a token and returns the adapter, which is entered and left; it is made anew for
    each law. *bodies* are examples of what its upstream answers. A server on loopback serves them, as they are and
    spoilt in many ways. Timeouts pass in no time.

    Raises AssertionError for the first law that is broken, with its name and what was seen. What the figures and words
    of a dialect mean is not checked: that is for tests of its own. Needs no test runner. Call it where no event loop
    runs; raises RuntimeError elsewhere.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        for law in (*ANSWER_LAWS, *CONDUCT_LAWS):
            run_hastened(partial(_hold, law, make, bodies))
    else:
        raise RuntimeError("check_upstream runs an event loop of its own; call it from a test that is not async")


async def _hold(law: Law, make: Make, bodies: UpstreamBodies, loop: HasteningLoop) -> None:
    name = "the adapter"
    try:
        async with trying(make, bodies, loop) as trial:
            name = type(trial.upstream).__qualname__
            await law(trial)
    except BrokenLawError as broken:
        raise BrokenLawError(f"{name} breaks the law {law.__name__!r}: {broken}") from broken.__cause__
