"""One submission, however often a client repeats its request.

[measured] The SDKs of OpenAI, `ai` and LangChain repeat a POST three to seven times if it is answered 408, 409, 429 or
5xx, or if its connection is lost before the headers, and none of them sends an Idempotency-Key of its own. Some count
their repetitions in `x-stainless-retry-count`; `ai` sends the same request after 2 s and after 4 s, and marks none.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec
from aiohttp.web import Request

from relay import ConflictError, Job, Relay, UsageError
from web.access.access import ACCESS
from web.access.addresses import client_of
from web.access.use_log import USE_LOG
from web.gateway.errors import GatewayError
from web.middleware.client_limits import ClientLimits
from web.streaming.session import StreamSession

__all__ = ["Attempt", "Submissions"]

JOIN_WITHIN: Final = 600.0
"""Seconds after a submission in which the same request, repeated, joins its job."""

SETTLED: Final = 5.0
"""Seconds that a connection has to outlive its headers, or the answer counts as one that the client never received."""

REPEATED_WITHIN: Final = 10.0
"""Seconds after the loss of an answer in which the same request is its repetition, however much of it was received.

[measured] @ai-sdk/openai reads no reasoning: if a stream is lost before its first text, which may be minutes after its
headers, that client repeats the request 2 s later, unmarked.
"""

KEPT: Final = 10_000
"""How many requests without a key are remembered."""

KEY_LIMIT: Final = 160


class Attempt:
    """One request that submitted *job* without a key, and whether its client has received an answer."""

    def __init__(self, digest: str, job: Job, transport: asyncio.BaseTransport | None, at: float) -> None:
        self.digest = digest
        self.job = job
        self.at = at
        self.delivered: bool = False
        self.whole: bool = False
        self.ended_at: float | None = None
        self._transport = transport
        self._session: StreamSession | None = None

    @property
    def gone(self) -> bool:
        """Whether the connection of the request is closed."""
        if self._session is not None and self._session.has_descriptor:
            return False
        return self._transport is None or self._transport.is_closing()

    def ended(self, *, whole: bool, at: float) -> None:
        """The answer is over, and with it the connection's part in this."""
        self.whole, self.ended_at = whole, at
        self._transport = self._session = None

    def answered_by(self, session: StreamSession) -> None:
        """The answer is this stream, which may take over the connection of the request."""
        self._session = session


class Submissions:
    """Submits for clients that may repeat themselves. Keys are kept with the acceptance, so a restart forgets none."""

    def __init__(self, relay: Relay, limits: ClientLimits) -> None:
        self._relay = relay
        self._limits = limits
        self._attempts: deque[Attempt] = deque(maxlen=KEPT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def submit(
        self, request: Request, route: str, upstream: str, input: Mapping[str, Any], key: str | None
    ) -> tuple[Job, Attempt | None]:
        """The job of *input*, and the attempt whose fate is to be reported if the request has no *key*.

        The same *key* on the same *route* gives the same job. Without one, the same input of the same client joins the
        job of an earlier request whose connection is gone, and whose answer was not received, or broke off a moment
        ago. Two requests that are both open are two jobs. Raises GatewayError for a key that came with another input,
        and whatever `Requests.submit` raises.
        """
        if key is not None:
            self._relay.submitted(key, request[ACCESS].subject)  # raises UsageError for what cannot be a key
            return await self._submit(request, upstream, input, _scoped(route, key)), None
        canonical = msgspec.json.encode([client_of(request), route, upstream, input], order="sorted")
        digest = hashlib.sha256(canonical).hexdigest()
        repeated = request.headers.get("x-stainless-retry-count", "0") not in ("", "0")
        owner = request[ACCESS].subject
        # The submission is awaited: another of these requests is to find its attempt, and not to look before that.
        async with self._turns.setdefault(digest, asyncio.Lock()):
            job = self._earlier(digest, owner, repeated=repeated)
            if job is None:
                self._relay.release(_automatic(digest), owner)
                job = await self._submit(request, upstream, input, _automatic(digest))
            attempt = Attempt(digest, job, request.transport, self._relay.clock.monotonic())
            self._attempts.append(attempt)
        return job, attempt

    def begin_answer(self, attempt: Attempt | None, session: StreamSession) -> None:
        """The headers of the answer to *attempt* are sent; it is received if the connection outlives SETTLED."""
        if attempt is not None:
            attempt.answered_by(session)
            task = asyncio.get_running_loop().create_task(self._settle(attempt), name=f"answer {attempt.job.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def end_answer(self, attempt: Attempt | None, *, whole: bool) -> None:
        """The answer to *attempt* is over; *whole*: all of it was sent while the connection was open."""
        if attempt is not None:
            if whole:
                self._mark_delivered(attempt)
            attempt.ended(whole=whole, at=self._relay.clock.monotonic())

    async def close(self) -> None:
        """End the tasks that look after answers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _settle(self, attempt: Attempt) -> None:
        await self._relay.clock.sleep(SETTLED)
        if not attempt.gone:
            self._mark_delivered(attempt)

    def _mark_delivered(self, attempt: Attempt) -> None:
        """From now on the same request is a new one."""
        attempt.delivered = True
        key, owner = _automatic(attempt.digest), attempt.job.owner
        if self._relay.submitted(key, owner) is attempt.job:
            self._relay.release(key, owner)

    def _earlier(self, digest: str, owner: str, *, repeated: bool) -> Job | None:
        """The job that the same request has submitted, if that request got no answer, or if its answer was just lost;
        if *repeated*, its client says that it got none.
        """
        oldest = self._relay.clock.monotonic() - JOIN_WITHIN
        while self._attempts and self._attempts[0].at < oldest:
            self._attempts.popleft()
        known = [attempt for attempt in self._attempts if attempt.digest == digest]
        for attempt in reversed(known):
            if attempt.gone and (repeated or not attempt.delivered or self._broke_off_just_now(attempt)):
                return attempt.job
        if known:
            return None
        # A request from before a restart, which has closed its connection: its answer was not received.
        job = self._relay.submitted(_automatic(digest), owner)
        started = job.state.started if job is not None else None
        if started is None or (self._relay.clock.now() - started).total_seconds() > JOIN_WITHIN:
            return None
        return job

    def _broke_off_just_now(self, attempt: Attempt) -> bool:
        """Also if its connection is gone, and the answer has had nothing to write since."""
        if attempt.ended_at is None:
            return True
        return not attempt.whole and self._relay.clock.monotonic() - attempt.ended_at <= REPEATED_WITHIN

    def _check(self, upstream: str, input: Mapping[str, Any]) -> None:
        """Refuse now what would be a failed job later. Raises GatewayError."""
        try:
            self._relay.check_input(upstream, input)
        except UsageError as error:
            raise GatewayError(HTTPStatus.BAD_REQUEST, str(error), code="invalid_input") from None

    async def _submit(self, request: Request, upstream: str, input: Mapping[str, Any], key: str) -> Job:
        client, owner = client_of(request), request[ACCESS].subject
        if self._relay.submitted(key, owner) is None:
            self._check(upstream, input)
        with self._limits.start(client) as start:
            try:
                job = await self._relay.requests.submit(upstream, input, key=key, owner=owner, admit=start)
            except ConflictError:
                raise GatewayError(
                    HTTPStatus.BAD_REQUEST,
                    "this Idempotency-Key came with another request; use a new key for a new request",
                    code="idempotency_conflict",
                ) from None
            began = start.kept(job.id)
        if began:
            request.app[USE_LOG].used(request, f"submitted {job.id} at {upstream}")
        return job


def _scoped(route: str, key: str) -> str:
    """*key* as a key of this route alone."""
    short = key if len(key) <= KEY_LIMIT else hashlib.sha256(key.encode()).hexdigest()
    return f"{route} {short}"


def _automatic(digest: str) -> str:
    return f"repeated {digest}"
