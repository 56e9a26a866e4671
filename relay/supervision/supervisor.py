"""Tasks that run as long as the relay does: when one dies, the operator is notified, and it is started again."""

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

from relay.clock import Clock
from relay.notices import INTERRUPTIONS, Notify, describe, guarded, interrupts

__all__ = [
    "FIRST_WAIT",
    "LONGEST_WAIT",
    "STEADY",
    "Supervise",
    "Supervisor",
    "Work",
    "stop",
    "unsupervised",
]

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Makes the coroutine of a task; called again for each restart."""

Supervise: TypeAlias = Callable[[str, Work], "asyncio.Task[None]"]
"""`Supervisor.start`, for code that needs nothing else of it."""

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
"""Seconds from the death of a task to its next start: at first, and at most. Each wait is twice the one before."""

STEADY: Final = 60.0
"""Seconds that a task must run until the next wait is FIRST_WAIT again."""


def unsupervised(name: str, work: Work) -> "asyncio.Task[None]":
    """A task for *work* that is never started again."""
    return asyncio.create_task(work(), name=name)


async def stop(tasks: "Collection[asyncio.Task[None]]", within: float) -> list[str]:
    """Cancel all of *tasks*; return the names of those that have not ended within *within* seconds."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return []
    done, late = await asyncio.wait(tasks, timeout=within)
    for task in done:
        if not task.cancelled():
            task.exception()  # or asyncio logs that it was never retrieved
    return sorted(task.get_name() for task in late)


class Supervisor:
    """Starts tasks, and restarts those that die. All its times are of *clock*.

    Work ends by returning, or by being cancelled; any other end is a death, also a CancelledError without a
    cancellation. A death is one notice. Until the task has run again for as long as it waited, `problems` names it.
    """

    def __init__(self, clock: Clock, notify: Notify) -> None:
        self._clock = clock
        self._notify = guarded(notify)
        self._deaths: dict[int, _Death] = {}
        self._numbers = count()

    def start(self, name: str, work: Work) -> "asyncio.Task[None]":
        """Keep *work* running until it returns, or until the task that this returns is cancelled.

        *name* is its name for the operator, such as "the poller of sora".
        """
        number = next(self._numbers)
        task = asyncio.create_task(self._keep(number, name, work), name=name)
        task.add_done_callback(lambda _: self._deaths.pop(number, None))
        return task

    def problems(self) -> list[str]:
        """One sentence for each task that died and has not run well again since."""
        now = self._clock.monotonic()
        return [death.text for death in self._deaths.values() if now < death.over_at]

    async def _keep(self, number: int, name: str, work: Work) -> None:
        wait = FIRST_WAIT
        while True:
            began = self._clock.monotonic()
            cause = await self._run(name, work)
            if cause is None:
                return
            if self._clock.monotonic() - began >= STEADY:
                wait = FIRST_WAIT
            text = f"{name} broke off with {cause}"
            self._deaths[number] = _Death(text, math.inf)
            self._notify(f"{text}; it is started again in {wait:g} s")
            await self._clock.sleep(wait)
            self._deaths[number] = _Death(text, self._clock.monotonic() + wait)
            wait = min(2 * wait, LONGEST_WAIT)

    async def _run(self, name: str, work: Work) -> str | None:
        """Run *work* once, in a task of its own: a cancellation of that task differs from one of its supervisor.

        Returns the cause of its death, None if it ended well.
        """
        try:
            return await asyncio.create_task(_cause_of_death(work), name=f"work of {name}")
        except INTERRUPTIONS:
            return None  # it ends the process, and has passed through the loop by itself
        except asyncio.CancelledError as error:
            if interrupts(error, asyncio.current_task()):
                raise
            return "a cancellation without a request"


async def _cause_of_death(work: Work) -> str | None:
    task = asyncio.current_task()
    try:
        await work()
    except (*INTERRUPTIONS, asyncio.CancelledError):
        raise
    except BaseException as error:
        if interrupts(error, task):
            raise
        return describe(error)
    return None


class _Death(NamedTuple):
    text: str
    over_at: float
