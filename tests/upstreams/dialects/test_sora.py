"""Sora's dialect is read as it is really sent, and nothing is guessed."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from relay.errors import UpstreamError, UsageError
from relay.events import Exchange
from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Cancels, FetchesResults, Sora, Submits, Upstream
from tests.upstreams.stub import Stub, reply

PENDING = "/nf/pending/v2"
NEWER = "/project_y/profile/drafts/v2?limit=15"
OLDER = "/project_y/profile/drafts?limit=15"


async def observed(body: object, *tasks: str) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    async with Stub(reply(text)) as stub, Sora(stub.url, "token") as sora:
        answer = await sora.observe(tasks)
    assert stub.paths == [PENDING], "one request for all tasks"
    return answer


async def seen(**item: object) -> Observation | UpstreamError:
    return (await observed([{"id": "t", "status": "running", **item}], "t")).tasks["t"]


async def fetched(*drafts: object, tasks: tuple[str, ...] = ("t",)) -> Mapping[str, Observation | UpstreamError]:
    body = json.dumps({"items": drafts, "cursor": None})
    async with Stub(reply(body)) as stub, Sora(stub.url, "token") as sora:
        answer = await sora.fetch_result(tasks)
    assert (stub.paths, answer.listed) == ([NEWER], len(drafts)), "one request for all tasks"
    return answer.tasks


async def found(**draft: object) -> Observation | UpstreamError:
    return (await fetched({"id": "gen", "task_id": "t", **draft}))["t"]


def said(error: object) -> tuple[str, str]:
    assert isinstance(error, UpstreamError)
    return error.kind, str(error)


def test_it_observes_fetches_and_submits_and_cannot_cancel() -> None:
    sora = Sora("http://gateway:8000", "token")
    abilities = [isinstance(sora, ability) for ability in (Upstream, FetchesResults, Submits, Cancels)]
    assert (abilities, sora.interval, sora.deadline) == ([True, True, True, False], 2.5, 1500.0)


def test_it_shows_no_token() -> None:
    assert "canary" not in repr(Sora("http://gateway:8000", "canary")) + repr(vars(Sora("http://gateway", "canary")))


async def test_the_paths_are_joined_to_a_base_with_a_path() -> None:
    async with Stub(reply("[]")) as stub, Sora(f"{stub.url}/backend/", "token") as sora:
        await sora.observe(["t"])
    assert stub.paths == ["/backend/nf/pending/v2"]


async def test_one_request_tells_of_all_tasks_asked_for_and_counts_the_others() -> None:
    body = [{"id": name, "status": "running", "progress_pct": 0.5, "unheard_of": {}} for name in "abc"]
    half = Observation(status="running", raw_status="running", percent=50, source="reported")
    assert await observed(body, "a", "c", "x") == Answer(listed=3, tasks={"a": half, "c": half})


@pytest.mark.parametrize(
    ("wire", "percent"),
    [
        ("0", 0),
        ("0.0", 0),
        ("0.09000000000000001", 9),
        ("0.29", 29),
        ("0.57", 57),
        ("0.58", 58),
        ("0.996", 99),
        ("1.0", 100),
        ("1", 100),
        ("2.9e-1", 29),
    ],
)
async def test_a_fraction_is_rounded_and_never_truncated(wire: str, percent: int) -> None:
    answer = await observed(f'[{{"id": "t", "status": "running", "progress_pct": {wire}}}]', "t")
    expected = Observation(status="running", raw_status="running", percent=percent, source="reported")
    assert answer.tasks == {"t": expected}


@pytest.mark.parametrize(
    ("wire", "percent", "source", "raw"),
    [
        ("null", None, None, None),
        ("1.7", 100, "reported", "1.7"),
        ("42", 100, "reported", "42"),
        ("-3", 0, "reported", "-3"),
        ("1e308", 100, "reported", "1e+308"),
        ('"42%"', 42, "parsed", "42%"),
        ('" 57.5 % "', 58, "parsed", " 57.5 % "),
        ('"170%"', 100, "parsed", "170%"),
        ('"-3%"', 0, "parsed", "-3%"),
        ('"42"', 42, "parsed", "42"),
        ('"half"', None, None, "half"),
        ('""', None, None, ""),
        ("NaN", None, None, "NaN"),
        ("-Infinity", None, None, "-Infinity"),
        ("1e999", None, None, "1e999"),
        ("true", None, None, "true"),
        ('{"value": 0.5}', None, None, '{"value": 0.5}'),
        ("[0.5]", None, None, "[0.5]"),
        ('{"value": NaN}', None, None, '{"value": NaN}'),
    ],
)
async def test_a_figure_that_is_none_is_never_invented_and_its_wire_text_is_kept(
    wire: str, percent: int | None, source: Any, raw: str | None
) -> None:
    """And the other tasks of the same answer are read as if nothing were."""
    body = f'[{{"id": "t", "status": "running", "progress_pct": {wire}}}, {{"id": "u", "status": "queued"}}]'
    assert (await observed(body, "t", "u")).tasks == {
        "t": Observation(status="running", raw_status="running", percent=percent, source=source, raw_percent=raw),
        "u": Observation(status="queued", raw_status="queued"),
    }


async def test_the_wire_text_is_bounded() -> None:
    answer = await seen(progress_pct="x" * 10_000)
    assert isinstance(answer, Observation)
    assert len(answer.raw_percent or "") <= 64


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("preprocessing", "queued"),
        ("queued", "queued"),
        ("running", "running"),
        ("processing", "running"),
        ("Completed", "succeeded"),
        ("renderring", "unknown"),
        (None, "unknown"),
    ],
)
async def test_a_status_is_told_in_our_word_and_in_theirs(word: str | None, status: Any) -> None:
    assert await seen(status=word) == Observation(status=status, raw_status=word)


async def test_place_in_the_queue_and_waiting_time_are_told_where_they_are_figures() -> None:
    running = Observation(status="running", raw_status="running")
    assert await seen(progress_pos_in_queue=3, estimated_queue_wait_time=40.5) == Observation(
        status="running", raw_status="running", queue_position=3, eta=40.5
    )
    assert await seen(progress_pos_in_queue=True, estimated_queue_wait_time="soon") == running
    assert await seen(progress_pos_in_queue=-1, estimated_queue_wait_time=-1) == running


@pytest.mark.parametrize(
    ("item", "failure"),
    [
        (
            {"status": "failed", "failure_reason": "out of memory"},
            Failure(kind="upstream", message="out of memory", retryable=True),
        ),
        (
            {"status": "error", "failure_reason": None},
            Failure(kind="upstream", message="the upstream says 'error'", retryable=True),
        ),
        (
            {"status": "failed", "failure_reason": {"code": 7}},
            Failure(kind="upstream", message='{"code": 7}', retryable=True),
        ),
        ({"status": "cancelled"}, Failure(kind="cancelled", message="the upstream says 'cancelled'")),
    ],
)
async def test_a_pending_task_that_has_failed_says_why(item: dict[str, object], failure: Failure) -> None:
    answer = await seen(**item)
    assert isinstance(answer, Observation)
    assert answer.failure == failure


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("{}", "an object"),
        ('{"items": []}', "an object"),
        ("null", "null"),
        ('"a"', "a string"),
        ("7", "a single value"),
    ],
)
async def test_an_answer_that_is_no_list_is_an_error_and_never_an_empty_list(body: str, what: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await observed(body, "t")
    assert said(caught.value) == ("malformed", f"the list of pending tasks is {what}, not a list")


async def test_of_a_task_listed_twice_the_last_counts_and_a_warning_says_so() -> None:
    body = [{"id": "t", "status": "queued"}, {"id": "u"}, {"id": "t", "status": "running"}]
    warning = "the list of pending tasks holds this task more than once; the last counts"
    assert (await observed(body, "t", "u")).tasks == {
        "t": Observation(status="running", raw_status="running", warning=warning),
        "u": Observation(status="unknown"),
    }


async def test_what_cannot_be_read_costs_no_other_task() -> None:
    body: list[object] = [
        None,
        7,
        [],
        "t",
        {},
        {"id": None},
        {"id": ["t"]},
        {"id": "bad", "status": 7},
        {"id": "t", "status": "queued"},
    ]
    answer = await observed(body, "t", "bad")
    bad = answer.tasks["bad"]
    assert answer == Answer(listed=9, tasks={"t": Observation(status="queued", raw_status="queued"), "bad": bad})
    assert said(bad) == (
        "malformed",
        "the task is listed in a form that cannot be read: Expected `str | null`, got `int` - at `$.status`",
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "t", "status": "running", "progress_pct": "42%"},
        {"id": "t", "status": "running", "progress_pct": None, "progress_pos_in_queue": 3},
        {"id": "t", "status": 7},
        {"id": 7, "status": "running"},
        {"id": "t", "status": "running", "progress_pct": float("nan")},
        {"id": "t", "status": "failed", "failure_reason": {"code": "x"}},
        "no object",
    ],
)
async def test_a_long_list_says_the_same_as_a_short_one(odd: object) -> None:
    few: list[object] = [{"id": "t", "status": "queued"}, odd, {"id": "u", "status": "running", "progress_pct": 0.5}]
    many = [*few, *[{"id": f"other {number}", "prompt": "x" * 1000} for number in range(300)]]

    assert (told := await observed(many, "t", "u")).tasks.keys() == {"t", "u"}
    assert {task: str(seen) for task, seen in told.tasks.items()} == {
        task: str(seen) for task, seen in (await observed(few, "t", "u")).tasks.items()
    }


async def test_ten_thousand_tasks_are_one_answer() -> None:
    body = [{"id": f"task_{n}", "status": "queued", "progress_pct": None} for n in range(10_000)]
    answer = await observed(body, "task_9999")
    assert answer == Answer(listed=10_000, tasks={"task_9999": Observation(status="queued", raw_status="queued")})


async def test_a_long_list_may_nest_as_deep_as_any_answer_also_in_what_is_not_read() -> None:
    tasks = [{"id": f"task_{n}", "status": "queued", "moderation_result": None} for n in range(10_000)]
    within, beyond = ([{**tasks[0], "moderation_result": nested(levels)}, *tasks[1:]] for levels in (30, 31))
    assert (await observed(within, "task_9999")).listed == 10_000
    with pytest.raises(UpstreamError, match="the answer nests deeper than 32 levels") as caught:
        await observed(beyond, "task_9999")
    assert caught.value.kind == "malformed"


def nested(levels: int) -> object:
    return [nested(levels - 1)] if levels > 1 else []


async def test_a_draft_is_a_result_with_its_media_type_and_expiry() -> None:
    url = "https://videos.example/a/raw.MP4?se=2026-01-02T03%3A04%3A05Z&sp=r&sig=x"
    assert await found(kind="sora_draft", url="https://videos.example/other.mp4", downloadable_url=url) == Observation(
        status="succeeded",
        raw_status="sora_draft",
        result=Result(urls=(url,), media_types=("video/mp4",), expires=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    )


@pytest.mark.parametrize(
    ("draft", "result"),
    [
        ({"url": "https://v/a"}, Result(urls=("https://v/a",))),
        ({"url": "https://v/a.xyz"}, Result(urls=("https://v/a.xyz",))),
        ({"url": "https://v/a.webm"}, Result(urls=("https://v/a.webm",), media_types=("video/webm",))),
        (
            {"url": "https://v/a", "encodings": {"source": {"path": "https://v/b.mp4?x=.gif"}}},
            Result(urls=("https://v/a",), media_types=("video/mp4",)),
        ),
        (
            {"url": "https://v/a", "encodings": {"thumbnail": {"path": "https://v/b.webp"}}},
            Result(urls=("https://v/a",)),
        ),
        ({"url": "https://v/a", "encodings": ["odd"]}, Result(urls=("https://v/a",))),
        ({"url": "https://v/a?se=soon"}, Result(urls=("https://v/a?se=soon",))),
        (
            {"url": "https://v/a?se=2026-01-02"},
            Result(urls=("https://v/a?se=2026-01-02",), expires=datetime(2026, 1, 2, tzinfo=UTC)),
        ),
        ({"url": "https://[v/a.mp4"}, Result(urls=("https://[v/a.mp4",))),
        ({"url": "https://v/a", "reason_str": "a remark"}, Result(urls=("https://v/a",))),
        ({"url": "https://v/a", "downloadable_url": "javascript:alert(1)"}, Result(urls=("https://v/a",))),
    ],
)
async def test_of_a_result_nothing_is_claimed_that_is_not_known(draft: dict[str, object], result: Result) -> None:
    assert await found(kind="sora_draft", **draft) == Observation(
        status="succeeded", raw_status="sora_draft", result=result
    )


@pytest.mark.parametrize("url", [None, "", "javascript:alert(1)", "file:///etc/passwd"])
async def test_a_draft_without_a_link_is_a_result_without_files(url: str | None) -> None:
    assert await found(kind="sora_draft", url=url, downloadable_url=None) == Observation(
        status="succeeded", raw_status="sora_draft", result=Result(urls=())
    )


POLICY = "the upstream reports a violation of its content rules"


@pytest.mark.parametrize(
    ("draft", "failure"),
    [
        ({"kind": "sora_content_violation", "reason_str": "no"}, Failure(kind="policy", message="no")),
        (
            {"kind": "sora_content_violation", "reason_str": "no", "url": "https://v/a.mp4"},
            Failure(kind="policy", message="no"),
        ),
        ({"kind": "sora_content_violation", "markdown_reason_str": "*no*"}, Failure(kind="policy", message="*no*")),
        ({"kind": "sora_content_violation", "reason": {"rule": 3}}, Failure(kind="policy", message='{"rule": 3}')),
        ({"kind": "sora_content_violation"}, Failure(kind="policy", message=POLICY)),
        ({"kind": "sora_draft", "reason_str": "no"}, Failure(kind="policy", message="no")),
        (
            {"kind": "sora_error", "error_reason": "it broke"},
            Failure(kind="upstream", message="it broke", retryable=True),
        ),
        (
            {"kind": "sora_error", "reason_str": "it broke"},
            Failure(kind="upstream", message="it broke", retryable=True),
        ),
        (
            {"kind": "sora_error"},
            Failure(kind="upstream", message="the upstream reports an error without a reason", retryable=True),
        ),
    ],
)
async def test_a_draft_that_is_a_failure_says_whose_and_why(draft: dict[str, Any], failure: Failure) -> None:
    assert await found(**draft) == Observation(status="failed", raw_status=draft["kind"], failure=failure)


async def test_a_reason_that_repeats_the_token_does_not_give_it_away() -> None:
    body = json.dumps({"items": [{"task_id": "t", "kind": "sora_error", "error_reason": "bad token canary-1"}]})
    async with Stub(reply(body)) as stub, Sora(stub.url, "canary-1") as sora:
        answer = (await sora.fetch_result(["t"])).tasks["t"]
    assert isinstance(answer, Observation)
    assert answer.failure == Failure(kind="upstream", message="bad token ***", retryable=True)


async def test_of_two_drafts_of_one_task_the_first_counts_and_a_warning_says_so() -> None:
    first, second = ({"task_id": "t", "kind": "sora_draft", "url": f"https://v/{n}"} for n in (1, 2))
    result = Observation(status="succeeded", raw_status="sora_draft", result=Result(urls=("https://v/1",)))
    warning = "there is more than one draft of this task; the first counts"
    assert await fetched(first, second) == {"t": replace(result, warning=warning)}
    assert await fetched(first) == {"t": result}


async def test_a_draft_that_cannot_be_read_costs_no_other() -> None:
    good = {"task_id": "t", "kind": "sora_draft", "url": "https://v/1"}
    answer = await fetched(None, 7, {"task_id": None}, {"task_id": "bad", "url": 7}, good, tasks=("t", "bad"))
    assert answer["t"] == Observation(status="succeeded", raw_status="sora_draft", result=Result(urls=("https://v/1",)))
    assert said(answer["bad"]) == (
        "malformed",
        "the draft is in a form that cannot be read: Expected `str | null`, got `int` - at `$.url`",
    )


async def test_a_task_without_a_draft_is_not_mentioned() -> None:
    assert await fetched({"task_id": "other", "url": "https://v/1"}) == {}


@pytest.mark.parametrize("body", ["[]", "{}", "null", '{"items": null}', '{"items": {}}'])
async def test_drafts_without_a_list_of_items_are_malformed(body: str) -> None:
    async with Stub(reply(body)) as stub, Sora(stub.url, "token") as sora:
        with pytest.raises(UpstreamError) as caught:
            await sora.fetch_result(["t"])
    assert said(caught.value) == ("malformed", "the list of drafts holds no list of items")


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
async def test_drafts_fall_back_to_the_older_path_and_stay_with_what_works(status: str) -> None:
    none, empty = reply("{}", status), reply('{"items": []}')
    async with Stub(none, empty, empty, none, empty, empty) as stub, Sora(stub.url, "token") as sora:
        for _ in range(4):
            await sora.fetch_result(["t"])
    assert stub.paths == [NEWER, OLDER, OLDER, OLDER, NEWER, NEWER]


async def test_drafts_that_are_at_neither_path_are_not_found() -> None:
    async with Stub(reply("{}", "404 Not Found")) as stub, Sora(stub.url, "token") as sora:
        for _ in range(2):
            with pytest.raises(UpstreamError, match="answered 404"):
                await sora.fetch_result(["t"])
    assert stub.paths == [NEWER, OLDER, NEWER, OLDER]


async def test_another_error_of_the_drafts_is_no_reason_to_fall_back() -> None:
    async with Stub(reply("{}", "401 Unauthorized")) as stub, Sora(stub.url, "token") as sora:
        with pytest.raises(UpstreamError) as caught:
            await sora.fetch_result(["t"])
    assert (caught.value.kind, stub.paths) == ("auth", [NEWER])


async def test_a_prompt_alone_is_enough_to_submit() -> None:
    async with Stub(reply('{"id": "task_01"}')) as stub, Sora(stub.url, "token") as sora:
        assert await sora.submit({"prompt": "a cat"}) == "task_01"
    head, _, body = stub.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /nf/create ")
    assert json.loads(body) == {
        "kind": "video",
        "prompt": "a cat",
        "orientation": "landscape",
        "size": "small",
        "n_frames": 300,
        "model": "sy_8",
        "inpaint_items": [],
    }


async def test_what_is_given_is_sent_and_null_too() -> None:
    given = {
        "kind": "video",
        "prompt": "a cat",
        "orientation": "portrait",
        "size": "large",
        "n_frames": 750,
        "model": "sy_ore",
        "inpaint_items": [{"kind": "upload", "upload_id": "u"}],
        "style_id": None,
        "metadata": {"a": [1]},
    }
    async with Stub(reply('{"id": "task_01"}')) as stub, Sora(stub.url, "token") as sora:
        await sora.submit(given)
    assert json.loads(stub.requests[0].partition(b"\r\n\r\n")[2]) == given


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({"prompt": "a", "orientaton": "portrait"}, "unknown key 'orientaton'; did you mean 'orientation'?"),
        ({"prompt": "a", "zzz": 1}, "unknown key 'zzz'; known are prompt, kind, orientation"),
        ({}, "missing required field `prompt`"),
        ({"prompt": ""}, "at `$.prompt`"),
        ({"prompt": 7}, "at `$.prompt`"),
        ({"prompt": "a", "size": "huge"}, "Invalid enum value 'huge' - at `$.size`"),
        ({"prompt": "a", "n_frames": "300"}, "at `$.n_frames`"),
        ({"prompt": "a", "metadata": float("nan")}, "cannot be written as JSON"),
    ],
)
async def test_input_that_is_no_video_is_refused_before_anything_is_sent(
    input: dict[str, object], message: str
) -> None:
    async with Stub(reply('{"id": "task_01"}')) as stub, Sora(stub.url, "token") as sora:
        with pytest.raises(UsageError) as caught:
            await sora.submit(input)
    assert (message in str(caught.value), stub.requests) == (True, []), str(caught.value)


@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"id": null}', '{"id": 7}', '{"id": ""}'])
async def test_an_answer_without_a_task_is_malformed_and_nothing_is_sent_again(body: str) -> None:
    async with Stub(reply(body)) as stub, Sora(stub.url, "token") as sora:
        with pytest.raises(UpstreamError) as caught:
            await sora.submit({"prompt": "a cat"})
    assert said(caught.value) == ("malformed", "the task may have been created, but the answer names no task")
    assert stub.paths == ["/nf/create"]


async def test_a_submit_that_fails_is_not_sent_again() -> None:
    async with Stub(b"") as stub, Sora(stub.url, "token") as sora:
        with pytest.raises(UpstreamError) as caught:
            await sora.submit({"prompt": "a cat"})
    assert (caught.value.kind, stub.paths) == ("network", ["/nf/create"])


async def test_exchanges_name_the_tasks_asked_for_and_no_token() -> None:
    heard: list[Exchange] = []
    clock = ManualClock()
    async with ScriptedUpstream(clock=clock, token="canary-1") as upstream, Sora(upstream.url, "canary-1") as sora:
        sora.on_exchange = heard.append
        task = await sora.submit({"prompt": "a cat"})
        await sora.observe([task])
        await clock.advance(60)
        await sora.fetch_result([task])
    assert [(exchange.method, exchange.jobs, exchange.status) for exchange in heard] == [
        ("POST", (), 200),
        ("GET", (task,), 200),
        ("GET", (task,), 200),
    ]
    assert "canary" not in repr(heard)
    assert "?se=***&sp=r&sig=***" in heard[-1].response
