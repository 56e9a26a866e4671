"""Whatever JSON a declared API answers, it is an observation or an error of the upstream, and never a false success."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.errors import UpstreamError
from relay.events import Status
from relay.upstreams import PollRequest
from relay.upstreams.declared.expressions import Evaluation
from relay.upstreams.declared.readings import Reader, Reading
from relay.upstreams.reading.values import Figure, is_something

STATES: Mapping[str, Status] = {"ready": "succeeded"}

POLL = PollRequest(
    path="{task}",
    status="a || b.c",
    progress="p",
    scale="s",
    queue_position="q",
    eta="e",
    log="l",
    urls="u[].href || u",
    expires="x",
    error="err.message || err",
    code="k",
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["succeeded", "ready", "failed", "running", "42%", "https://r/a.mp4", "2026-01-01T00:00:00Z"]),
    st.sampled_from([Figure("NaN"), Figure("1e999"), Figure("9" * 30)]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["c", "href"]), inner)),
    max_leaves=6,
)
bodies = st.one_of(values, st.dictionaries(st.sampled_from([*"abpsqelux", "err", "k"]), values, max_size=11))


def read(body: Any) -> Reading | None:
    reader = Reader("poll", POLL, STATES)
    try:
        return reader.reading(reader.findings(body, Evaluation()))
    except UpstreamError:
        return None


@given(bodies)
def test_every_answer_is_read_or_is_malformed_and_every_figure_is_within_its_bounds(body: Any) -> None:
    reading = read(body)
    if reading is None:
        return
    assert reading.percent is None or 0 <= reading.percent <= 100
    assert (reading.percent is None) == (reading.source is None)
    assert reading.queue_position is None or reading.queue_position >= 0
    assert reading.eta is None or 0 <= reading.eta < float("inf")
    assert all(url.lower().startswith(("https://", "http://")) for url in reading.urls)
    assert reading.raw_percent is None or len(reading.raw_percent) <= 64


@given(values)
def test_what_tells_of_an_error_is_neither_empty_nor_zero_nor_false(value: Any) -> None:
    assert is_something(value) is not tells_of_nothing(value)


NO_ERROR = {
    *("", "0", "200", "null", "none", "nil", "undefined", "false", "n/a"),
    *("ok", "success", "succeed", "succeeded", "no error"),
}


def tells_of_nothing(value: Any) -> bool:
    match value:
        case dict():
            return all(map(tells_of_nothing, value.values()))
        case list():
            return all(map(tells_of_nothing, value))
        case str():
            return value.strip().casefold() in NO_ERROR
        case _:
            return value in (None, False, 0, 200)
