"""A list that comes in pages is read as far as it takes, and a part of it is never taken for the whole."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import Record, Relay
from relay.errors import UpstreamError
from relay.events import Failed
from relay.jobs import Decision, JobState, Patience, decide_fetched, decide_listed, is_complete_for
from relay.jobs.observations import Answer, Observation
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from relay.upstreams.reading.pages import PAGES, Look, Page, Pages, cursor_in, next_link, tells_of_more
from tests.upstreams.stub import Stub, reply

DRAFTS = "/project_y/profile/drafts/v2?limit=15"


def draft(number: int, **fields: object) -> dict[str, Any]:
    url = f"https://v.example/task_{number:03}.mp4"
    return {"id": f"gen_{number}", "task_id": f"task_{number:03}", "kind": "sora_draft", "url": url, **fields}


def page(numbers: Sequence[int], cursor: object = None, **fields: object) -> bytes:
    return reply(json.dumps({"items": [draft(number, **fields) for number in numbers], "cursor": cursor}))


async def looked(tasks: Sequence[str], *pages: bytes) -> tuple[Answer, list[str]]:
    async with Stub(*pages) as stub, Sora(stub.url, "token", clock=ManualClock()) as sora:
        answer = await sora.fetch_result(tasks)
    return answer, [path.removeprefix(DRAFTS) for path in stub.paths]


async def test_a_draft_on_the_second_page_is_found() -> None:
    first = page(range(19, 4, -1), "15")
    answer, asked = await looked(["task_004", "task_019"], first, page(range(4, -1, -1)))
    assert (sorted(answer.tasks), answer.listed, answer.partial) == (["task_004", "task_019"], 20, False)
    assert asked == ["", "&cursor=15"]


async def test_no_page_is_read_behind_the_one_with_all_that_is_wanted() -> None:
    answer, asked = await looked(["task_019"], page(range(19, 4, -1), "15"))
    assert (list(answer.tasks), answer.partial, asked) == (["task_019"], True, [""])


async def test_a_cursor_is_sent_as_the_text_it_is() -> None:
    _, asked = await looked(["x"], page([1], "a&b=c/d%"), page([2]))
    assert parse_qs(asked[1][1:]) == {"cursor": ["a&b=c/d%"]}


@pytest.mark.parametrize("cursor", [None, "", False])
async def test_a_list_without_another_cursor_is_the_whole(cursor: object) -> None:
    answer, asked = await looked(["x"], page(range(15), cursor))
    assert (answer.partial, asked) == (False, [""])


@pytest.mark.parametrize("cursor", [True, {}, {"after": 1}, ["a"], 1.5, "x" * 3_000, "a\r\nb"])
async def test_a_cursor_that_is_none_leaves_it_open_what_is_behind(cursor: object) -> None:
    answer, asked = await looked(["x"], page(range(15), cursor))
    assert (answer.partial, asked) == (True, [""])


async def test_a_full_page_that_says_nothing_of_others_may_be_a_part() -> None:
    full, short = (reply(json.dumps({"items": [draft(n) for n in range(count)]})) for count in (15, 14))
    assert [(await looked(["x"], body))[0].partial for body in (full, short)] == [True, False]


async def test_a_number_is_a_cursor_too() -> None:
    assert (await looked(["x"], page([1], 15), page([2])))[1] == ["", "&cursor=15"]


async def test_a_cursor_that_repeats_ends_the_look_and_proves_nothing() -> None:
    answer, asked = await looked(["x"], page([1], "a"), page([2], "b"), page([3], "a"))
    assert (answer.partial, asked) == (True, ["", "&cursor=a", "&cursor=b"])


async def test_pages_without_end_are_left_and_gone_on_with_at_the_next_look() -> None:
    pages = [page([number], f"c{number}") for number in range(PAGES)]
    rest = [page([100], "new"), page([101], "last"), page([7])]
    async with Stub(*pages, *rest) as stub, Sora(stub.url, "token", clock=ManualClock()) as sora:
        first = await sora.fetch_result(["task_007x"])
        second = await sora.fetch_result(["task_007x"])
    asked = [path.removeprefix(DRAFTS) for path in stub.paths]
    assert (first.partial, second.partial, len(asked)) == (True, True, PAGES + 3)
    assert asked[PAGES:] == ["", f"&cursor=c{PAGES - 1}", "&cursor=last"]


async def test_an_item_that_moves_to_the_next_page_while_it_is_read_is_not_two_drafts() -> None:
    moved = draft(5, url="https://v.example/signed-anew.mp4")
    second = reply(json.dumps({"items": [moved, draft(4)], "cursor": None}))
    answer, _ = await looked(["task_005", "task_004"], page([6, 5], "2"), second)
    seen = answer.tasks["task_005"]
    assert isinstance(seen, Observation)
    assert (seen.warning, seen.result and seen.result.urls) == (None, ("https://v.example/task_005.mp4",))


@pytest.mark.parametrize(
    "broken", [reply("{}", "500 Oops"), reply("{}", "429 Too Many Requests", retry_after="7"), reply("{}"), b""]
)
async def test_a_page_that_fails_in_the_middle_costs_nothing_that_was_found(broken: bytes) -> None:
    answer, _ = await looked(["task_019", "x"], page([19], "1"), broken)
    assert (list(answer.tasks), answer.partial) == (["task_019"], True)
    assert answer.poll_after == (7.0 if b"429" in broken else None)


@pytest.mark.parametrize(
    ("status", "kind"), [("500 Oops", "server"), ("429 Too Many Requests", "rate-limit"), ("401 No", "auth")]
)
async def test_where_nothing_was_found_the_trouble_of_the_account_is_raised(status: str, kind: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await looked(["x"], page([19], "1"), reply("{}", status))
    assert caught.value.kind == kind


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "422 Unprocessable Content"])
async def test_an_upstream_that_knows_no_cursor_ends_no_job(status: str) -> None:
    answer, _ = await looked(["x"], page([19], "1"), reply("{}", status))
    assert answer == Answer(listed=1, tasks={}, partial=True)


async def test_nothing_is_read_behind_drafts_that_are_older_than_any_job_under_way() -> None:
    now = ManualClock().now()
    old = (now - timedelta(days=3)).timestamp()
    answer, asked = await looked(["x"], page([3], "1"), page([2, 1], "3", created_at=old))
    assert (answer.partial, answer.since, asked) == (
        True,
        now - timedelta(seconds=1500) - timedelta(days=1),
        ["", "&cursor=1"],
    )


@pytest.mark.parametrize("made", [None, "soon", True, {}, 1e300, -1, float("nan"), 1.9e12])
async def test_a_date_that_is_none_is_no_reason_to_stop(made: object) -> None:
    answer, asked = await looked(["x"], page([3], "1", created_at=made), page([2]))
    assert (answer.partial, len(asked)) == (False, 2)


# What a partial answer means for a job.

PATIENCE = Patience(unseen=2, grace=2)
LONG_MISSED = JobState(upstream="u", task="t", seen=True, misses=99, looks=99, fetches=99, started=ManualClock().now())
SINCE = ManualClock().now()


@pytest.mark.parametrize(
    ("answer", "seen", "started", "complete"),
    [
        (Answer(listed=0, tasks={}), False, 0, True),
        (Answer(listed=0, tasks={}, partial=True), True, 0, False),
        (Answer(listed=0, tasks={}, partial=True, since=SINCE), True, 1, True),
        (Answer(listed=0, tasks={}, partial=True, since=SINCE), True, -1, False),
        (Answer(listed=0, tasks={}, partial=True, since=SINCE), False, 1, False),
        (Answer(listed=0, tasks={}, partial=True, since=SINCE), True, None, False),
    ],
)
def test_an_answer_is_complete_for_a_job_that_it_would_mention(
    answer: Answer, seen: bool, started: int | None, complete: bool
) -> None:
    began = None if started is None else SINCE + timedelta(hours=started)
    assert is_complete_for(JobState(seen=seen, started=began), answer) is complete


@pytest.mark.parametrize("two_step", [True, False])
def test_a_partial_answer_never_ends_a_job(two_step: bool) -> None:
    listed = decide_listed(LONG_MISSED, None, PATIENCE, two_step=two_step, complete=False)
    assert [isinstance(event, Failed) for event in listed.events] == [False]
    assert decide_fetched(LONG_MISSED, None, PATIENCE, complete=False) == Decision()
    assert isinstance(decide_fetched(LONG_MISSED, None, PATIENCE).events[0], Failed), "as a complete one does"


async def test_a_job_whose_draft_is_on_no_page_that_can_be_read_is_not_lost() -> None:
    """Its upstream answers 400 to every cursor; the job ends at its deadline, as one whose result is not known."""
    clock = ManualClock(auto=True)
    told: list[Record] = []
    over = asyncio.Event()

    def note(record: Record) -> None:
        told.append(record)
        if record.terminal:
            over.set()

    pending, drafts = reply("[]"), page(range(19, 4, -1), "15")

    class Paths(Stub):
        def next_answer(self, _target: str) -> bytes:
            if "cursor" in _target:
                return reply("{}", "400 Bad Request")
            return drafts if "drafts" in _target else pending

    async with Paths() as stub:
        sora = Sora(stub.url, "token", clock=clock, deadline=300.0)
        async with Relay([sora], sinks=[note], clock=clock) as relay:
            relay.follow("sora", "task_004")
            await over.wait()
    event = told[-1].event
    assert isinstance(event, Failed)
    assert event.kind == "timeout"


async def test_two_hundred_tasks_that_end_at_once_are_all_found() -> None:
    clock = ManualClock()
    async with ScriptedUpstream(clock=clock) as upstream, Sora(upstream.url, upstream.token, clock=clock) as sora:
        tasks = [upstream.add_task() for _ in range(200)]
        await clock.advance(41)
        answer = await sora.fetch_result(tasks)
    assert (len(answer.tasks), answer.listed, answer.partial) == (200, 200, False)
    assert upstream.requests["project_y/profile/drafts/v2"] == 14


async def test_the_pages_of_a_thousand_drafts_are_read_in_some_looks() -> None:
    clock = ManualClock()
    async with ScriptedUpstream(clock=clock) as upstream, Sora(upstream.url, upstream.token, clock=clock) as sora:
        tasks = [upstream.add_task() for _ in range(1_000)]
        await clock.advance(41)
        found: set[str] = set()
        for _ in range(5):
            found |= (await sora.fetch_result([task for task in tasks if task not in found])).tasks.keys()
    assert len(found) == 1_000


# The pages by themselves.


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["", *"abcdef"]), min_size=6),
    st.sampled_from("abcdef"),
)
def test_whatever_leads_where_a_look_ends(links: dict[str, str], first: str) -> None:
    asked: list[str | None] = []

    async def ask(cursor: str | None) -> Page:
        asked.append(cursor)
        following = first if cursor is None else links[cursor]
        return Page(listed=1, next=following or None)

    coroutine = Pages().look(ask, {"x"}, {})
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    look: Look = ended.value.value
    assert len(asked) == len(set(asked)) == look.listed <= PAGES
    assert look.partial is bool(links[asked[-1] or first])


@pytest.mark.parametrize(
    ("header", "link"),
    [
        ('<https://a/?page=2>; rel="next"', "https://a/?page=2"),
        ('<https://a/1>; rel="prev", <https://a/3>; title="x, y"; rel="last next"', "https://a/3"),
        ("</tasks?p=2>; rel=next", "/tasks?p=2"),
        ('<https://a/1>; rel="prev"', None),
        ('<https://a/1>; rel="next-of-kin"', None),
        ("next", None),
        ("", None),
    ],
)
def test_the_next_page_may_stand_in_a_link_header(header: str, link: str | None) -> None:
    assert next_link({"Link": header}) == link


@pytest.mark.parametrize(
    "beside",
    [
        {"next": "https://a/?page=2"},
        {"nextCursor": "x"},
        {"next_page_token": "x"},
        {"has_more": True},
        {"meta": {"hasMore": True}},
        {"links": {"next": "/2"}},
        {"total": 11},
        {"pagination": {"total-count": 11}},
        {"IsTruncated": True},
        {"page_info": {"end_cursor": "x"}},
    ],
)
def test_what_stands_beside_a_list_may_say_that_there_are_more(beside: dict[str, object]) -> None:
    assert tells_of_more({"items": [], **beside}, 10)


@pytest.mark.parametrize(
    "beside",
    [{}, {"next": None}, {"next": ""}, {"has_more": False}, {"total": 10}, {"total": True}, {"status": "more"}, []],
)
def test_or_say_nothing_of_the_kind(beside: object) -> None:
    assert not tells_of_more(beside, 10)


@pytest.mark.parametrize("value", [None, "", False, "a", 7, True, 1.5, [], {}, ["a"], "\n", "x" * 5000])
def test_a_cursor_is_a_text_or_a_number(value: object) -> None:
    assert cursor_in(value) == {"a": ("a", False), "7": ("7", False)}.get(
        str(value), (None, value not in (None, "", 0))
    )
