"""Streams read block by block: as an EventSource reads them, however the bytes come in, and never without bound."""

import pytest
from httpx_sse._decoders import SSEDecoder
from hypothesis import example, given
from hypothesis import strategies as st

from relay.wire.event_stream import BLOCK_LIMIT, EventStreamParser

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
    parser, events, last = EventStreamParser(), list[Event](), ""
    for piece in pieces:
        for block in parser.feed(piece):
            last = last if block.id is None else block.id
            if block.is_event:
                events.append((block.event, block.data.decode(), last, block.retry))
    return events


@given(streams)
@example(["event: a", "event:", "data", "data: b", "id: 1", "id", ""])
def test_it_reads_what_an_independent_parser_reads(lines: list[str]) -> None:
    decoder = SSEDecoder()
    events, data = [], False
    for line in lines:
        data = data or line.partition(":")[0] == "data"
        if (event := decoder.decode(line)) is not None and data:
            events.append(event)
        data = data and line != ""

    assert read("".join(f"{line}\n" for line in lines).encode()) == [
        (event.event, event.data, event.id, event.retry) for event in events
    ]


@given(streams, st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=30, max_size=30), st.booleans(), st.data())
def test_it_reads_the_same_however_its_lines_end_and_its_bytes_come_in(
    lines: list[str], ends: list[str], mark: bool, data: st.DataObject
) -> None:
    # A CR before an empty line that ends with LF would be one end of a line, and not two.
    for number, line in enumerate(lines):
        if number and not line and ends[number] == "\n" and ends[number - 1] == "\r":
            ends[number] = "\r"
    stream = ("\ufeff" * mark + "".join(map("".join, zip(lines, ends, strict=False)))).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert read(*pieces) == read("".join(f"{line}\n" for line in lines).encode())


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data\n\n", [""]),
        (b"data:\n\n", [""]),
        (b"data\ndata\n\n", ["\n"]),
        (b"data:x\r\rdata: y\r\n\r\n", ["x", "y"]),
        (b"data:  x:y\n\n", [" x:y"]),
        (b": data: x\n:data\n\n", []),
        (b" data: x\nDATA: x\ndata : x\n\n", []),
        (b"id: 1\nevent: a\n\ndata: x\n\n", ["x"]),
        (b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n", ["x"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", []),
        (b"\xef\xbb", []),
        ("data: \x0b\x0c\x1c\x85\u2028\u2029\n\n".encode(), ["\x0b\x0c\x1c\x85\u2028\u2029"]),
    ],
)
def test_what_makes_an_event_is_what_the_specification_says(stream: bytes, events: list[str]) -> None:
    """Whole, and byte by byte."""
    assert [data for _, data, _, _ in read(stream)] == events
    assert [data for _, data, _, _ in read(*(stream[place : place + 1] for place in range(len(stream))))] == events


def test_a_line_that_a_cr_ends_is_taken_before_it_is_known_what_follows() -> None:
    parser = EventStreamParser()

    assert [block.data for block in parser.feed(b"data: now\r\r")] == [b"now"]
    assert parser.feed(b"\n") == []
    assert parser.feed(b"") == []
    assert [block.data for block in parser.feed(b"data: next\n\n")] == [b"next"]


def test_a_line_that_comes_byte_by_byte_costs_its_length_once() -> None:
    """A rest that was joined anew with each byte would move 2 GB here."""
    parser = EventStreamParser()
    for _ in range(65_536):
        assert parser.feed(b"x") == []
    parser.feed(b"\n")

    assert [block.data for block in parser.feed(b"data: x\n\n")] == [b"x"]


def test_a_block_that_the_stream_ends_in_is_discarded() -> None:
    assert read(b"data: whole\n\nevent: cut\ndata: off\nid: 7\n") == [("message", "whole", "", None)]


@pytest.mark.parametrize(
    "endless",
    [b"data: " + b"x" * 65_536, b"data: x\n" * 8_192, b"id: x\n" * 8_192],
    ids=["one line", "many lines of data", "many lines without data"],
)
def test_a_block_without_end_is_refused(endless: bytes) -> None:
    parser = EventStreamParser()
    fits = BLOCK_LIMIT // len(endless)
    assert [parser.feed(endless) for _ in range(fits - 1)] == [[]] * (fits - 1)

    with pytest.raises(ValueError, match="a block is longer than 1,048,576 bytes"):
        parser.feed(3 * endless)


def test_comments_without_end_cost_nothing() -> None:
    parser = EventStreamParser()
    for _ in range(3):
        assert parser.feed(b": nothing\n" * 100_000) == []

    assert [block.data for block in parser.feed(b"data: at last\n\n")] == [b"at last"]
