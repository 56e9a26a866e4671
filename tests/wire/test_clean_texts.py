"""A text is searched for secrets in short cuts: none of them lets anything through that the whole search would find."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import Log, Redactor
from relay.wire.event_redaction import redact_event
from relay.wire.redactor import _UNNAMED

SECRET = "long-secret-canary"

_parts = st.sampled_from(
    (
        *("cb_", "rlk_", "rls_0123abcd.", "eyJ", "bearer ", "BEARER ", "Basic ", "ba\u0131c ", "\u017fig", "://", "@"),
        *("?sig=", "&KEY=", "\\u0026token=", "%26expires%3D", "%3fauth%3d", "#api_\u212aey=", ";x-amz-date=", ":", " "),
        *("a" * 43, "0123456789abcdef", "Q2FuYXJ5.Q2FuYXJ5.Q2FuYXJ5", "user:password", "host/path", "word"),
    )
)


@given(text=st.lists(_parts | st.text(max_size=3), max_size=8).map("".join))
@example(text="authorization: ba\u017f\u0131c QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
def test_a_text_without_the_marks_of_a_pattern_does_not_match_it(text: str) -> None:
    folded = text.casefold()
    assert [
        pattern.pattern
        for pattern, marks in _UNNAMED
        if pattern.search(text) is not None and not any(mark in folded for mark in marks)
    ] == []


def test_a_text_that_was_clean_is_masked_once_it_is_known_as_a_secret() -> None:
    redactor = Redactor(["something-else"])
    assert redactor(SECRET, short=False) == redactor(SECRET, short=False) == SECRET
    redactor.learn([SECRET])
    assert redactor(SECRET, short=False) == "***"


def test_a_text_that_is_clean_in_an_event_is_not_clean_everywhere() -> None:
    """A secret of a few letters stays in the words of an event, and is masked in a notice."""
    redactor = Redactor(["cat"])
    assert redact_event(Log(line="a cat"), redactor) == Log(line="a cat")
    assert redactor("a cat") == "a ***"


@pytest.mark.parametrize("count", [10, 3_000])
def test_however_many_texts_were_clean_the_next_one_is_searched(count: int) -> None:
    redactor = Redactor([SECRET])
    for number in range(count):
        assert redactor(f"step {number}", short=False) == f"step {number}"
    assert redactor(f"is {SECRET}", short=False) == "is ***"
    assert len(vars(redactor)["_clean"]) <= 1_024
