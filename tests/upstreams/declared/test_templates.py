"""What is put into a request stays where it was put, and nothing in it is evaluated."""

from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from relay.errors import UpstreamError, UsageError
from relay.upstreams.declared.templates import BodyTemplate, PathTemplate, QueryTemplate

INPUT = {"prompt": "a {cat}", "seed": 7, "tags": ["x"], "hd": True, "style": None, "size": {"w": 16}}


@pytest.mark.parametrize(
    ("path", "task", "filled"),
    [
        ("tasks/{task}", "t_1", "tasks/t_1"),
        ("/tasks/{task}/", "t_1", "/tasks/t_1/"),
        ("tasks/{task}", "a/b", "tasks/a%2Fb"),
        ("tasks/{task}", "../admin", "tasks/..%2Fadmin"),
        ("tasks/{task}", "a?b#c%2e", "tasks/a%3Fb%23c%252e"),
        ("tasks/{task}:wait", "é", "tasks/%C3%A9:wait"),
        ("v1/{+task}", "models/veo/operations/a b", "v1/models/veo/operations/a%20b"),
    ],
)
def test_a_task_stays_the_segment_or_the_segments_it_stands_for(path: str, task: str, filled: str) -> None:
    assert PathTemplate(path, ("task",)).filled({"task": task}) == filled


@pytest.mark.parametrize("path", ["tasks/{task}", "tasks/{+task}"])
@pytest.mark.parametrize("task", ["", ".", ".."])
def test_a_task_that_no_segment_can_hold_is_not_found(path: str, task: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        PathTemplate(path, ("task",)).filled({"task": task})
    assert caught.value.kind == "not-found"


@pytest.mark.parametrize("task", ["a/../b", "/a", "a//b", "a/", "./a"])
def test_whole_segments_lead_nowhere_else(task: str) -> None:
    with pytest.raises(UpstreamError):
        PathTemplate("v1/{+task}", ("task",)).filled({"task": task})


@given(st.text(min_size=1).filter(lambda text: text.strip(".") != ""))
def test_whatever_a_task_is_called_its_address_is_below_the_base_and_names_it_alone(task: str) -> None:
    try:
        path = PathTemplate("tasks/{task}/result", ("task",)).filled({"task": task})
    except UnicodeEncodeError:
        return
    address = URL(f"http://api/v1/{path}")
    segments = urlsplit(str(address)).path.split("/")
    assert (address.host, segments[:3], segments[4:]) == ("api", ["", "v1", "tasks"], ["result"])
    assert unquote(segments[3]) == task
    assert (address.query_string, address.fragment) == ("", "")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("tasks/../{task}", "has a segment '.' or '..'"),
        ("tasks?id={task}", "parameters go into query"),
        ("//evil.example/{task}", "is a path below base_url"),
        ("tasks/{task} x", "is a path below base_url"),
        ("tasks/{tsk}", "has the unknown placeholder {tsk}; did you mean 'task'?"),
        ("tasks/{task.id}", "{task} has no parts"),
        ("tasks/{task?}", "that is for query and body"),
        ("tasks/{task", "has '{task', which is no placeholder; a brace itself is written twice"),
        ("tasks/{task!r}", "which is no placeholder"),
        ("tasks/{task.__class__}", "{task} has no parts"),
        ("tasks/{}", "which is no placeholder"),
        ("tasks/}", "which is no placeholder"),
        ("tasks/{{x}}", "is a path below base_url"),
    ],
)
def test_a_path_that_leads_elsewhere_or_holds_no_placeholder_is_refused(path: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        PathTemplate(path, ("task",))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("body", "filled"),
    [
        ("{input}", INPUT),
        ({"p": "{input.prompt}"}, {"p": "a {cat}"}),
        ({"p": "say: {input.prompt}."}, {"p": "say: a {cat}."}),
        ({"s": "{input.seed}", "h": "{input.hd}"}, {"s": 7, "h": True}),
        ({"t": "{input.tags}", "z": "{input.size}"}, {"t": ["x"], "z": {"w": 16}}),
        ({"w": "{input.size.w}p"}, {"w": "16p"}),
        ({"a": [{"b": "{input.seed}"}]}, {"a": [{"b": 7}]}),
        ({"a": "{input.none?}", "b": 1}, {"b": 1}),
        ({"a": "{input.style?}", "b": 1}, {"b": 1}),
        ({"a": "{input.prompt.x?}", "b": "[{input.none?}]"}, {"b": "[]"}),
        (["{input.none?}", "{input.seed}"], [7]),
        ({"a": "{{input}}"}, {"a": "{input}"}),
        ({"n": 1, "f": 1.5, "t": False, "e": ""}, {"n": 1, "f": 1.5, "t": False, "e": ""}),
        (None, None),
    ],
)
def test_a_body_takes_values_as_they_are_and_text_within_text(body: Any, filled: Any) -> None:
    assert BodyTemplate(body, ("input",)).filled({"input": INPUT}) == filled


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"a": "{input.title}"}, "the input needs the key 'title'"),
        ({"a": "{input.size.h}"}, "the input needs the key 'size.h'"),
        ({"a": "{input.style}"}, "the input needs the key 'style'"),
        ({"a": "x {input.tags}"}, "the 'input.tags' of the request must be a single value, to stand within a text"),
    ],
)
def test_an_input_that_lacks_something_is_refused_by_its_key(body: Any, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        BodyTemplate(body, ("input",)).filled({"input": INPUT})
    assert str(caught.value) == problem


def test_parameters_are_encoded_and_left_out_where_their_value_may_be_missing() -> None:
    query = QueryTemplate({"id": "{task}", "limit": 15, "full": True, "x": "{input.x?}"}, ("task", "input"))
    assert query.filled({"task": "a&b=c d/é", "input": {}}) == "?id=a%26b%3Dc%20d%2F%C3%A9&limit=15&full=true"
    assert QueryTemplate({}, ()).filled({}) == ""
