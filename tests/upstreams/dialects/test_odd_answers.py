"""Answers of the shapes that gateways and new versions really send: another place, another spelling, one in a list."""

from datetime import UTC, datetime
from typing import Any

import pytest

from relay.errors import UpstreamError
from relay.jobs.observations import Observation
from relay.upstreams import Declared
from relay.upstreams.declared.declaration import PollRequest
from relay.upstreams.dialects.kling import Kling
from relay.upstreams.dialects.luma import Luma
from relay.upstreams.dialects.minimax import MiniMax
from relay.upstreams.dialects.openai_videos import OpenAIVideos
from relay.upstreams.dialects.runway import Runway
from relay.upstreams.http.status import retry_after
from relay.upstreams.reading.values import is_something, read_date, read_percent, read_seconds
from tests.upstreams.dialects.test_going_on import DIALECTS, ITEM, task_of
from tests.upstreams.stub import Stub, reply

URL = "https://f.example/a.mp4"
QUEUE = '{"queue_running": [], "queue_pending": []}'


async def seen(dialect: str, *bodies: str, fetch: bool = False) -> Observation:
    task = task_of(dialect)
    async with Stub(*map(reply, bodies)) as stub:
        upstream: Any = (
            Declared(stub.url, "token-1", poll=ITEM) if dialect == "declared" else DIALECTS[dialect](stub.url)
        )
        async with upstream._http if dialect == "comfyui" else upstream:
            answer = await (upstream.fetch_result if fetch else upstream.observe)([task])
    found = answer.tasks[task]
    assert isinstance(found, Observation), found
    return found


def made(observation: Observation) -> tuple[str, tuple[str, ...]]:
    """The status, and the addresses of the result."""
    return observation.status, () if observation.result is None else observation.result.urls


FOUND = {
    "openai-videos": [
        f'{{"status": "completed", "output": ["{URL}"]}}',
        f'{{"status": "completed", "output": "{URL}"}}',
        f'{{"status": "completed", "videos": [{{"url": "{URL}"}}]}}',
        f'{{"status": "completed", "unsigned_urls": ["{URL}"]}}',
        f'{{"status": "completed", "videoUrl": "{URL}"}}',
        f'{{"status": "completed", "content": {{"video_url": "{URL}"}}, "input": {{"image_url": "https://i/a.png"}}}}',
        f'{{"status": "completed", "metadata": {{"url": "{URL}", "image": null}}}}',
        f'{{"status": "completed", "video": {{"url": "{URL}", "thumbnail_url": "https://i/a.png"}}}}',
        f'{{"data": {{"status": "completed", "video_url": "{URL}"}}}}',
        f'{{"data": [{{"status": "completed", "video_url": "{URL}"}}]}}',
        f'[{{"status": "completed", "video_url": "{URL}"}}]',
        f'{{"status": "completed", "video_url": "{URL}", "error": "None"}}',
        f'{{"status": "completed", "video_url": "{URL}", "error": {{"code": null, "message": null}}}}',
        f'{{"status": "completed", "video_url": "{URL}", "error": {{"code": 0, "message": "success"}}}}',
    ],
    "new-api": [
        f'{{"code": "success", "data": [{{"status": "SUCCESS", "result_url": "{URL}"}}]}}',
        f'{{"code": "success", "data": {{"data": {{"status": "SUCCESS", "result_url": "{URL}"}}}}}}',
        f'{{"status": "SUCCESS", "resultUrl": "{URL}"}}',
        f'{{"code": "success", "data": {{"status": "SUCCESS", "data": {{"content": {{"video_url": "{URL}"}}}}}}}}',
        f'{{"code": "success", "data": {{"status": "SUCCESS", "url": "{URL}", "error": {{"message": ""}}}}}}',
    ],
    "kling": [
        f'{{"code": 0, "data": [{{"task_status": "succeed", "task_result": {{"videos": [{{"url": "{URL}"}}]}}}}]}}',
        f'{{"code": 0, "data": {{"task_status": "succeed", "task_result": [{{"url": "{URL}"}}]}}}}',
        f'{{"code": 0, "data": {{"task_status": "succeed", "task_result": {{"videos": {{"url": "{URL}"}}}}}}}}',
        f'{{"code": 0, "data": {{"taskStatus": "succeed", "taskResult": {{"videos": [{{"url": "{URL}"}}]}}}}}}',
        f'{{"code": 0, "data": {{"status": "succeed", "task_result": {{"video_url": "{URL}"}}}}}}',
        f'{{"code": 0, "task_status": "succeed", "task_result": {{"videos": [{{"url": "{URL}"}}]}}}}',
    ],
    "luma": [
        f'{{"state": "completed", "assets": [{{"video": "{URL}"}}]}}',
        f'{{"state": "completed", "assets": {{"video": {{"url": "{URL}"}}, "progress_video": "https://p/p.mp4"}}}}',
        f'{{"state": "completed", "assets": {{"video": ["{URL}"]}}, "request": {{"url": "https://i/a.png"}}}}',
        f'{{"state": "completed", "video": {{"url": "{URL}"}}}}',
        f'{{"status": "completed", "assets": {{"video": "{URL}"}}}}',
        f'{{"generation": {{"state": "completed", "failure_reason": "null", "assets": {{"video": "{URL}"}}}}}}',
    ],
    "runway": [
        f'{{"status": "SUCCEEDED", "output": {{"url": "{URL}"}}}}',
        f'{{"status": "SUCCEEDED", "output": [{{"url": "{URL}"}}], "failure": "None"}}',
        f'{{"status": "SUCCEEDED", "output": null, "artifacts": [{{"url": "{URL}"}}]}}',
    ],
    "replicate": [
        '{"status": "succeeded", "output": {"video": "//f.example/a.mp4"}}'.replace("//", "http://"),
        f'{{"data": {{"status": "succeeded", "output": "{URL}", "error": "None"}}}}',
    ],
    "veo": [
        f'{{"done": true, "response": {{"generatedVideos": [{{"video": {{"uri": "{URL}"}}}}]}}}}',
        f'{{"done": "TRUE", "response": {{"generateVideoResponse": {{"generatedSamples": [{{"video": "{URL}"}}]}}}}}}',
        f'{{"done": 1, "error": {{"code": 0}}, "response": [{{"videos": [{{"uri": "{URL}"}}]}}]}}',
    ],
}


@pytest.mark.parametrize(("dialect", "body"), [(dialect, body) for dialect in FOUND for body in FOUND[dialect]])
async def test_a_file_is_found_wherever_the_answer_has_it(dialect: str, body: str) -> None:
    status, urls = made(await seen(dialect, body))
    assert (status, [url.partition("://")[2] for url in urls]) == ("succeeded", ["f.example/a.mp4"])


@pytest.mark.parametrize(
    ("query", "file"),
    [
        ('{"status": "Success", "file_id": 5}', f'{{"file": [{{"download_url": "{URL}"}}]}}'),
        ('{"status": "Success", "fileId": "5"}', f'{{"file": {{"downloadUrl": "{URL}"}}}}'),
        ('{"data": {"status": "Success", "file_id": "5"}}', f'{{"file": {{"backup_download_url": "{URL}"}}}}'),
        (f'{{"status": "Success", "file_id": "", "video_url": "{URL}"}}', "{}"),
    ],
)
async def test_so_it_is_where_a_file_is_looked_up(query: str, file: str) -> None:
    assert made(await seen("minimax", query, file, fetch=True)) == ("succeeded", (URL,))


@pytest.mark.parametrize(
    ("outputs", "result"),
    [
        ('{"9": {"gifs": {"filename": "a.mp4"}}}', ["/view?filename=a.mp4"]),
        ('{"9": [{"filename": "a.mp4"}]}', ["/view?filename=a.mp4"]),
        ('{"9": {"text": "hello"}}', "hello"),
    ],
)
async def test_what_nodes_put_out_need_not_be_a_list(outputs: str, result: object) -> None:
    found = (await seen("comfyui", QUEUE, f'{{"a": {{"status": "success", "outputs": {outputs}}}}}')).result
    assert found is not None
    assert ([url[url.index("/view") :] for url in found.urls] or found.value) == result


@pytest.mark.parametrize(
    ("dialect", "body", "message"),
    [
        ("openai-videos", '{"status": "failed", "error": [{"message": "broken"}]}', "broken"),
        ("openai-videos", '{"status": "failed", "fail_reason": "broken"}', "broken"),
        ("openai-videos", '{"status": "failed", "error": {"error": {"message": "broken"}}}', "broken"),
        ("new-api", '{"code": "success", "data": {"status": "FAILURE", "failReason": "broken"}}', "broken"),
        ("luma", '{"state": "failed", "failure_reason": ["broken", "twice"]}', "broken; twice"),
        ("luma", '{"state": "failed", "failure_reason": [], "detail": "broken"}', "broken"),
        ("runway", '{"status": "FAILED", "failure": null, "failure_code": "broken"}', "broken"),
        ("minimax", '{"status": "Fail", "base_resp": {"status_code": 0}, "error": "broken"}', "broken"),
        ("veo", '{"done": true, "error": ["broken"]}', "broken"),
    ],
)
async def test_a_reason_is_found_wherever_the_answer_has_it(dialect: str, body: str, message: str) -> None:
    found = await seen(dialect, body)
    assert found.failure is not None
    assert (found.status, found.failure.message) == ("failed", message)


async def test_an_envelope_that_is_an_empty_list_costs_no_code() -> None:
    for data in ("[]", '""', "null", "{}"):
        with pytest.raises(UpstreamError, match="1303: busy") as error:
            await seen("kling", f'{{"code": 1303, "message": "busy", "data": {data}}}')
        assert error.value.kind == "rate-limit"


@pytest.mark.parametrize(
    "answer",
    [
        '{"id": 7}',
        '{"data": {"id": 7}}',
        '{"data": [{"task_id": "7"}]}',
        '{"code": 0, "data": {"taskId": "7"}}',
        '[{"id": "7"}]',
    ],
)
async def test_a_new_task_is_found_wherever_the_answer_names_it(answer: str) -> None:
    for dialect, input in ((OpenAIVideos, {"prompt": "a"}), (Luma, {"model": "m"}), (Runway, {}), (MiniMax, {})):
        async with Stub(reply(answer)) as stub, dialect(stub.url, "t") as upstream:
            assert await upstream.submit(input) == "7"
    async with Stub(reply(answer)) as stub, Kling(stub.url, "t") as upstream:
        assert await upstream.submit({}) == "text2video/7"


async def test_a_log_may_be_a_text_or_a_list() -> None:
    for dialect, body in (
        ("replicate", '{"status": "processing", "logs": ["one", "two\\n"]}'),
        ("fal", '{"status": "IN_PROGRESS", "logs": "one\\ntwo"}'),
    ):
        assert (await seen(dialect, body)).log == ("one", "two")


@pytest.mark.parametrize(
    ("text", "percent"),
    [
        ("42 percent", 42),
        ("%42", 42),
        ("about 57,5 % done", 58),
        ("step 21/50", 42),
        (".5", 0),
        ("5.", 5),
        ("12% of 40%", None),
        ("2026/01/02", None),
        ("v2 42%", None),
    ],
)
def test_a_text_with_one_figure_in_it_is_that_figure(text: str, percent: int | None) -> None:
    assert read_percent(text)[0] == percent


def test_dates_are_read_as_seconds_milliseconds_and_as_http_has_them() -> None:
    written: tuple[object, ...] = (1893456000, 1893456000000, "1893456000000", "Tue, 01 Jan 2030 00:00:00 GMT")
    assert {str(read_date(date)) for date in written} == {"2030-01-01 00:00:00+00:00"}
    assert [read_date(date) for date in ("tomorrow", 1e300, "Mon, 99 Jan 2030 00:00:00 GMT")] == [None] * 3


def test_what_says_that_there_is_no_error_is_none() -> None:
    nothing: tuple[object, ...] = (None, "null", " None ", "success", "OK", 0, 200, {"code": 0, "message": ""}, [None])
    assert not any(map(is_something, nothing))
    assert all(map(is_something, ("no", 1, {"code": "E1"}, [[5]], True, "null and void")))


@pytest.mark.parametrize(
    ("sent", "urls", "value"),
    [
        ('"https://f.example/a b.mp4"', ("https://f.example/a%20b.mp4",), None),
        ('"https://f.example/a\\nb.mp4"', ("https://f.example/a%0Ab.mp4",), None),
        ('"https://f.example/\\u00e4#1.mp4"', ("https://f.example/\u00e4#1.mp4",), None),
        ('["s3://b/a.mp4", "https://f.example/a.mp4"]', (URL,), "s3://b/a.mp4"),
        ('"gs://b/a.mp4"', (), "gs://b/a.mp4"),
        ('"data:image/png;base64,AAAA"', (), "data:image/png;base64,AAAA"),
        ('["file:///a.mp4", "blob:https://f.example/1", "https://", "https://[::1/a", "x y"]', (), None),
    ],
)
async def test_an_address_is_one_that_can_be_followed_or_that_names_a_file(
    sent: str, urls: tuple[str, ...], value: object
) -> None:
    for dialect, name in (("declared", "urls"), ("runway", "output")):
        found = (await seen(dialect, f'{{"status": "done", "{name}": {sent}}}')).result
        assert found is not None
        assert (found.urls, found.value) == (urls, value)


async def test_one_bad_address_among_declared_ones_is_a_warning() -> None:
    found = await seen("declared", f'{{"status": "done", "urls": ["{URL}", "x y", "", "blob:1"]}}')
    assert found.warning == "poll.urls cannot be read: 2 of what is found are no addresses of a file"
    assert made(found) == ("succeeded", (URL,))


async def test_a_state_alone_in_a_list_is_that_state() -> None:
    assert (await seen("declared", '{"status": ["running"]}')).status == "running"


@pytest.mark.parametrize("status", ["205 Reset Content"])
async def test_an_answer_that_says_that_there_is_no_news_is_no_trouble(status: str) -> None:
    sent = f"HTTP/1.1 {status}\r\nRetry-After: 7\r\nConnection: close\r\n\r\n".encode()
    for dialect in DIALECTS:
        async with Stub(sent) as stub:
            upstream: Any = DIALECTS[dialect](stub.url)
            async with upstream:
                answer = await upstream.observe([task_of(dialect)])
        running = Observation(status="running", poll_after=7.0)
        is_list = dialect in ("comfyui", "declared list", "sora")
        assert answer.tasks == ({} if is_list else {task_of(dialect): running})
        assert answer.partial is is_list


@pytest.mark.parametrize(("wire", "wait"), [("120s", 60.0), ("9 s", 9.0), ("9, 120", 9.0), ("9 apples", None)])
def test_retry_after_is_read_with_its_unit(wire: str, wait: float | None) -> None:
    assert retry_after(wire, datetime(2026, 1, 1, tzinfo=UTC)) == wait


@pytest.mark.parametrize(
    ("wire", "seconds"),
    [("90s", 90), ("1m 30s", 90), ("1:30", 90), ("0:01:30.5", 90.5), ("2 hours", 7200), ("s", None)],
)
def test_a_time_is_read_as_people_write_it(wire: str, seconds: float | None) -> None:
    assert read_seconds(wire) == seconds


async def test_a_figure_below_0_says_that_nobody_knows() -> None:
    poll = PollRequest(path="tasks/{task}", status="status", eta="eta", queue_position="place")
    async with (
        Stub(reply('{"status": "running", "eta": -1, "place": -1}')) as stub,
        Declared(stub.url, "t", poll=poll) as upstream,
    ):
        answer = await upstream.observe(["a"])
    assert answer.tasks == {"a": Observation(status="running", raw_status="running")}
