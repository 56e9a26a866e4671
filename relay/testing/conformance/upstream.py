"""The laws of an adapter, as a function that checks one."""

import asyncio
from functools import partial

from relay.testing.conformance.conduct import CONDUCT_LAWS
from relay.testing.conformance.fast_forward_loop import HasteningLoop, run_hastened
from relay.testing.conformance.laws import ANSWER_LAWS, Law
from relay.testing.conformance.trial import BrokenLawError, Make, UpstreamBodies, trying

__all__ = ["check_upstream"]


def check_upstream(make: Make, bodies: UpstreamBodies) -> None:
    """Hold an adapter to every law: how it reads good and bad answers, and how it behaves.

    *make* is called with a base URL and a token and returns the adapter, which is entered and left; it is made anew for
    each law. *bodies* are examples of its upstream's answers. A server on loopback serves them, as they are and
    broken in many ways. Timeouts cost no time.

    Raises AssertionError for the first broken law, with its name and the outcome. The meaning of a dialect's figures
    and words is not checked: write tests of your own for that. It needs no test runner. Call it outside an event loop;
    inside one it raises RuntimeError.
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
