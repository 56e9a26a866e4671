"""Each law catches who breaks it, by its name: an adapter that is right but for one thing."""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import pytest
from msgspec.structs import replace

from relay.clock import SystemClock
from relay.errors import ErrorKind, UpstreamError
from relay.jobs.observations import Answer, Failure, Observation, Result, normalised
from relay.testing import UpstreamBodies, check_upstream
from relay.upstreams.base import ExchangeListener
from relay.upstreams.http.status import error_kind_for_status, retry_after
from relay.upstreams.reading.values import read_json

BODIES = UpstreamBodies(
    running={"id": "task-1", "state": "running", "done": 0.4},
    done={"id": "task-1", "state": "done", "url": "https://files.example/a.mp4"},
    failed={"id": "task-1", "state": "failed", "why": "broken"},
    input={"prompt": "a cat"},
    created={"id": "task-1"},
)

WORDS = {"done": "succeeded"}


class Right:
    """An adapter written by hand, without the classes that keep most laws by themselves. It keeps them all."""

    name = "right"
    interval = 2.5
    deadline = 600.0
    polls_each_task = True
    limit = 1024 * 1024

    def __init__(self, base_url: str, token: str) -> None:
        self.on_exchange: ExchangeListener | None = None
        self._base = base_url
        self._token = token

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.seconds()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def observe(self, tasks: Sequence[str]) -> Answer:
        return Answer(listed=1, tasks={tasks[0]: self.read(await self.ask("GET", f"/jobs/{tasks[0]}"))})

    async def submit(self, input: Mapping[str, Any]) -> str:
        task = (await self.ask("POST", "/jobs", dict(input))).get("id")
        if not isinstance(task, str):
            raise UpstreamError("malformed", "the answer names no task")
        return task

    def seconds(self) -> float | None:
        return 30.0

    def read(self, body: dict[str, Any]) -> Observation:
        word = body.get("state")
        if not isinstance(word, str):
            raise UpstreamError("malformed", "state is no text")
        status, word = normalised(WORDS.get(word, word)), self.quoted(word)
        if status == "failed":
            return Observation(status=status, raw_status=word, failure=self.failure(str(body.get("why"))))
        url = body.get("url")
        result = Result(urls=(url,) if isinstance(url, str) else ()) if status == "succeeded" else None
        return Observation(status=status, raw_status=word, percent=self.percent(body.get("done")), result=result)

    def quoted(self, word: str) -> str:
        return word.replace(self._token, "***")

    def failure(self, why: str) -> Failure:
        return Failure(kind="upstream", message=why.replace(self._token, "***"))

    def percent(self, figure: object) -> int | None:
        if not isinstance(figure, float) or not 0 <= figure <= 1:
            return None
        return round(figure * 100)

    def parse(self, content: bytes) -> Any:
        try:
            return read_json(content)
        except UpstreamError:
            return None

    def kind(self, status: int) -> ErrorKind:
        return error_kind_for_status(status)

    async def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        error: UpstreamError | None = None
        value: Any = None
        try:
            async with self._session.request(
                method, self._base + path, json=body, headers={"X-Token": self._token}, **self.options()
            ) as response:
                content = b""
                async for chunk in response.content.iter_chunked(65_536):
                    content += chunk
                    if not self.fits(response, content):
                        break
                value = self.parse(content)
                if response.status >= 300:
                    wait = self.wait(response.status, response.headers.get("Retry-After"))
                    said = self.words(content)
                    error = UpstreamError(
                        self.kind(response.status), f"status {response.status}{said}", retry_after=wait
                    )
                elif not isinstance(value, dict) or not self.fits(response, content):
                    error = UpstreamError("malformed", "the answer is no object of a fair size")
        except TimeoutError:
            error = UpstreamError("timeout", "too late")
        except (aiohttp.ClientError, OSError):
            error = UpstreamError("network", "no whole answer")
        if error is not None:
            raise error
        return dict(value)

    def options(self) -> dict[str, Any]:
        return {"allow_redirects": False}

    def fits(self, response: aiohttp.ClientResponse, content: bytes) -> bool:
        return len(content) <= self.limit

    def wait(self, status: int, header: str | None) -> float | None:
        return retry_after(header, SystemClock().now())

    def words(self, content: bytes) -> str:
        return ""


class WithoutAName(Right):
    name = ""


class CallsItQueuedForEver(Right):
    def read(self, body: dict[str, Any]) -> Observation:
        said = super().read(body)
        return said if said.result or said.failure else Observation(status="unknown", raw_status=said.raw_status)


class ForgetsTheResult(Right):
    def read(self, body: dict[str, Any]) -> Observation:
        return Observation(status="succeeded") if body.get("state") == "done" else super().read(body)


class TakesAFailureForSuccess(Right):
    def failure(self, why: str) -> Any:
        return None


class StopsAtUnknownWords(Right):
    def read(self, body: dict[str, Any]) -> Observation:
        if body.get("state") not in ("running", "done", "failed"):
            raise UpstreamError("malformed", "state is not one of ours")
        return super().read(body)


class CountsBeyondAHundred(Right):
    def percent(self, figure: object) -> int | None:
        return round(figure * 100) if isinstance(figure, float) and abs(figure) < 9 else None


class FallsOverAText(Right):
    def percent(self, figure: Any) -> int | None:
        return None if figure is None else round(min(1.0, max(0.0, figure)) * 100)


class DoesNotNameTheField(Right):
    def read(self, body: dict[str, Any]) -> Observation:
        try:
            return super().read(body)
        except UpstreamError:
            raise UpstreamError("malformed", "the answer is odd") from None


class WantsAllFieldsAsTheyShouldBe(Right):
    def read(self, body: dict[str, Any]) -> Observation:
        if not isinstance(body.get("done"), float | None):
            raise UpstreamError("malformed", "done is no number")
        return super().read(body)


class ForgetsAFailureWithoutAReason(Right):
    def read(self, body: dict[str, Any]) -> Observation:
        said = super().read(body)
        return said if said.failure is None or isinstance(body.get("why"), str) else Observation(status="unknown")


class BringsTheTokenAlong(Right):
    def read(self, body: dict[str, Any]) -> Observation:
        said = super().read(body)
        return said if said.result is None else replace(said, result=replace(said.result, value=body))


class TakesAPageForNothing(Right):
    def parse(self, content: bytes) -> Any:
        return super().parse(content) or {"state": "running"}


class ReadsWithoutEnd(Right):
    limit = 1 << 40


class ReadsAByteTooMany(Right):
    limit = 1024 * 1024 + 1


class ReadsAByteTooFew(Right):
    limit = 1024 * 1024 - 1


class ReadsMoreOfWhatIsCompressed(Right):
    def fits(self, response: aiohttp.ClientResponse, content: bytes) -> bool:
        return len(content) <= self.limit * (8 if "Content-Encoding" in response.headers else 1)


class ReadsALevelTooMany(Right):
    def parse(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            return None


class ReadsALevelTooFew(Right):
    def parse(self, content: bytes) -> Any:
        return super().parse(b"[" + content + b"]") and super().parse(content)


class LooksResultsUpBlindly(Right):
    def read(self, body: dict[str, Any]) -> Observation:
        said = super().read(body)
        return Observation(status="succeeded") if said.result else said

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        with contextlib.suppress(UpstreamError):
            await self.ask("GET", "/results")
        done = Observation(status="succeeded", result=Result(urls=("https://files.example/a.mp4",)))
        return Answer(listed=1, tasks={tasks[0]: done})


class CallsAnOutageRefusal(Right):
    def kind(self, status: int) -> ErrorKind:
        return "refused" if status >= 500 else error_kind_for_status(status)


class CallsABadRequestAnOutage(Right):
    def kind(self, status: int) -> ErrorKind:
        return "server" if status == 400 else error_kind_for_status(status)


class CallsWhatCannotBeDoneAnOutage(Right):
    def kind(self, status: int) -> ErrorKind:
        return "server" if status == 422 else error_kind_for_status(status)


class CallsWhatIsGoneRefusal(Right):
    def kind(self, status: int) -> ErrorKind:
        return "refused" if status == 410 else error_kind_for_status(status)


class WaitsADay(Right):
    def wait(self, status: int, header: str | None) -> float | None:
        return float(header) if header is not None and header.isdigit() else super().wait(status, header)


class ObeysARateLimitAlone(Right):
    def wait(self, status: int, header: str | None) -> float | None:
        return super().wait(status, header) if status == 429 else None


class ObeysNoOutage(Right):
    def wait(self, status: int, header: str | None) -> float | None:
        return super().wait(status, header) if status < 500 else None


class FollowsRedirects(Right):
    def options(self) -> dict[str, Any]:
        return {}


class RepeatsTheUpstreamsWords(Right):
    def words(self, content: bytes) -> str:
        return ": " + content.decode("utf-8", "replace")[:300]


class GivesTheReasonUnmasked(Right):
    def failure(self, why: str) -> Failure:
        return Failure(kind="upstream", message=why)


class QuotesTheStateUnmasked(Right):
    def quoted(self, word: str) -> str:
        return word


class ShowsItsToken(Right):
    def __repr__(self) -> str:
        return f"<ShowsItsToken {self._token}>"


class CarriesTheRequestAlong(Right):
    async def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        try:
            return await super().ask(method, path, body)
        except UpstreamError as error:
            cause = ValueError(f"request with X-Token: {self._token}")
            raise UpstreamError(error.kind, error.message, retry_after=error.retry_after) from cause


class TriesAgain(Right):
    async def observe(self, tasks: Sequence[str]) -> Answer:
        try:
            return await super().observe(tasks)
        except UpstreamError:
            return await super().observe(tasks)


class Sleeps(Right):
    async def observe(self, tasks: Sequence[str]) -> Answer:
        await asyncio.sleep(1)
        return await super().observe(tasks)


class SubmitsTwice(Right):
    async def submit(self, input: Mapping[str, Any]) -> str:
        try:
            return await super().submit(input)
        except UpstreamError:
            return await super().submit(input)


class MakesUpATask(Right):
    async def submit(self, input: Mapping[str, Any]) -> str:
        try:
            return await super().submit(input)
        except UpstreamError:
            return "task-0"


class WaitsForEver(Right):
    def seconds(self) -> float | None:
        return None


class WaitsForEachByteAnew(Right):
    def options(self) -> dict[str, Any]:
        return {"allow_redirects": False, "timeout": aiohttp.ClientTimeout(total=None, sock_read=30)}


class LeavesItsRequestBehind(Right):
    async def observe(self, tasks: Sequence[str]) -> Answer:
        return await asyncio.shield(asyncio.ensure_future(super().observe(tasks)))


class SwallowsTheCancelling(Right):
    async def observe(self, tasks: Sequence[str]) -> Answer:
        try:
            return await super().observe(tasks)
        except asyncio.CancelledError:
            return Answer(listed=0, tasks={})


class LeavesATaskBehind(Right):
    async def __aenter__(self) -> Self:
        self._beat = asyncio.create_task(asyncio.Event().wait())
        return await super().__aenter__()


def test_an_adapter_written_by_hand_can_keep_all_laws() -> None:
    check_upstream(Right, BODIES)


@pytest.mark.parametrize(
    ("adapter", "law", "seen"),
    [
        (WithoutAName, "contract", "name is a text that is not empty"),
        (CallsItQueuedForEver, "running", "a running task came out as Observation(status='unknown'"),
        (ForgetsTheResult, "done", "a finished task came out as Observation(status='succeeded'"),
        (TakesAFailureForSuccess, "failed", "a failed task came out as Observation(status='failed'"),
        (StopsAtUnknownWords, "unknown", "the status 'renderring' at state came out as an UpstreamError"),
        (CountsBeyondAHundred, "figures", "with 1.7 at done: percent is 170; it is 0 to 100, or None"),
        (FallsOverAText, "figures", "with '42%' at done: TypeError"),
        (DoesNotNameTheField, "figures", "with None at state, the error does not name the field"),
        (
            WantsAllFieldsAsTheyShouldBe,
            "beside",
            "with [] at done, which is beside the status, a running",
        ),
        (ForgetsAFailureWithoutAReason, "beside", "with [] at why, which is beside the status, a failed task came out"),
        (TakesAPageForNothing, "bodies", "a page of HTML came out as Observation(status='running'"),
        (ReadsWithoutEnd, "bodies", "a body that is too long came out as Observation(status='running'"),
        (ReadsAByteTooMany, "limits", "a body of 1,048,577 bytes came out as Observation(status='running'"),
        (ReadsAByteTooFew, "limits", "a body of 1,048,576 bytes came out as an UpstreamError"),
        (ReadsMoreOfWhatIsCompressed, "limits", "a compressed body of 1,048,577 bytes came out as Observation"),
        (ReadsALevelTooMany, "limits", "a body of 33 levels came out as Observation(status='running'"),
        (ReadsALevelTooFew, "limits", "a body of 32 levels came out as an UpstreamError"),
        (LooksResultsUpBlindly, "results", "a page of HTML at /results came out as Observation(status='succeeded'"),
        (CallsAnOutageRefusal, "statuses", "status 500 came out as an UpstreamError of kind 'refused'"),
        (CallsABadRequestAnOutage, "statuses", "status 400 came out as an UpstreamError of kind 'server'"),
        (CallsWhatCannotBeDoneAnOutage, "statuses", "status 422 came out as an UpstreamError of kind 'server'"),
        (CallsWhatIsGoneRefusal, "statuses", "status 410 came out as an UpstreamError of kind 'refused'"),
        (WaitsADay, "patience", "status 408 with Retry-After: 0 came out as"),
        (ObeysARateLimitAlone, "patience", "status 408 with Retry-After: 5 came out as"),
        (ObeysNoOutage, "patience", "status 500 with Retry-After: 5 came out as"),
        (FollowsRedirects, "redirects", "a redirect with status 301 was followed"),
        (RepeatsTheUpstreamsWords, "secrecy", "the token is revealed with status 400"),
        (GivesTheReasonUnmasked, "secrecy", "the token is revealed with the token at why"),
        (QuotesTheStateUnmasked, "secrecy", "the token is revealed with the token at state of a task that runs"),
        (BringsTheTokenAlong, "secrecy", "the token is revealed with the token at id of a finished task"),
        (ShowsItsToken, "secrecy", "the token is revealed with its repr"),
        (CarriesTheRequestAlong, "secrecy", "the token is revealed with status 400"),
        (TriesAgain, "once", "after status 503 the same request was sent 2 times in one call"),
        (Sleeps, "once", "it sleeps; an adapter sends requests, and the poller waits"),
        (SubmitsTwice, "submits", "with a reset, the same was handed in 2 times"),
        (MakesUpATask, "submits", "with a reset, a submit came out as the task 'task-0'"),
        (WaitsForEver, "submits", "no answer and no error within 120 seconds; bound every request"),
        (WaitsForEachByteAnew, "bounds", "an answer without an end: no answer and no error within 120 seconds"),
        (LeavesItsRequestBehind, "cancelling", "a poll was cancelled, and its request goes on"),
        (SwallowsTheCancelling, "cancelling", "a poll was cancelled, and CancelledError did not come out of it"),
        (LeavesATaskBehind, "contract", "it was left, and 1 of its tasks still ran"),
    ],
)
def test_an_adapter_that_breaks_a_law_is_told_which(adapter: type[Right], law: str, seen: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_upstream(adapter, BODIES)
    assert str(caught.value).startswith(f"{adapter.__name__} breaks the law {law!r}: ")
    assert seen in str(caught.value)


async def test_it_runs_a_loop_of_its_own() -> None:
    with pytest.raises(RuntimeError, match="call it from a test that is not async"):
        check_upstream(Right, BODIES)
