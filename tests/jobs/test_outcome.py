"""How a job ends that has succeeded, whatever it has brought: within the limits of a record, and never unsaid."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.events import Done, Event, Failed, Log, Position
from relay.jobs.observations import Result
from relay.jobs.outcome import URLS_LIMIT, outcome
from relay.text import VALUE_LIMIT, brief, encoded_length, kept
from relay.wire.record_json import RECORD_LIMIT, read_record, stamp

AT = datetime(2026, 1, 2, tzinfo=UTC)
LIMITS = "the limits are 512 addresses of 8,192 characters, 176 KiB in all"


def warned(line: str) -> Log:
    return Log(line=line, severity="warning")


@pytest.mark.parametrize(
    ("result", "events"),
    [
        (Result(urls=("https://a/b",)), (Done(urls=("https://a/b",)),)),
        (Result(value=7), (Done(result=7),)),
        (Result(value=False), (Done(result=False),)),
        (Result(fileless=True), (Done(),)),
        (Result(), (Failed(kind="malformed", message="the upstream says it is finished, but names no file"),)),
        (
            Result(urls=("https://a/" + "b" * 9_000, "https://a/c"), media_types=("video/mp4", "image/png")),
            (
                warned(f"1 of the result's 2 addresses left out: {LIMITS}"),
                Done(urls=("https://a/c",), media_types=("image/png",)),
            ),
        ),
        (
            Result(urls=("https://a/" + "b" * 9_000,)),
            (Failed(kind="malformed", message=f"the result is over {LIMITS.replace('are', 'of')}"),),
        ),
    ],
)
def test_a_success_ends_with_what_it_has_brought(result: Result, events: tuple[Event, ...]) -> None:
    assert outcome(result) == events


def test_a_batch_of_images_is_ordinary_and_too_many_are_a_warning() -> None:
    urls = tuple(f"https://a/{number}.png" for number in range(600))
    assert outcome(Result(urls=urls[:64])) == (Done(urls=urls[:64]),)
    assert outcome(Result(urls=urls)) == (
        warned(f"88 of the result's 600 addresses left out: {LIMITS}"),
        Done(urls=urls[:URLS_LIMIT]),
    )


def test_long_addresses_that_are_not_ascii_are_as_many_as_a_record_holds() -> None:
    urls = tuple(f"https://a/{number}/" + "\u6f22" * 4_000 for number in range(12))
    warning, done = outcome(Result(urls=urls, value="x" * 200_000))
    assert warning == warned(f"5 of the result's 12 addresses left out: {LIMITS}")
    assert isinstance(done, Done)
    assert done.urls == urls[:7]
    assert len(stamp("job", 1, AT, done, Position("e", 1)).json) < RECORD_LIMIT


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=50),
        st.sampled_from(["\ud800", "\x7f" * 30_000, "\U0001f44d" * 20_000, "A" * 100_000, "data:a/b;base64,AA"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)


@given(json_values, st.lists(st.text(max_size=9_000), max_size=40))
def test_whatever_a_result_is_it_is_a_record_and_reads_back_as_it_was(value: Any, urls: list[str]) -> None:
    for event in outcome(Result(urls=tuple(urls), media_types=tuple(urls), value=value, fileless=True)):
        record = stamp("j" * 128, 10**9, AT, event, Position("e", 1))
        assert read_record(record.json, Position("e", 1)).event == event
        assert isinstance(event, Log) or encoded_length(event.result) <= VALUE_LIMIT  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "as_kept"),
    [
        ({"a": (1, float("nan"), 10**30)}, {"a": [1, None, "1" + "0" * 30]}),
        ({7: "\ud800"}, {"7": "\ufffd"}),
        (AT, "2026-01-02 00:00:00+00:00"),
        ("data:image/png;base64," + "A" * 1_000, "data:image/png;base64," + "A" * 1_000),
        ("data:image/png;base64," + "A" * 100_000, "[image/png of 75,000 bytes, left out]"),
        (["A" * 100_000, "a cat"], ["[base64 of 75,000 bytes, left out]", "a cat"]),
    ],
)
def test_a_value_is_kept_as_json_has_it_and_inline_data_last(value: object, as_kept: object) -> None:
    assert kept(value) == as_kept


@pytest.mark.parametrize("value", ["a cat, " * 20_000, ["a cat"] * 20_000, {"\u6f22": "a cat " * 30_000}])
def test_a_value_that_is_too_long_is_cut_and_says_so(value: object) -> None:
    cut = kept(value)
    whole = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    assert cut.endswith(f"... [{len(whole):,} characters in all]")
    assert whole.startswith(cut.partition("... [")[0])
    assert VALUE_LIMIT - 10 <= encoded_length(cut) <= VALUE_LIMIT


def test_a_value_that_never_ends_is_kept_to_a_depth() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert json.dumps(kept(endless)).count("[nested too deep]") == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a cat", "done: a cat"),
        ("two\nlines", "done: two\\nlines"),
        ({"text": "a cat"}, 'done: {"text": "a cat"}'),
        (0, "done: 0"),
        ("", "done"),
        ("data:image/png;base64,AAAA", "done: [image/png of 3 bytes, left out]"),
        ("x " * 150, "done: " + "x " * 86 + "x... [300 characters in all]"),
    ],
)
def test_a_value_is_told_in_a_few_words(value: object, words: str) -> None:
    assert Done(result=value).text == words
    assert len(brief(value)) <= 200


def test_beside_files_a_text_is_told_and_other_values_are_for_programs() -> None:
    urls = ("https://a/b.mp4",)
    assert Done(urls=urls, result="a cat").text == "done, 1 file: a cat"
    assert Done(urls=urls, result={"seed": 7}).text == "done, 1 file"
