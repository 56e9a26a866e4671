"""An API that is declared keeps the laws of every other upstream, whatever it answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay.errors import UpstreamError, UsageError
from relay.events import Exchange
from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.testing import ManualClock
from relay.upstreams import Cancels, Declared, FetchesResults, PollRequest, Submits, Upstream
from relay.upstreams.base import polls_each_task
from relay.upstreams.declared.readings import Finding
from tests.upstreams.declared.declarations import declared
from tests.upstreams.stub import Stub, reply

CANARY = "canary-9f31"

POLL = """
states = { Rendering = "running", baked = "succeeded", paused = "unknown" }
codes = { 1002 = "rate-limit", 1004 = "auth", 1026 = "policy", E5 = "server", nope = "not-found" }

[upstreams.poll]
path = "renders/{task}"
status = "state"
progress = "done"
scale = "total || `100`"
queue_position = "place"
eta = "seconds_left"
log = "log"
urls = "files[].href"
expires = "until"
error = "error.message || error"
code = "code"
"""

RESULT = """
[upstreams.poll]
path = "renders/{task}"
status = "state"

[upstreams.result]
path = "renders/{task}/files"
urls = "files"
error = "error"
code = "code"
answers = [404, 422]
"""

LIST = """
[upstreams.poll]
path = "renders"
items = "data"
id = "id"
status = "state"
progress = "done"
scale = 1
urls = "url"
error = "length(error)"
"""


async def said(folder: Path, keys: str, body: object, status: str = "200 OK", **headers: str) -> Observation:
    content = body if isinstance(body, str) else json.dumps(body)
    async with (
        Stub(reply(content, status, **headers)) as stub,
        declared(keys, stub.url, CANARY, folder, ManualClock()) as upstream,
    ):
        seen = (await upstream.observe(["r_1"])).tasks["r_1"]
    if isinstance(seen, UpstreamError):
        raise seen
    return seen


async def refused(folder: Path, keys: str, body: object, status: str = "200 OK", **headers: str) -> tuple[str, str]:
    with pytest.raises(UpstreamError) as caught:
        await said(folder, keys, body, status, **headers)
    return caught.value.kind, caught.value.message


def test_it_has_the_abilities_whose_requests_are_declared(tmp_path: Path) -> None:
    upstream = declared(POLL, "http://api", "t", tmp_path, ManualClock())
    abilities = [isinstance(upstream, ability) for ability in (Upstream, Submits, Cancels, FetchesResults)]
    assert abilities == [True, False, False, False]
    more = '\n[upstreams.submit]\npath = "renders"\nid = "id"\n[upstreams.cancel]\npath = "renders/{task}/stop"\n'
    upstream = declared(RESULT + more, "http://api", "t", tmp_path, ManualClock())
    abilities = [isinstance(upstream, ability) for ability in (Upstream, Submits, Cancels, FetchesResults)]
    assert abilities == [True, True, True, True]


def test_it_is_asked_once_for_all_where_there_are_items_and_else_for_each(tmp_path: Path) -> None:
    kinds = [polls_each_task(declared(keys, "http://api", "t", tmp_path, ManualClock())) for keys in (POLL, LIST)]
    assert kinds == [True, False]


async def test_what_is_declared_is_what_is_seen(tmp_path: Path) -> None:
    body = {"state": "RENDERING", "done": 12, "total": 48, "place": 3, "seconds_left": 9, "log": "one\ntwo\nthr"}
    assert await said(tmp_path, POLL, body, retry_after="7") == Observation(
        status="running",
        raw_status="RENDERING",
        percent=25,
        source="reported",
        queue_position=3,
        eta=9.0,
        log=("one", "two"),
        log_offset=0,
        poll_after=7.0,
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("rendering", "running"),
        (" Baked ", "succeeded"),
        ("IN_PROGRESS", "running"),
        ("paused", "unknown"),
        ("renderring", "unknown"),
        (True, "unknown"),
        (3, "unknown"),
    ],
)
async def test_words_are_the_api_s_own_then_the_relay_s_and_an_unknown_one_goes_on(
    state: object, status: str, tmp_path: Path
) -> None:
    seen = await said(tmp_path, POLL, {"state": state, "files": [{"href": "https://r/a.mp4"}]})
    assert (seen.status, seen.failure) == (status, None)
    assert seen.raw_status == (state if isinstance(state, str) else json.dumps(state))


@pytest.mark.parametrize(
    ("progress", "percent", "source", "raw"),
    [
        ({"done": 12, "total": 48}, 25, "reported", None),
        ({"done": 0.42, "total": 1}, 42, "reported", None),
        ({"done": 42}, 42, "reported", None),
        ({"done": 60, "total": 48}, 100, "reported", "60"),
        ({"done": -3, "total": 48}, 0, "reported", "-3"),
        ({"done": 3, "total": 0}, None, None, "3"),
        ({"done": 3, "total": "many"}, None, None, "3"),
        ({"done": 3, "total": True}, None, None, "3"),
        ({"done": None, "total": 48}, None, None, None),
        ({"done": "42%", "total": 48}, 42, "parsed", "42%"),
        ({"done": "12", "total": 48}, 25, "parsed", "12"),
        ({"done": "nearly 40 % and then 42.5% done"}, 42, "parsed", None),
        ({"done": "soon"}, None, None, "soon"),
        ({"done": ""}, None, None, None),
        ({"done": True}, None, None, "true"),
        ({"done": {"value": 1}}, None, None, '{"value": 1}'),
        ('{"state": "running", "done": NaN, "total": 48}', None, None, "NaN"),
        ('{"state": "running", "done": 1e999, "total": 48}', None, None, "1e999"),
        ('{"state": "running", "done": 1, "total": 1e-320}', None, None, "1"),
    ],
)
async def test_a_figure_is_clamped_or_none_and_never_breaks_the_poll(
    progress: Any, percent: int | None, source: str | None, raw: str | None, tmp_path: Path
) -> None:
    body = progress if isinstance(progress, str) else {"state": "running", **progress}
    seen = await said(tmp_path, POLL, body)
    assert (seen.status, seen.percent, seen.source, seen.raw_percent) == ("running", percent, source, raw)


@pytest.mark.parametrize("scale", ["1", "100", '"total"'])
async def test_a_scale_is_a_number_or_what_an_expression_finds(scale: str, tmp_path: Path) -> None:
    keys = POLL.replace('"total || `100`"', scale)
    done = {"1": 0.25, "100": 25, '"total"': 12}[scale]
    assert (await said(tmp_path, keys, {"state": "running", "done": done, "total": 48})).percent == 25


@pytest.mark.parametrize(
    ("place", "left", "seen_place", "eta"),
    [
        (0, 0, 0, 0.0),
        (None, None, None, None),
        (-1, -1, None, None),
        ("3", "9,5", 3, 9.5),
        ("soon", [], None, None),
        (True, False, None, None),
    ],
)
async def test_a_place_and_a_time_that_make_no_sense_are_none(
    place: object, left: object, seen_place: int | None, eta: float | None, tmp_path: Path
) -> None:
    seen = await said(tmp_path, POLL, {"state": "queued", "place": place, "seconds_left": left})
    assert (seen.queue_position, seen.eta) == (seen_place, eta)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"files": [{"href": "https://r/a.mp4"}, {"href": "https://r/b.mp4"}]}, ("https://r/a.mp4", "https://r/b.mp4")),
        ({"files": [{"href": "file:///etc/passwd"}, {"href": "a cat"}, {"href": 3}]}, ()),
        ({"files": []}, ()),
        ({"files": None}, ()),
        ({}, ()),
    ],
)
async def test_a_success_has_the_links_that_were_found_and_without_any_it_says_so(
    body: dict[str, Any], result: tuple[str, ...], tmp_path: Path
) -> None:
    seen = await said(tmp_path, POLL, {"state": "baked", **body})
    assert seen.result == Result(urls=result, media_types=("video/mp4",) * len(result), fileless=not result)
    assert seen.warning == (None if result else "the task has succeeded, and poll.urls finds nothing")


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (
            {"state": "failed", "error": "out of paint"},
            Failure(kind="upstream", message="out of paint", retryable=True),
        ),
        ({"state": "failed"}, Failure(kind="upstream", message="the upstream says 'failed'", retryable=True)),
        ({"state": "failed", "error": "against our policies"}, Failure(kind="policy", message="against our policies")),
        ({"state": "failed", "error": "no", "code": 1026}, Failure(kind="policy", message="no")),
        ({"state": "failed", "error": "no", "code": "nope"}, Failure(kind="not-found", message="no")),
        ({"state": "failed", "error": "no", "code": "E5"}, Failure(kind="upstream", message="no", retryable=True)),
        ({"state": "baked", "error": {"message": "burnt"}}, Failure(kind="upstream", message="burnt", retryable=True)),
        ({"state": "baked", "error": {"why": 1}}, Failure(kind="upstream", message='{"why": 1}', retryable=True)),
        ({"state": "baked", "code": 17}, Failure(kind="upstream", message="17", retryable=True)),
        ({"state": "canceled", "error": "by you"}, Failure(kind="cancelled", message="by you")),
        ({"state": None, "code": 1026, "error": "unsafe"}, Failure(kind="policy", message="unsafe")),
    ],
)
async def test_a_failure_is_never_shaped_like_a_success(body: dict[str, Any], failure: Failure, tmp_path: Path) -> None:
    seen = await said(tmp_path, POLL, {"files": [{"href": "https://r/a.mp4"}], **body})
    assert (seen.failure, seen.result) == (failure, None)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ({}, "malformed", "poll.status, 'state', finds nothing in the answer"),
        ([], "malformed", "poll.status, 'state', finds nothing in the answer"),
        ({"state": {}}, "malformed", "poll.status, 'state', finds nothing in the answer"),
        ({"error": "no such render"}, "refused", "the upstream tells of no task: no such render"),
        ({"error": "busy", "code": 1002}, "rate-limit", "the upstream answered: busy"),
        ({"error": "bad key", "code": "1004"}, "auth", "the upstream answered: bad key"),
        ({"error": f"bad key {CANARY}"}, "refused", "the upstream tells of no task: bad key ***"),
        ("<html>", "malformed", "the answer is an HTML page; JSON was expected"),
        ('{"state":', "malformed", "the answer is not JSON; JSON was expected"),
        ("[" * 40 + "]" * 40, "malformed", "the answer nests deeper than 32 levels"),
        ('"' + "x" * 1024 * 1024 + '"', "malformed", "the answer is longer than 1,048,576 bytes"),
    ],
)
async def test_an_answer_that_tells_of_no_task_is_a_failed_poll_of_its_kind(
    body: object, kind: str, message: str, tmp_path: Path
) -> None:
    assert await refused(tmp_path, POLL, body) == (kind, message)


@pytest.mark.parametrize(
    ("status", "kind"),
    [("429 Too Many", "rate-limit"), ("500 Oops", "server"), ("401 No", "auth"), ("404 None", "not-found")],
)
async def test_an_http_error_is_a_failed_poll_of_its_kind(status: str, kind: str, tmp_path: Path) -> None:
    assert (await refused(tmp_path, POLL, {"error": "x"}, status))[0] == kind


async def test_a_redirect_is_refused(tmp_path: Path) -> None:
    kind, message = await refused(tmp_path, POLL, "", "302 Found", location="http://169.254.169.254/")
    assert (kind, "a redirect, which is not followed" in message) == ("refused", True)


async def test_what_stands_beside_the_status_costs_it_nothing_and_without_one_it_must_be_read(
    tmp_path: Path,
) -> None:
    keys = POLL.replace('log = "log"', "log = \"join('', log)\"")
    assert (await said(tmp_path, keys, {"state": "running", "log": [1]})).status == "running"
    keys = POLL.replace('"error.message || error"', '"length(error)"')
    warning = "poll.error cannot be read: length() does not take a number"
    seen = await said(tmp_path, keys, {"state": "baked", "error": 7, "files": [{"href": "https://r/a"}]})
    assert (seen.result, seen.warning) == (Result(urls=("https://r/a",)), warning)
    assert await refused(tmp_path, keys, {"error": 7}) == ("malformed", warning)


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        ("a\nb\nc", ("a", "b")),
        (["a", "b\nc"], ("a", "b", "c")),
        ([{"m": 1}, None, "b"], ('{"m": 1}', "b")),
        ("10%\r20%\r30%\n", ("30%",)),
        (f"token {CANARY}\n", ("token ***",)),
        (None, ()),
        (7, ()),
    ],
)
async def test_a_log_is_told_in_whole_lines_from_its_beginning(
    log: object, lines: tuple[str, ...], tmp_path: Path
) -> None:
    seen = await said(tmp_path, POLL, {"state": "running", "log": log})
    assert (seen.log, seen.log_offset) == (lines, 0)


async def test_content_is_the_address_below_the_base_where_no_answer_names_one(tmp_path: Path) -> None:
    keys = '[upstreams.poll]\npath = "v/{task}"\nstatus = "state"\ncontent = "v/{task}/content"\n'
    async with (
        Stub(reply('{"state": "doone"}'), reply('{"state": "success"}')) as stub,
        declared(keys, stub.url, "t", tmp_path, ManualClock()) as upstream,
    ):
        first, second = (await upstream.observe(["a/b"])).tasks["a/b"], (await upstream.observe(["a/b"])).tasks
    assert isinstance(first, Observation)
    assert first.status == "unknown"
    assert isinstance(seen := second["a/b"], Observation)
    assert seen.result == Result(urls=(f"{stub.url}/v/a%2Fb/content",))
    assert stub.paths == ["/v/a%2Fb", "/v/a%2Fb"]


# Results behind a request of their own


async def fetched(folder: Path, body: object, status: str = "200 OK", keys: str = RESULT) -> Answer:
    async with (
        Stub(reply(json.dumps(body), status)) as stub,
        declared(keys, stub.url, CANARY, folder, ManualClock()) as upstream,
    ):
        assert isinstance(upstream, FetchesResults)
        return await upstream.fetch_result(["r_1"])


@pytest.mark.parametrize(
    ("body", "status", "end"),
    [
        ({"files": ["https://r/a.mp4"]}, "200 OK", Result(urls=("https://r/a.mp4",), media_types=("video/mp4",))),
        ({"files": []}, "200 OK", Result(fileless=True)),
        ({"error": "lost it"}, "200 OK", Failure(kind="upstream", message="lost it", retryable=True)),
        ({"files": ["https://r/a"], "error": "lost it"}, "422 No", Failure(kind="upstream", message="lost it",
                                                                           retryable=True)),
        ({"files": ["https://r/help"]}, "404 No", Failure(kind="upstream", message="the upstream answered 404",
                                                          retryable=True)),
    ],
)  # fmt: skip
async def test_a_result_that_is_there_ends_the_job_as_what_it_is(
    body: object, status: str, end: Result | Failure, tmp_path: Path
) -> None:
    seen = (await fetched(tmp_path, body, status)).tasks["r_1"]
    assert isinstance(seen, Observation)
    assert (seen.result or seen.failure) == end


async def test_a_result_that_is_not_there_yet_is_left_out(tmp_path: Path) -> None:
    assert (await fetched(tmp_path, {}, "202 Accepted")).tasks == {}


async def test_a_success_whose_result_is_elsewhere_is_no_end_yet(tmp_path: Path) -> None:
    seen = await said(tmp_path, RESULT, {"state": "succeeded", "files": ["https://r/a"]})
    assert (seen.status, seen.result, seen.failure) == ("succeeded", None, None)


async def test_a_rate_limit_on_the_result_costs_no_finished_job(tmp_path: Path) -> None:
    keys = 'codes = { 1002 = "rate-limit" }\n' + RESULT
    with pytest.raises(UpstreamError) as caught:
        await fetched(tmp_path, {"error": "slow down", "code": 1002}, keys=keys)
    assert caught.value.kind == "rate-limit"


# All tasks in one request


async def listed(folder: Path, body: object, *tasks: str, keys: str = LIST) -> Answer:
    async with (
        Stub(reply(json.dumps(body))) as stub,
        declared(keys, stub.url, CANARY, folder, ManualClock()) as upstream,
    ):
        answer = await upstream.observe(tasks)
    assert stub.paths == ["/renders"]
    return answer


async def test_one_request_answers_for_all_tasks_and_the_last_of_two_alike_counts(tmp_path: Path) -> None:
    items = [
        {"id": "a", "state": "running", "done": 0.1, "error": ""},
        {"id": 7, "state": "queued", "error": ""},
        {"id": "a", "state": "running", "done": 0.2, "error": ""},
        {"id": "other", "state": {}, "error": 3},
        "nonsense",
        {"id": None},
    ]
    answer = await listed(tmp_path, {"data": items}, "a", "7", "gone")
    seen = {task: said.percent for task, said in answer.tasks.items() if isinstance(said, Observation)}
    assert (answer.listed, seen) == (6, {"a": 20, "7": None})
    odd = {task: said.warning for task, said in answer.tasks.items() if isinstance(said, Observation)}
    assert odd == {"a": "the upstream lists this task twice; the last entry counts", "7": None}


async def test_an_item_that_cannot_be_read_is_that_task_s_trouble_alone(tmp_path: Path) -> None:
    items = [{"id": "a", "state": None, "error": 3}, {"id": "b", "state": "running", "error": ""}]
    answer = await listed(tmp_path, {"data": items}, "a", "b")
    assert isinstance(error := answer.tasks["a"], UpstreamError)
    assert (error.kind, error.message) == ("malformed", "poll.error cannot be read: length() does not take a number")
    assert isinstance(answer.tasks["b"], Observation)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {"a": 1}}, [], "x"])
async def test_a_list_that_is_none_is_never_taken_for_an_empty_one(body: object, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match=r"poll\.items finds no list in the answer"):
        await listed(tmp_path, body, "a")


async def test_ten_thousand_items_are_read_in_one_go(tmp_path: Path) -> None:
    items = [{"id": f"t{number}", "state": "running", "done": 0.5, "error": ""} for number in range(10_000)]
    answer = await listed(tmp_path, {"data": items}, *(f"t{number}" for number in range(10_000)))
    assert (answer.listed, len(answer.tasks)) == (10_000, 10_000)


# What is sent

SENDING = """
auth_header = "X-Key"
auth_scheme = ""
headers = { X-All = "all" }

[upstreams.submit]
path = "{+input.model}/renders"
query = { mode = "{input.mode?}" }
headers = { X-One = "one" }
body = { text = "{input.prompt}", seed = "{input.seed?}" }
id = "task.id"
error = "error"

[upstreams.poll]
method = "POST"
path = "query"
body = { ids = ["{task}"] }
status = "state"
content = "{task}"

[upstreams.cancel]
method = "PUT"
path = "renders/{task}"
error = "length(error || '') > `0` && error"
"""


async def sent(folder: Path, *answers: bytes, input: dict[str, Any]) -> tuple[str | UpstreamError, list[bytes]]:
    async with Stub(*answers) as stub, declared(SENDING, stub.url, CANARY, folder, ManualClock()) as upstream:
        assert isinstance(upstream, Submits)
        try:
            return await upstream.submit(input), stub.requests
        except UpstreamError as error:
            return error, stub.requests


async def test_a_submit_is_what_was_declared_with_the_input_put_in(tmp_path: Path) -> None:
    input = {"model": "own/er", "prompt": "a {cat}", "seed": 7}
    task, (request,) = await sent(tmp_path, reply('{"task": {"id": 90071992547409931}}'), input=input)
    head, _, body = request.decode().partition("\r\n\r\n")
    assert task == "90071992547409931"
    assert head.startswith("POST /own/er/renders HTTP/1.1\r\n")
    assert {"X-Key: " + CANARY, "X-All: all", "X-One: one", "Content-Type: application/json"} <= set(head.split("\r\n"))
    assert "Authorization" not in head
    assert json.loads(body) == {"text": "a {cat}", "seed": 7}


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ({"error": "no credit"}, "refused", "the upstream answered: no credit"),
        ({"task": {}}, "malformed", "the task may have been created, but submit.id finds none in the answer"),
        ({"task": {"id": "x" * 257}}, "malformed",
         "the task may have been created, but submit.id finds none in the answer"),
    ],
)  # fmt: skip
async def test_a_submit_that_names_no_task_is_not_repeated_and_says_why(
    answer: object, kind: str, message: str, tmp_path: Path
) -> None:
    error, requests = await sent(tmp_path, reply(json.dumps(answer)), input={"model": "m", "prompt": "p"})
    assert isinstance(error, UpstreamError)
    assert (error.kind, error.message, len(requests)) == (kind, message, 1)


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({"model": "m"}, "the input needs the key 'prompt'"),
        ({"model": "m", "promt": "p"}, "the input has an unknown key 'promt'; did you mean 'prompt'?"),
        ({"model": "../m", "prompt": "p"}, "the key 'model' of the input cannot be part of an address"),
        ({"model": ["m"], "prompt": "p"}, "the 'input.model' of the request must be a single value"),
    ],
)
async def test_an_input_that_does_not_fit_is_refused_before_anything_is_sent(
    input: dict[str, Any], message: str, tmp_path: Path
) -> None:
    async with Stub(reply("{}")) as stub, declared(SENDING, stub.url, CANARY, tmp_path, ManualClock()) as upstream:
        assert isinstance(upstream, Submits)
        with pytest.raises(UsageError) as caught:
            await upstream.submit(input)
    assert str(caught.value).startswith(message)
    assert stub.requests == []


async def test_a_poll_and_a_cancel_are_what_was_declared(tmp_path: Path) -> None:
    answers = (reply('{"state": "running"}'), reply("", "204 No Content"), reply('{"error": "too late"}'))
    async with Stub(*answers) as stub, declared(SENDING, stub.url, CANARY, tmp_path, ManualClock()) as upstream:
        assert isinstance(upstream, Cancels)
        await upstream.observe(["t/1"])
        await upstream.cancel("t/1")
        with pytest.raises(UpstreamError, match="the upstream answered: too late"):
            await upstream.cancel("t/1")
    assert stub.paths == ["/query", "/renders/t%2F1", "/renders/t%2F1"]
    assert stub.requests[0].endswith(b'\r\n\r\n{"ids": ["t/1"]}')


async def test_the_token_is_in_no_exchange_and_no_finding(tmp_path: Path) -> None:
    exchanges: list[Exchange] = []
    told: list[tuple[str, str | None, tuple[Finding, ...]]] = []
    async with (
        Stub(reply(f'{{"state": "running", "log": "{CANARY}"}}')) as stub,
        declared(POLL, stub.url, CANARY, tmp_path, ManualClock()) as upstream,
    ):
        upstream.on_exchange = exchanges.append
        upstream.on_findings = lambda *found: told.append(found)
        await upstream.observe(["r_1"])
    assert [CANARY in repr(exchange) for exchange in exchanges] == [False]
    ((name, task, findings),) = told
    assert (name, task) == ("poll", "r_1")
    assert [(finding.key, finding.value) for finding in findings if finding.value is not None] == [
        ("status", "running"),
        ("scale", 100),
        ("log", "***"),
    ]


async def test_an_api_needs_no_token() -> None:
    async with Stub(reply('{"state": "running"}')) as stub:
        poll = PollRequest(path="t/{task}", status="state", content="t/{task}")
        async with Declared(stub.url, poll=poll) as upstream:
            await upstream.observe(["1"])
    assert b"authorization" not in stub.requests[0].lower()
