"""What stands beside a status costs the status nothing, in every dialect; figures, words and addresses are lenient."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from relay.clock import SystemClock
from relay.jobs.observations import Observation
from relay.testing.conformance.trial import changed
from relay.upstreams import Fal, Kling, Luma, MiniMax, NewApi, OpenAIVideos, PerTaskUpstream, Replicate, Runway, Veo
from relay.upstreams.http.redaction import Redactor
from relay.upstreams.http.reply import Reply
from relay.upstreams.reading.fields import Fields
from relay.upstreams.reading.links import files, links, output, safe
from relay.upstreams.reading.media import media_type, media_type_of_file, resolved
from relay.upstreams.reading.values import (
    Figure,
    read_count,
    read_date,
    read_fraction,
    read_number,
    read_percent,
    read_seconds,
)
from tests.upstreams.declared.declarations import DECLARATIONS, declared

URL = "https://files.example/a.mp4"
Way = tuple[str | int, ...]

FINE = {"status_code": 0, "status_msg": "success"}
KLING = {"code": 0, "message": "SUCCEED", "request_id": "r"}

ANSWERS: dict[str, tuple[type[PerTaskUpstream], str, dict[str, tuple[Way, set[Way], dict[str, Any]]]]] = {
    "openai-videos": (
        OpenAIVideos,
        "t",
        {
            "running": (("status",), set(), {"id": "t", "status": "in_progress", "progress": 40, "error": None}),
            "succeeded": (
                ("status",),
                {("error",)},
                {"id": "t", "status": "completed", "error": None, "expires_at": 1, "video": {"url": URL}},
            ),
            "failed": (("status",), set(), {"status": "failed", "error": {"code": "internal", "message": "broken"}}),
        },
    ),
    "new-api": (
        NewApi,
        "t",
        {
            "running": (
                ("data", "status"),
                set(),
                {"code": "success", "message": "", "data": {"status": "IN_PROGRESS", "progress": "40%"}},
            ),
            "succeeded": (
                ("data", "status"),
                {("data", "error")},
                {
                    "code": "success",
                    "data": {"status": "SUCCESS", "progress": "100%", "result_url": URL, "error": None},
                },
            ),
            "failed": (
                ("data", "status"),
                set(),
                {"code": "success", "data": {"status": "FAILURE", "fail_reason": "no"}},
            ),
        },
    ),
    "runway": (
        Runway,
        "t",
        {
            "running": (("status",), set(), {"id": "t", "status": "RUNNING", "progress": 0.4, "output": None}),
            "succeeded": (
                ("status",),
                {("failure",), ("failureCode",)},
                {"id": "t", "status": "SUCCEEDED", "output": [URL], "failure": None, "failureCode": None},
            ),
            "failed": (("status",), set(), {"status": "FAILED", "failure": "broken", "failureCode": "INTERNAL"}),
        },
    ),
    "luma": (
        Luma,
        "t",
        {
            "running": (("state",), set(), {"id": "t", "state": "dreaming", "failure_reason": None, "assets": None}),
            "succeeded": (
                ("state",),
                {("failure_reason",)},
                {"id": "t", "state": "completed", "failure_reason": None, "assets": {"video": URL, "image": None}},
            ),
            "failed": (("state",), set(), {"id": "t", "state": "failed", "failure_reason": "broken", "assets": {}}),
        },
    ),
    "replicate": (
        Replicate,
        "t",
        {
            "running": (("status",), set(), {"status": "processing", "output": None, "error": None, "logs": " 40%|"}),
            "succeeded": (
                ("status",),
                set(),
                {"status": "succeeded", "output": [URL], "error": None, "logs": "x", "metrics": {"predict_time": 1}},
            ),
            "failed": (("status",), set(), {"status": "failed", "output": None, "error": "broken", "logs": ""}),
        },
    ),
    "fal": (
        Fal,
        "a/b/requests/t",
        {
            "running": (
                ("status",),
                set(),
                {"status": "IN_QUEUE", "queue_position": 3, "logs": [{"message": "loading"}], "metrics": {}},
            ),
            "succeeded": (
                ("status",),
                {("error",), ("error_type",)},
                {"status": "COMPLETED", "logs": None, "error": None, "error_type": None},
            ),
            "failed": (("status",), set(), {"status": "FAILED", "error": "broken", "error_type": "x", "logs": []}),
        },
    ),
    "kling": (
        Kling,
        "text2video/t",
        {
            "running": (
                ("data", "task_status"),
                set(),
                {
                    **KLING,
                    "data": {"task_id": "t", "task_status": "processing", "task_status_msg": "", "task_result": {}},
                },
            ),
            "succeeded": (
                ("data", "task_status"),
                set(),
                {**KLING, "data": {"task_status": "succeed", "task_result": {"videos": [{"id": "v", "url": URL}]}}},
            ),
            "failed": (
                ("data", "task_status"),
                set(),
                {**KLING, "data": {"task_id": "t", "task_status": "failed", "task_status_msg": "broken"}},
            ),
        },
    ),
    "minimax": (
        MiniMax,
        "t",
        {
            "running": (("status",), set(), {"task_id": "t", "status": "Processing", "base_resp": FINE}),
            "succeeded": (("status",), set(), {"task_id": "t", "status": "Success", "file_id": "7", "base_resp": FINE}),
            "failed": (("status",), set(), {"task_id": "t", "status": "Fail", "base_resp": FINE}),
        },
    ),
    "veo": (
        Veo,
        "operations/t",
        {
            "running": (("done",), {("error",)}, {"name": "operations/t", "done": False, "metadata": {"a": 1}}),
            "succeeded": (
                ("done",),
                set(),
                {
                    "name": "operations/t",
                    "done": True,
                    "response": {"generateVideoResponse": {"generatedSamples": [{"video": {"uri": URL}}]}},
                },
            ),
            "failed": (("done",), {("error",)}, {"done": True, "error": {"code": 13, "message": "broken"}}),
        },
    ),
}
"""For each dialect: a task; and of each state the way to the status, what else decides it, and an answer."""


def ways(value: object, way: Way = ()) -> Iterator[tuple[Way, object]]:
    """The way to every part of *value*, and the part."""
    parts: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    for key, part in parts:
        yield (*way, key), part
        yield from ways(part, (*way, key))


ODD: list[Any] = [
    *(None, True, False, -1, 0, 5, 0.5, -0.0, float("nan"), float("inf"), Figure("1e999"), Figure("9" * 30)),
    *("", "ab", "é\n\x1b", "\ud800", "x" * 9_000, "//[", "data:", "javascript:1", "42%"),
    *([], [None], [URL, 7], [[]], [{"url": "//["}, {}], {}, {"url": None}, {"url": "data:"}, {"x": [0.5, {"url": []}]}),
]
"""One value of each kind that a part of an answer might be, and is not: lenient readers tell no more of them apart."""

CASES = [(dialect, state) for dialect, (_, _, states) in ANSWERS.items() for state in states]


def spoilt(body: dict[str, Any], kept: Way, decisive: set[Way]) -> Iterator[dict[str, Any]]:
    """*body* with values of other types in place of its parts, but for those on the way to the status.

    Each part is replaced by each odd value, then several parts at once, 200 times.
    """
    parts = dict(ways(body))
    beside = [way for way in parts if way != kept[: len(way)] and not any(way[: len(one)] == one for one in decisive)]
    odd = {way: [value for value in ODD if type(value) is not type(parts[way])] for way in beside}
    yield from (changed(body, way, value) for way in beside for value in odd[way])
    chance = Random(repr(body))
    for _ in range(200 if len(beside) > 1 else 0):
        several = body
        # A part within another is replaced before that one is.
        for way in sorted(chance.sample(beside, chance.randint(2, len(beside))), key=len, reverse=True):
            several = changed(several, way, chance.choice(odd[way]))
        yield several


def check_spoilt(upstream: PerTaskUpstream, task: str, state: str, body: Any, kept: Way, decisive: set[Way]) -> None:
    before = upstream._read(task, body, Reply(200, {}, b""))
    for spoiled in spoilt(body, kept, decisive):
        seen = upstream._read(task, spoiled, Reply(200, {}, b""))
        try:
            check(before, seen, state)
        except AssertionError as error:
            error.add_note(f"the answer was {spoiled!r}")
            raise


def check(before: Observation, seen: Observation, state: str) -> None:
    assert (seen.status, seen.raw_status) == (before.status, before.raw_status)
    assert (seen.failure is None) == (state != "failed")
    assert seen.failure is None or seen.failure.message.strip()
    assert (seen.result is None) == (before.result is None)
    assert seen.percent is None or 0 <= seen.percent <= 100
    if seen.result is not None:
        assert all(url.startswith(("http://", "https://")) for url in seen.result.urls)


OWN_TASKS = {"veo": "operations/t"}


@pytest.mark.parametrize(("dialect", "state"), CASES)
def test_whatever_is_beside_the_status_the_status_is_read(dialect: str, state: str) -> None:
    adapter, task, states = ANSWERS[dialect]
    kept, decisive, body = states[state]
    check_spoilt(adapter("http://upstream.example", "token", name="u"), task, state, body, kept, decisive)


@pytest.mark.parametrize(("dialect", "state"), [case for case in CASES if case[0] in DECLARATIONS])
def test_so_it_is_where_the_api_is_declared(dialect: str, state: str, tmp_path: Path) -> None:
    _, _, states = ANSWERS[dialect]
    kept, decisive, body = states[state]
    # A declaration has one place for an error, and what is there counts as one whatever its type.
    errors: dict[str, set[Way]] = {
        "kling": {("code",), ("message",), ("data", "task_status_msg")},
        "minimax": {("base_resp",)},
        "new-api": {("code",), ("message",), ("data", "fail_reason")},
        "replicate": {("error",)},
        "veo": {("error",), ("response",), ("name",)},
    }
    upstream = declared(DECLARATIONS[dialect], "http://upstream.example", "token", tmp_path, SystemClock())
    task = OWN_TASKS.get(dialect, "t")
    check_spoilt(upstream, task, state, body, kept, decisive | errors.get(dialect, set()))


# Figures


@pytest.mark.parametrize(
    ("wire", "percent", "source"),
    [
        ("42", 42, "parsed"),
        (" 42 ", 42, "parsed"),
        ("57.5%", 58, "parsed"),
        ("57,5 %", 58, "parsed"),
        ("57,4\u00a0%", 57, "parsed"),
        ("42/100", 42, "parsed"),
        ("3 of 12", 25, "parsed"),
        ("99,5%", 99, "parsed"),
        (99.5, 99, "reported"),
        (99.999, 99, "reported"),
        (100, 100, "reported"),
        ("100", 100, "parsed"),
        ("1000", 100, "parsed"),
        ("-3", 0, "parsed"),
        ("5/0", None, None),
        ("1.000.000", None, None),
        ("forty", None, None),
        ("", None, None),
        (True, None, None),
    ],
)
def test_a_figure_of_percent_is_read_as_people_write_it(wire: object, percent: int | None, source: str | None) -> None:
    assert read_percent(wire)[:2] == (percent, source)


@pytest.mark.parametrize(
    ("wire", "percent"),
    [("0,42", 42), ("0.42", 42), ("42%", 42), ("42", 42), ("21/50", 42), (0.995, 99), (1, 100), ("1", 100), ("0", 0)],
)
def test_a_figure_of_one_is_read_as_people_write_it(wire: object, percent: int) -> None:
    assert read_fraction(wire)[0] == percent


def test_places_seconds_and_dates_are_read_from_texts() -> None:
    assert [read_count(wire) for wire in ("3", 3.0, " 7 ", "3.5", "-1", "many", True)] == [
        3,
        3,
        7,
        None,
        None,
        None,
        None,
    ]
    assert [read_seconds(wire) for wire in ("9.5", "9,5", "soon", "-1")] == [9.5, 9.5, None, None]
    assert [read_number(wire) for wire in ("1e5", "0x10", Figure("NaN"), None)] == [None] * 4
    day = datetime(2026, 1, 2, tzinfo=UTC)
    assert [read_date(wire) for wire in ("2026-01-02", "1767312000", 1767312000, "9" * 15)] == [day, day, day, None]


# Addresses


@pytest.mark.parametrize(
    ("wire", "address"),
    [
        ("https://r/a.mp4", "https://r/a.mp4"),
        ("//cdn.example/x.mp4", "https://cdn.example/x.mp4"),
        ("/files/1.mp4", "https://api.example/files/1.mp4"),
        ("files/1.mp4", "https://api.example/v1/files/1.mp4"),
        ("1.mp4?sig=x", "https://api.example/v1/1.mp4?sig=x"),
        ("./a", "https://api.example/v1/a"),
        ("../a", "https://api.example/a"),
        ("../../../etc/passwd", "https://api.example/etc/passwd"),
        *(
            (wire, None)
            for wire in ("", " ", "n/a", "none", "a cat", "a cat.mp4", "#a.mp4", "?a.mp4", "//", "///", "//[")
        ),
        *(
            (wire, None)
            for wire in ("file:///etc/passwd", "javascript:alert(1)", "data:,a", "gs://b/c.mp4", "s3:x.mp4")
        ),
        *((wire, None) for wire in ("\\\\host\\a.mp4", "/a\nb", "/\ud800.mp4", 7, None, True)),
    ],
)
def test_an_address_is_relative_to_the_answer_and_never_of_another_scheme(wire: object, address: str | None) -> None:
    assert resolved(wire, "https://api.example/v1/tasks?id=7") == address


def test_a_media_type_is_told_by_the_path_of_an_address_and_by_the_whole_name_of_a_file() -> None:
    assert [media_type(url) for url in ("https://r/a%232.MP4?x=1#y", "https://r/a.png%20", "https://[/a.mp4")] == [
        "video/mp4",
        None,
        None,
    ]
    assert [media_type_of_file(name) for name in ("b#2.mp4", "what?.png", "a b.webm", "none")] == [
        "video/mp4",
        "image/png",
        "video/webm",
        None,
    ]


def test_one_bad_address_among_good_ones_is_a_warning() -> None:
    said = Fields({"output": [URL, "file:///etc/passwd", 7, None, "data:image/png;base64,AA"]})
    result = files(said.addresses("output", "https://api.example/"))
    assert (result.urls, result.media_types, result.value) == ((URL,), ("video/mp4",), "data:image/png;base64,AA")
    assert said.warning == (
        "a part of the answer cannot be read, and is left out: `output[1]` is no web address, `output[2]` is a number"
    )


# Values


def test_an_output_is_a_value_unless_it_is_addresses_alone() -> None:
    more = [{"video": {"url": URL}}, [URL, None], URL, {}, [], None, {"seed": 7}, "a cat", {"url": URL, "text": "x"}]
    assert [output(one, links(one), Redactor([]).value).value for one in more] == [
        *[None] * 6,
        {"seed": 7},
        "a cat",
        more[-1],
    ]


def test_a_value_is_kept_without_secrets_and_with_its_odd_figures_as_they_were_sent() -> None:
    assert safe({"a": Figure("1e999"), "b": ["x canary-1", {"canary-1": None}]}, Redactor(["canary-1"]).value) == {
        "a": "1e999",
        "b": ["x ***", {"***": None}],
    }
