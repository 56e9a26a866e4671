"""Events of every kind, with the texts and figures that an upstream may send: for laws that hold for all of them."""

from datetime import UTC, datetime
from typing import Any, Final, get_args

from hypothesis import strategies as st

from relay.errors import ErrorKind
from relay.events import (
    LEVELS,
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Event,
    Failed,
    FailureKind,
    Log,
    Progress,
    ProgressSource,
    Received,
    Retrying,
    Stalled,
    Status,
)
from tests.sinks.hostile import any_text

__all__ = ["BY_KIND", "any_event", "any_value"]

_texts: Final = st.one_of(st.just("running"), any_text)
_nth: Final = st.integers(1, 10**6)
_counts: Final = st.integers(0, 10**6)
_seconds: Final = st.floats(0, 1e7)
_percents: Final = st.none() | st.integers(0, 100)
_moments: Final = st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1))

any_value: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | any_text,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(any_text, part, max_size=3),
    max_leaves=6,
)
"""Any JSON value."""

BY_KIND: Final[dict[type[Event], st.SearchStrategy[Event]]] = {
    Accepted: st.builds(Accepted, upstream=_texts, task=st.none() | _texts),
    Checking: st.builds(Checking, attempt=_nth, of=_nth),
    Received: st.builds(Received, listed=_counts, seconds=_seconds),
    Progress: st.builds(
        Progress,
        percent=_percents,
        status=st.sampled_from(get_args(Status)),
        raw_status=st.none() | _texts,
        source=st.none() | st.sampled_from(get_args(ProgressSource)),
        queue_position=st.none() | _counts,
        eta=st.none() | _seconds,
        eta_low=st.none() | _seconds,
        eta_high=st.none() | _seconds,
        listed=st.booleans(),
        regressed=st.booleans(),
        raw_percent=st.none() | _texts,
        unchanged=st.booleans(),
    ),
    DraftsFetch: st.builds(DraftsFetch, attempt=_nth, listed=st.booleans()),
    Retrying: st.builds(
        Retrying, kind=st.sampled_from(get_args(ErrorKind)), message=_texts, attempt=_nth, next_in=_seconds
    ),
    Stalled: st.builds(Stalled, seconds=_seconds),
    Log: st.builds(Log, line=_texts, severity=st.sampled_from(LEVELS), number=st.none() | _nth),
    Done: st.builds(
        Done,
        urls=st.lists(_texts, max_size=3).map(tuple),
        media_types=st.lists(_texts, max_size=3).map(tuple),
        expires=st.none() | _moments,
        result=any_value,
    ),
    Failed: st.builds(Failed, kind=st.sampled_from(get_args(FailureKind)), message=_texts, retryable=st.booleans()),
    Cancelled: st.builds(Cancelled, by=st.sampled_from(("caller", "upstream")), message=st.none() | _texts),
}

any_event: Final = st.one_of(*BY_KIND.values())
"""An event of any kind."""
