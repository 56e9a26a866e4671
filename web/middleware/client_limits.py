"""Limits of one client, so that no client uses up the resources of all. The time is passed in."""

import math
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from aiohttp.web import AppKey

from relay import Relay, UnknownJobError
from web.middleware.problems import RequestError

__all__ = ["LIMITS", "ClientLimits"]

KNOWN_CLIENTS: Final = 10_000
"""How many clients' recent starts are kept; the client that has started no job for longest is dropped first."""

RETRY_AFTER: Final = 30
"""Seconds after which a client with too many running jobs may retry."""

SWEEP_FROM: Final = 1_024


class Start:
    """A request of *client*, which may start a job: called with its id, it checks and counts it in one step.

    A context manager: a start that is left without `kept` was none, and costs the client nothing.
    """

    def __init__(self, limits: "ClientLimits", client: str) -> None:
        self._limits = limits
        self._client = client
        self._job: str | None = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, job: str) -> None:
        """Raises RequestError (429) if the client may not start *job*."""
        self._limits.check(self._client)
        self._limits.record_start(self._client, job)
        self._job = job

    def kept(self, job: str) -> bool:
        """The request has led to *job*; return whether that is the one that was started here."""
        started, self._job = self._job, None
        if started is not None and started != job:
            self._limits.take_back(self._client, started)
        return started == job

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._job is not None:
            self._limits.take_back(self._client, self._job)


class ClientLimits:
    """Limits the running jobs of each client, and the jobs that it starts in a minute; 0 for no limit."""

    def __init__(self, relay: Relay, *, running: int, a_minute: int, now: Callable[[], float]) -> None:
        self._relay = relay
        self._most_running = running
        self._a_minute = a_minute
        self._now = now
        self._jobs: dict[str, set[str]] = {}
        self._sweep_at = SWEEP_FROM
        self._left: dict[str, tuple[float, float]] = {}

    def start(self, client: str) -> Start:
        """For a request of *client* that may start a job, which others of that client may do meanwhile."""
        return Start(self, client)

    def check(self, client: str) -> None:
        """Raises RequestError (429) if *client* may not start another job now."""
        if self._most_running and len(self._running(client)) >= self._most_running:
            raise _too_many(
                f"{self._most_running:,} jobs of this client are running, the most it may have"
                " (`max_jobs_per_client`); try again when some have ended",
                RETRY_AFTER,
            )
        if self._a_minute and (left := self._tokens(client)) < 1.0:
            raise _too_many(
                f"this client has begun {self._a_minute:,} jobs within a minute, the most it may"
                " (`new_jobs_per_minute`); try again a little later",
                math.ceil((1.0 - left) * 60 / self._a_minute),
            )

    def record_start(self, client: str, job: str) -> None:
        """Count *job*, which *client* has started."""
        if self._most_running:
            self._jobs.setdefault(client, set()).add(job)
            if sum(map(len, self._jobs.values())) >= self._sweep_at:
                self._sweep()
        if self._a_minute:
            left = self._tokens(client)
            self._left.pop(client, None)
            if len(self._left) >= KNOWN_CLIENTS:
                del self._left[next(iter(self._left))]
            self._left[client] = (left - 1.0, self._now())

    def take_back(self, client: str, job: str) -> None:
        """Count *job*, which *client* was about to start, no longer."""
        self._jobs.get(client, set()).discard(job)
        if client in self._left:
            left, at = self._left[client]
            self._left[client] = (left + 1.0, at)

    def _tokens(self, client: str) -> float:
        """How many jobs *client* may start at once: at most those of one minute."""
        left, at = self._left.get(client, (float(self._a_minute), 0.0))
        return min(float(self._a_minute), left + (self._now() - at) * self._a_minute / 60)

    def _running(self, client: str) -> set[str]:
        jobs = self._jobs.get(client, set())
        if len(jobs) >= self._most_running:
            jobs.difference_update([job for job in jobs if not self._runs(job)])
        return jobs

    def _sweep(self) -> None:
        """Drop jobs that have ended; called once the number of jobs has doubled since the last time."""
        running = {client: set(filter(self._runs, jobs)) for client, jobs in self._jobs.items()}
        self._jobs = {client: jobs for client, jobs in running.items() if jobs}
        self._sweep_at = max(SWEEP_FROM, 2 * sum(map(len, self._jobs.values())))

    def _runs(self, job: str) -> bool:
        try:
            return not self._relay.job(job).ended
        except UnknownJobError:
            return False


def _too_many(detail: str, seconds: int) -> RequestError:
    return RequestError(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(max(1, seconds))})


LIMITS: Final = AppKey("limits", ClientLimits)
