"""How deep an answer nests is told from its bytes: texts do not count, whatever they hold."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import UpstreamError
from relay.upstreams.reading.values import DEPTH_LIMIT, read_json

texts = st.text(st.sampled_from('[]{}"\\/,:\n\té\u2028 nu0'), max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    # An integer of more than 18 characters is read as a `Figure`, which is another test.
    st.none() | st.booleans() | st.integers(-(10**16), 10**16) | texts,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(texts, part, max_size=4),
    max_leaves=20,
)


def depth(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


@example("]" * 40, DEPTH_LIMIT, False, None)
@example("[" * 40, DEPTH_LIMIT, False, None)
@example(["\\", "[", "]\\\\", ["]"]], DEPTH_LIMIT - 1, False, None)
@example(['"', '\\"[', {'}"': "["}], DEPTH_LIMIT - 2, False, None)
@given(values, st.integers(DEPTH_LIMIT - 8, DEPTH_LIMIT + 2), st.booleans(), st.sampled_from([None, 1]))
def test_an_answer_is_read_up_to_the_limit_whatever_its_texts_hold(
    value: Any, levels: int, escaped: bool, indent: int | None
) -> None:
    for level in range(levels):
        value = [value, "]"] if level % 2 else {"{": value, "a": []}
    body = json.dumps(value, ensure_ascii=escaped, indent=indent).encode()
    if depth(value) <= DEPTH_LIMIT:
        assert read_json(body) == value
        return
    with pytest.raises(UpstreamError, match=f"^the answer nests deeper than {DEPTH_LIMIT} levels$"):
        read_json(body)
