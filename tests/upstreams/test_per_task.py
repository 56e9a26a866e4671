"""Tasks that are asked about one by one: never more at once than allowed, no trouble said twice, none left behind."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from aiohttp.web import Application, AppRunner, Request, Response, TCPSite

from relay.errors import UpstreamError, UsageError
from relay.jobs.observations import Observation
from relay.upstreams import PerTaskUpstream
from relay.upstreams.base import polls_each_task
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import segment
from tests.upstreams.stub import Stub, reply

RUNNING = Observation(status="running", raw_status="running")


class Plain(PerTaskUpstream):
    """The least that a dialect can be."""

    def __init__(self, base_url: str, *, concurrency: int = 8, timeout: float = 30.0) -> None:
        super().__init__(
            base_url, "token", name="plain", interval=1.0, deadline=60.0, concurrency=concurrency, timeout=timeout
        )

    async def submit(self, input: Mapping[str, Any]) -> str:
        return await self._create("jobs", input, key="data.id")

    def _path(self, task: str) -> str:
        return f"jobs/{segment(task)}"

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        if body.get("status") == "bug":
            raise ZeroDivisionError
        return Observation(status="running", raw_status=body["status"])


class Api:
    """A server that answers each path as *answer* says, and knows how many requests were under way at once."""

    def __init__(self, answer: Callable[[str], Awaitable[Response] | Response]) -> None:
        self._answer = answer
        self.asked: list[str] = []
        self.now = 0
        self.most = 0
        self.gone = asyncio.Event()

    async def __aenter__(self) -> "Api":
        app = Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: Request) -> Response:
        task = request.match_info["path"].rpartition("/")[2]
        self.asked.append(task)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            answer = self._answer(task)
            return answer if isinstance(answer, Response) else await answer
        finally:
            self.now -= 1
            if self.now == 0:
                self.gone.set()


def said(code: int = 200, /, **body: object) -> Response:
    return Response(status=code, text=json.dumps(body), content_type="application/json")


def running(_: str) -> Response:
    return said(status="running")


def kinds(answer: Mapping[str, object]) -> dict[str, str]:
    return {task: said.kind if isinstance(said, UpstreamError) else "running" for task, said in answer.items()}


def test_it_says_that_it_is_asked_for_each_task() -> None:
    assert polls_each_task(Plain("http://gateway"))


def test_a_concurrency_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="concurrency is a number of requests, 1 or more"):
        Plain("http://gateway", concurrency=0)


async def test_each_task_is_asked_for_once_and_what_answered_is_counted() -> None:
    async with Api(running) as api, Plain(api.url) as plain:
        answer = await plain.observe(["a", "b", "a", "c"])
    assert (sorted(api.asked), answer.listed) == (["a", "b", "c"], 3)
    assert answer.tasks == {"a": RUNNING, "b": RUNNING, "c": RUNNING}


async def test_nothing_is_asked_where_there_is_no_task() -> None:
    async with Api(running) as api, Plain(api.url) as plain:
        answer = await plain.observe([])
    assert (api.asked, answer.listed, answer.tasks) == ([], 0, {})


async def test_no_more_than_the_allowed_number_is_asked_at_once_over_all_calls() -> None:
    enough = asyncio.Event()
    let = asyncio.Event()

    async def held(_: str) -> Response:
        if api.now == 3:
            enough.set()
        await let.wait()
        return said(status="running")

    async with Api(held) as api, Plain(api.url, concurrency=3) as plain:
        calls = [asyncio.create_task(plain.observe([f"{n}-{m}" for m in range(5)])) for n in range(4)]
        await enough.wait()
        let.set()
        answers = await asyncio.gather(*calls)
    assert (api.most, sum(answer.listed for answer in answers), len(api.asked)) == (3, 20, 20)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "not-found"), (400, "refused"), (500, "server"), (403, "auth"), (200, "malformed")]
)
async def test_an_error_about_one_task_stands_for_that_task_alone(status: int, kind: str) -> None:
    def odd(task: str) -> Response:
        return Response(status=status, text="[]") if task == "b" else said(status="running")

    async with Api(odd) as api, Plain(api.url) as plain:
        answer = await plain.observe(["a", "b", "c"])
    assert (kinds(answer.tasks), answer.listed) == ({"a": "running", "b": kind, "c": "running"}, 2)


@pytest.mark.parametrize(("status", "kind"), [(401, "auth"), (429, "rate-limit"), (503, "server")])
async def test_trouble_of_the_account_is_raised_once(status: int, kind: str) -> None:
    async with Api(lambda _: said(status, message="no")) as api, Plain(api.url, concurrency=4) as plain:
        with pytest.raises(UpstreamError) as caught:
            await plain.observe([str(n) for n in range(100)])
    assert caught.value.kind == kind
    assert len(api.asked) < 10, "the rest is not asked for"


async def test_an_upstream_that_is_down_is_said_once() -> None:
    async with Api(running) as api:
        url = api.url
    async with Plain(url, concurrency=2) as plain:
        with pytest.raises(UpstreamError) as caught:
            await plain.observe(["a", "b", "c", "d"])
    assert caught.value.kind == "network"


async def test_a_rate_limit_keeps_what_was_learnt_and_asks_no_further() -> None:
    def limited(_: str) -> Response:
        return said(status="running") if len(api.asked) <= 2 else said(429, message="slower")

    async with Api(limited) as api, Plain(api.url, concurrency=1) as plain:
        answer = await plain.observe(["a", "b", "c", "d", "e"])
    told = {"a": "running", "b": "running", "c": "rate-limit", "d": "rate-limit", "e": "rate-limit"}
    assert (kinds(answer.tasks), api.asked) == (told, ["a", "b", "c"])


async def test_one_task_that_is_forbidden_for_good_does_not_keep_the_others_from_being_asked() -> None:
    def odd(task: str) -> Response:
        return said(403, message="not yours") if task == "first" else said(status="running")

    async with Api(odd) as api, Plain(api.url, concurrency=2) as plain:
        answer = await plain.observe(["first", *"abcdef"])
    assert kinds(answer.tasks) == {"first": "auth", **dict.fromkeys("abcdef", "running")}


async def test_a_call_that_is_cancelled_leaves_no_request_behind() -> None:
    asked = asyncio.Event()

    async def never(_: str) -> Response:
        if api.now == 2:
            asked.set()
        await asyncio.Event().wait()
        return said()

    async with Api(never) as api, Plain(api.url, concurrency=2) as plain:
        call = asyncio.create_task(plain.observe(["a", "b", "c", "d"]))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await api.gone.wait()
        assert not [task for task in asyncio.all_tasks() if "_work" in repr(task.get_coro())]
    assert sorted(api.asked) == ["a", "b"]


async def test_a_fault_of_the_adapter_is_raised_as_it_is() -> None:
    async with Api(lambda _: said(status="bug")) as api, Plain(api.url) as plain:
        with pytest.raises(ZeroDivisionError):
            await plain.observe(["a", "b"])


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("task_01", "/jobs/task_01"),
        ("a/../b", "/jobs/a%2F..%2Fb"),
        ("a?b#c", "/jobs/a%3Fb%23c"),
        ("%2e%2e", "/jobs/%252e%252e"),
        ("ü \r\n", "/jobs/%C3%BC%20%0D%0A"),
    ],
)
async def test_a_task_id_cannot_leave_its_place_in_the_path(task: str, path: str) -> None:
    async with Stub(reply('{"status": "running"}')) as stub, Plain(stub.url) as plain:
        await plain.observe([task])
    assert stub.paths == [path]


@pytest.mark.parametrize("task", ["", ".", ".."])
async def test_what_no_path_can_hold_is_not_found_and_not_asked_for(task: str) -> None:
    async with Stub(reply("{}")) as stub, Plain(stub.url) as plain:
        answer = await plain.observe([task])
    assert (kinds(answer.tasks), stub.paths) == ({task: "not-found"}, [])


@pytest.mark.parametrize("answer", ["{}", "[]", '{"data": null}', '{"data": {"id": {}}}', '{"data": {"id": ""}}'])
async def test_a_submit_whose_answer_names_no_task_says_that_the_task_may_exist(answer: str) -> None:
    async with Stub(reply(answer)) as stub, Plain(stub.url) as plain:
        with pytest.raises(UpstreamError, match="may have been created, but the answer names no task"):
            await plain.submit({"prompt": "a cat"})
    assert stub.paths == ["/jobs"], "and is not repeated"
