"""The requests about single tasks that are under way, and what they have brought."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from relay.errors import UpstreamError
from relay.jobs.observations import Answer
from relay.polling.adapter_requests import AdapterRequests, Call
from relay.polling.watch import Watch

__all__ = ["OpenRequests", "PollOutcome"]


class PollOutcome(NamedTuple):
    """The answer to one request and the seconds it took, or its error; None if no request was made any more."""

    watch: Watch
    answer: tuple[Answer, float] | UpstreamError | None
    is_result: bool


class OpenRequests:
    """Requests under way, a task for each. *arrived* is called with each outcome that is kept in `outcomes`."""

    def __init__(self, adapter: AdapterRequests, arrived: Callable[[], object]) -> None:
        self.outcomes: list[PollOutcome] = []
        self._adapter = adapter
        self._arrived = arrived
        self._requests: dict[Watch, asyncio.Task[None]] = {}

    def make(self, watch: Watch, call: Call, *, is_result: bool) -> None:
        """Make a request about the job of *watch*, which has none under way."""
        self._requests[watch] = asyncio.create_task(self._await_answer(watch, call, is_result=is_result))

    def take_outcomes(self) -> list[PollOutcome]:
        """The outcomes since the last time, in the order in which they have come."""
        outcomes, self.outcomes = self.outcomes, []
        return outcomes

    async def cancel(self) -> None:
        """Leave no task and no outcome behind."""
        while requests := [request for request in self._requests.values() if not request.done()]:
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
        self._requests.clear()
        self.outcomes.clear()

    async def _await_answer(self, watch: Watch, call: Call, *, is_result: bool) -> None:
        answer: tuple[Answer, float] | UpstreamError | None
        try:
            answer = await self._adapter.request(call, [watch])
        except UpstreamError as error:
            answer = error
        except BaseException:
            self._keep(PollOutcome(watch, UpstreamError("internal", "the request was cancelled"), is_result))
            raise
        self._keep(PollOutcome(watch, answer, is_result))

    def _keep(self, outcome: PollOutcome) -> None:
        """Keep the outcome of a request, however it has ended: a job without one would never be polled again."""
        self._requests.pop(outcome.watch, None)
        self.outcomes.append(outcome)
        self._arrived()
