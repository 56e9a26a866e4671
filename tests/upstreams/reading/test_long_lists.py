"""A long list is read a few items at a time, and says what it would say in one go."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UpstreamError
from relay.jobs.observations import Answer
from relay.testing import ManualClock
from relay.upstreams import Sora, Upstream
from relay.upstreams.declared.expressions import Evaluation, Expression
from relay.upstreams.reading.long_lists import split
from tests.upstreams.declared.declarations import declared
from tests.upstreams.stub import Stub, reply

MANY = 5_000

DECLARED = """
[upstreams.poll]
path = "tasks"
items = "ITEMS"
id = "id"
status = "status"
progress = "progress_pct"
scale = 1
urls = "url"
"""

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=12,
)


def listing(count: int) -> list[dict[str, Any]]:
    return [{"id": f"task_{n}", "status": "running", "progress_pct": n / count} for n in range(count)]


async def answer_and_turns(upstream: Upstream, tasks: list[str]) -> tuple[Answer, int]:
    """What *upstream* says about *tasks*, and how many turns others had on the loop between its answer and that."""
    turns = 0

    async def another() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(another())
    try:
        return await upstream.observe(tasks), turns
    finally:
        other.cancel()


@pytest.mark.parametrize("items", ["@", "data.tasks", "data.tasks[?id]"])
async def test_while_a_long_list_that_is_declared_is_read_others_have_their_turns(items: str, tmp_path: Path) -> None:
    body = listing(MANY) if items == "@" else {"data": {"tasks": listing(MANY)}}
    tasks = [f"task_{n}" for n in range(MANY)]
    async with (
        Stub(reply(json.dumps(body))) as stub,
        declared(DECLARED.replace("ITEMS", items), stub.url, "t", tmp_path, ManualClock()) as upstream,
    ):
        answer, turns = await answer_and_turns(upstream, tasks)
    assert (answer.listed, list(answer.tasks)) == (MANY, tasks)
    assert turns >= MANY // 100


async def test_while_a_long_list_of_sora_is_read_others_have_their_turns() -> None:
    tasks = [f"task_{n}" for n in range(MANY)]
    async with Stub(reply(json.dumps(listing(MANY)))) as stub, Sora(stub.url, "t") as upstream:
        answer, turns = await answer_and_turns(upstream, tasks)
    assert (answer.listed, list(answer.tasks)) == (MANY, tasks)
    assert turns >= MANY // 100


@pytest.mark.parametrize("odd", [{"id": "odd", "status": "running", "progress_pct": float("nan")}, "no object", []])
@pytest.mark.parametrize("items", ["@", "data.tasks", "data.tasks[?id] || @"])
async def test_a_long_list_that_is_declared_says_the_same_as_a_short_one(
    items: str, odd: object, tmp_path: Path
) -> None:
    """Whether it can be split or not: `NaN` is no JSON, and a filter has to see the whole."""

    async def said(count: int) -> dict[str, str]:
        listed = [odd, *({"id": f"task_{n}", "status": "queued", "more": "x" * 1000} for n in range(count))]
        body = {"data": {"tasks": listed}} if "data" in items else listed
        async with (
            Stub(reply(json.dumps(body))) as stub,
            declared(DECLARED.replace("ITEMS", items), stub.url, "t", tmp_path, ManualClock()) as upstream,
        ):
            answer = await upstream.observe(["odd", "task_0", "task_1"])
        return {task: str(seen) for task, seen in answer.tasks.items()}

    assert await said(2) == await said(400)


@given(st.lists(json_values))
def test_the_pieces_of_a_list_are_its_items(items: list[Any]) -> None:
    pieces = split(json.dumps({"a": {"b": items}}).encode(), ("a", "b"))
    assert pieces is not None
    assert [json.loads(bytes(piece)) for piece in pieces] == items


@pytest.mark.parametrize("body", [b"", b"7", b"{}", b'{"a": null}', b'{"a": {"b": []}}', b'{"a": [NaN]}', b"[1]"])
def test_what_has_no_list_there_or_is_not_strictly_json_is_not_split(body: bytes) -> None:
    assert split(body, ("a",)) is None


@pytest.mark.parametrize("levels", [31, 32])
def test_what_is_beside_a_list_may_nest_as_deep_as_the_limit_and_no_deeper(levels: int) -> None:
    body = b'{"beside": ' + b"[" * levels + b"]" * levels + b', "a": []}'
    if levels < 32:
        assert split(body, ("a",)) == []
        return
    with pytest.raises(UpstreamError, match="deeper than 32 levels"):
        split(body, ("a",))


@given(json_values, st.lists(st.sampled_from("abc"), min_size=1, max_size=3))
def test_names_alone_find_what_the_interpreter_finds(document: object, names: list[str]) -> None:
    plain, interpreted = Expression(".".join(names)), Expression(f"@ | {'.'.join(names)}")
    assert (plain.way, interpreted.way) == (tuple(names), None)
    assert plain.find(document, Evaluation()) == interpreted.find(document, Evaluation())
