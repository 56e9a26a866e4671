"""Sinks and upstreams that the relay enters and leaves: each in a task of its own, within a bounded time."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Final

from relay.errors import UsageError
from relay.notices import INTERRUPTIONS, Notify, describe, interrupts
from relay.supervision.supervisor import Supervisor

__all__ = ["ENTER_WITHIN", "LEAVE_WITHIN", "Lifetime", "Lifetimes"]

ENTER_WITHIN: Final = 30.0
LEAVE_WITHIN: Final = 5.0
"""Seconds for entering one, and for leaving all of them together."""

LAST_MOMENT: Final = 0.5
"""Seconds for the clean-up of one that was cancelled because it was not left in time."""


class Lifetime:
    """One async context manager between its entering and its leaving, both of which happen in the same task.

    If it ends before it is left, for example because a task group of its own fails, that is a death: the supervisor
    enters it again. *what* is its name for the operator, such as "sink Webhook".
    """

    def __init__(self, what: str, managed: AbstractAsyncContextManager[object], notify: Notify) -> None:
        self.what = what
        self.leaving: asyncio.Event = asyncio.Event()
        self.inside: bool = False
        self.task: asyncio.Task[None] | None = None
        self._managed = managed
        self._notify = notify
        self._entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def enter(self, supervisor: Supervisor, within: float, consequence: str) -> None:
        """Enter it. Raises UsageError if that fails, or takes more than *within* seconds."""
        self.task = supervisor.start(self.what, self._live)
        try:
            await asyncio.wait([self._entered], timeout=within)
        finally:
            if not self._entered.done():
                self._entered.cancel()
                self.task.cancel()
        if self._entered.cancelled():
            raise UsageError(f"{self.what} was not ready within {within:g} s, {consequence}")
        if (error := self._entered.exception()) is not None:
            raise UsageError(f"{self.what} could not be started, {consequence}: {describe(error)}") from error

    async def _live(self) -> None:
        try:
            async with self._managed:
                self.inside = True
                if not self._entered.done():
                    self._entered.set_result(None)
                await self.leaving.wait()
        except INTERRUPTIONS:
            raise
        except BaseException as error:
            if not self._entered.done():
                self._entered.set_exception(error)
            elif not self.leaving.is_set() or interrupts(error, asyncio.current_task()):
                raise
            else:
                self._notify(f"{self.what} failed to close: {describe(error)}")
        finally:
            self.inside = False


class Lifetimes:
    """Sinks, or upstreams, that are entered one after the other and left together."""

    def __init__(self, supervisor: Supervisor, notify: Notify, *, enter_within: float, leave_within: float) -> None:
        self._supervisor = supervisor
        self._notify = notify
        self._enter_within = enter_within
        self._leave_within = leave_within
        self._entered: list[Lifetime] = []

    async def enter(
        self,
        what: str,
        managed: AbstractAsyncContextManager[object],
        *,
        consequence: str = "so the relay does not start",
    ) -> Lifetime:
        """Enter *managed*. Raises UsageError if that fails or takes too long; `leave` is due all the same.

        *consequence* ends the sentence of the error.
        """
        self._entered.append(lifetime := Lifetime(what, managed, self._notify))
        await lifetime.enter(self._supervisor, self._enter_within, consequence)
        return lifetime

    async def leave(self, only: Lifetime | None = None) -> None:
        """Leave *only* this one, or all that were entered, together.

        One that takes too long is cancelled, and the operator is notified.
        """
        leaving = list(self._entered) if only is None else [only]
        self._entered = [] if only is None else [one for one in self._entered if one is not only]
        tasks: dict[asyncio.Task[None], Lifetime] = {}
        for lifetime in leaving:
            lifetime.leaving.set()
            if lifetime.task is not None and not lifetime.task.done():
                tasks[lifetime.task] = lifetime
                if not lifetime.inside:
                    lifetime.task.cancel()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._leave_within)
        for task in late:
            self._notify(
                f"{tasks[task].what} did not close within {self._leave_within:g} s; its pending work may be lost"
            )
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=LAST_MOMENT)
