"""Streams read block by block: as an EventSource reads them, however the bytes come in, and never without bound."""

import pytest
from httpx_sse._decoders import SSEDecoder
from hypothesis import example, given
from hypothesis import strategies as st

from relay.blocks import BLOCK_LIMIT, BlockReader

values = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=6)
lines = st.one_of(
    st.just(""),
    st.builds("{}: {}".format, st.sampled_from(["event", "data", "id", "", "unknown"]), values),
    st.builds("{}:{}".format, st.sampled_from(["event", "data", "id"]), values),
    st.builds("retry: {}".format, st.integers(0, 999_999_999)),
    st.sampled_from(["event", "data", "id", "retry"]),
)
streams = st.lists(lines, max_size=30)

Event = tuple[str, str, str, int | None]


def read(*pieces: bytes) -> list[Event]:
    """What an EventSource makes of the stream: events with data, each with the id that was said last."""
    reader, events, last = BlockReader(), list[Event](), ""
    for piece in pieces:
        for block in reader.feed(piece):
            last = last if block.id is None else block.id
            if block.data:
                events.append((block.event, block.data.decode(), last, block.retry))
    return events


@given(streams)
@example(["event: a", "event:", "data", "data: b", "id: 1", "id", ""])
def test_it_reads_what_an_independent_parser_reads(lines: list[str]) -> None:
    decoder = SSEDecoder()
    events = [event for line in lines if (event := decoder.decode(line)) is not None and event.data]

    assert read("".join(f"{line}\n" for line in lines).encode()) == [
        (event.event, event.data, event.id, event.retry) for event in events
    ]


@given(streams, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.data())
def test_it_reads_the_same_however_the_bytes_come_in(
    lines: list[str], end: str, mark: bool, data: st.DataObject
) -> None:
    stream = ("\ufeff" * mark + "".join(f"{line}{end}" for line in lines)).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert read(*pieces) == read("".join(f"{line}\n" for line in lines).encode())


def test_a_block_that_the_stream_ends_in_is_discarded() -> None:
    assert read(b"data: whole\n\nevent: cut\ndata: off\nid: 7\n") == [("message", "whole", "", None)]


@pytest.mark.parametrize(
    "endless",
    [b"data: " + b"x" * 65_536, b"data: x\n" * 8_192, b"id: x\n" * 8_192],
    ids=["one line", "many lines of data", "many lines without data"],
)
def test_a_block_without_end_is_refused(endless: bytes) -> None:
    reader = BlockReader()
    fits = BLOCK_LIMIT // len(endless)
    assert [reader.feed(endless) for _ in range(fits - 1)] == [[]] * (fits - 1)

    with pytest.raises(ValueError, match="a block is longer than 1,048,576 bytes"):
        reader.feed(3 * endless)


def test_comments_without_end_cost_nothing() -> None:
    reader = BlockReader()
    for _ in range(3):
        assert reader.feed(b": nothing\n" * 100_000) == []

    assert [block.data for block in reader.feed(b"data: at last\n\n")] == [b"at last"]
