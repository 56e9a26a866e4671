"""One look at many tasks, each with a request of its own, a few at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeAlias

from relay.errors import ErrorKind, UpstreamError
from relay.jobs.observations import Answer, Observation

__all__ = ["OF_THE_ACCOUNT", "TaskRound"]

OF_THE_ACCOUNT: Final[tuple[ErrorKind, ...]] = ("auth", "rate-limit", "network", "timeout", "server")
"""Errors that concern the account as likely as one task, the most significant first."""

_Ask: TypeAlias = Callable[[str], Awaitable[Observation | UpstreamError | None]]
"""Asks about one task; returns its place in the answer, None where the answer is to leave the task out."""


class TaskRound:
    """The tasks of one `observe`, handed to the next free worker, and the answers about them.

    *ask* is awaited for each task and returns its place in the answer. After *patience* errors of the account
    in a row, or the first rate limit, the rest is left.
    """

    def __init__(self, tasks: Sequence[str], ask: _Ask, *, patience: int) -> None:
        self._ask = ask
        self._tasks = tasks
        self._left = iter(tasks)
        self._patience = patience
        self._outcomes: dict[str, Observation | UpstreamError] = {}
        self._answers = 0
        self._in_a_row = 0
        self._given_up: UpstreamError | None = None

    async def run(self, workers: int) -> Answer:
        """The answer about all tasks. Raises UpstreamError if none got one, and the reason is the account's."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work())
        except ExceptionGroup as errors:
            # A fault of the adapter: the poller reports it to the operator, and a group would hide it.
            raise errors.exceptions[0] from None
        return self._answer()

    async def _work(self) -> None:
        for task in self._next_tasks():
            self._record(task, await self._ask(task))

    def _next_tasks(self) -> Iterator[str]:
        while self._given_up is None and (task := next(self._left, None)) is not None:
            yield task

    def _record(self, task: str, outcome: Observation | UpstreamError | None) -> None:
        if outcome is not None:
            self._outcomes[task] = outcome
        if isinstance(outcome, Observation):
            self._answers += 1
        if not isinstance(outcome, UpstreamError) or outcome.kind not in OF_THE_ACCOUNT:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        # One odd task may be forbidden, or break the server, for good: it must not keep the others from being polled.
        if outcome.kind == "rate-limit" or self._in_a_row >= self._patience:
            self._given_up = outcome

    def _answer(self) -> Answer:
        errors = [outcome for outcome in self._outcomes.values() if isinstance(outcome, UpstreamError)]
        if errors and len(errors) == len(self._outcomes) and all(error.kind in OF_THE_ACCOUNT for error in errors):
            raise min(errors, key=lambda error: OF_THE_ACCOUNT.index(error.kind))
        if self._given_up is not None:
            for task in self._tasks:
                self._outcomes.setdefault(task, self._given_up)
        return Answer(listed=self._answers, tasks=self._outcomes)
