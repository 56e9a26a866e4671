"""An expression is checked before it is used, and no answer makes it run for long."""

import pytest

from relay.errors import UpstreamError, UsageError
from relay.upstreams.declared.expressions import EXPRESSION_LIMIT, Evaluation, Expression
from relay.upstreams.reading.values import Figure


def find(text: str, document: object, steps: int = 10_000) -> object:
    return Expression(text).find(document, Evaluation(steps))


@pytest.mark.parametrize(
    ("text", "document", "value"),
    [
        ("data.status", {"data": {"status": "ok"}}, "ok"),
        ("data.status", {"data": None}, None),
        ("data.status", [], None),
        ("files[].href", {"files": [{"href": "a"}, {"href": None}, {"href": "b"}]}, ["a", "b"]),
        ("items[?kind=='video'].id | [0]", {"items": [{"kind": "x", "id": 1}, {"kind": "video", "id": 2}]}, 2),
        ("code != `0` && message", {"code": 0, "message": "fine"}, False),
        ("not_null(a, b)", {"b": 2}, 2),
        ("sort_by(@, &n)[-1].n", [{"n": 2}, {"n": 1}], 2),
        ('"task-id"', {"task-id": "t"}, "t"),
        ("@", {"a": 1}, {"a": 1}),
    ],
)
def test_what_an_expression_says_is_found(text: str, document: object, value: object) -> None:
    assert find(text, document) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data[", "it breaks off at character 6"),
        ("foo(", "it breaks off at character 5"),
        ("a..b", "'.' at character 3 is not expected"),
        ("a = b", "'=' at character 3 is not expected"),
        ("", "it cannot be read"),
        ("lenth(a)", "there is no function 'lenth'; did you mean 'length'?"),
        ("a[?lenth(@)]", "there is no function 'lenth'; did you mean 'length'?"),
        ("length(a, b)", "length() takes 1 argument, not 2"),
        ("contains(a)", "contains() takes 2 arguments, not 1"),
        ("(" * 900, "it nests too deep"),
    ],
)
def test_what_is_no_expression_is_refused_and_says_where(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        Expression(text)
    assert str(caught.value) == f"is no JMESPath expression: {problem}"


def test_an_expression_has_an_end() -> None:
    with pytest.raises(UsageError, match="is over the limit of 1,000 characters"):
        Expression("a" * (EXPRESSION_LIMIT + 1))


@pytest.mark.parametrize(
    ("text", "document", "problem"),
    [
        ("length(logs)", {"logs": None}, "length() does not take nothing"),
        ("join(',', ids)", {"ids": [1]}, "join() does not take a number"),
        ("sort(@)", [1, "x"], "sort() does not take a text"),
        ("ceil(@)", Figure("NaN"), "ceil() does not take such a value"),
        ("ceil(to_number(@))", "nan", "it does not fit what was sent"),
        ("floor(to_number(@))", "inf", "it does not fit what was sent"),
    ],
)
def test_what_does_not_fit_an_answer_is_said_without_what_was_in_it(text: str, document: object, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^") as caught:
        find(text, document)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("|".join(["[@, @]"] * 30), {}),
        ("|".join(["[@, @][]"] * 30), {}),
        ("|".join(["[@, @]"] * 30) + " | to_string(@)", {}),
        ("|".join(["{a: @, b: @}"] * 30), {}),
        ("[].to_string(@)", list(range(20_000))),
        ("join('', @)", ["x" * 640_000]),
    ],
)
def test_what_would_grow_without_end_is_given_up(text: str, document: object) -> None:
    with pytest.raises(UpstreamError, match="takes too many steps to read") as caught:
        find(text, document)
    assert caught.value.kind == "malformed"


def test_the_expressions_of_one_answer_share_its_steps() -> None:
    evaluation = Evaluation(10)
    for _ in range(10):
        Expression("a").find({"a": 1}, evaluation)
    with pytest.raises(UpstreamError):
        Expression("a").find({"a": 1}, evaluation)
