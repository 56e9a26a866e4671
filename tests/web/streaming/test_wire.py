"""The stream, byte by byte: what eleven kinds of client read without loss, and nothing else."""

import json
import re
from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from httpx_sse._decoders import SSEDecoder
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sseclient import SSEClient

from relay.events import (
    EVENTS,
    Checking,
    Done,
    Event,
    Failed,
    Log,
    Position,
    Progress,
    Received,
    Record,
    Retrying,
    Status,
    rank,
)
from relay.queue import thinned
from relay.testing import sample_records
from relay.wire.record_json import stamp
from sinks.sse import HEARTBEAT, PAGE_BYTES, frame, notice_frame
from web.streaming.journal_cursor import THIN_OVER, JournalCursor

SAMPLES = sample_records()
BLOCK = re.compile(rb"(retry: [1-9][0-9]*\n)?event: [a-z-]+\ndata: [\x20-\x7e]+\nid: [A-Za-z0-9]+-[0-9]+\n\n")


class Chunks:
    """What sseclient-py takes for a response: an iterable of bytes that can be closed."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    def close(self) -> None:
        pass


def parsed(*chunks: bytes) -> list[tuple[str, str, str]]:
    """What sseclient-py, which is not ours, makes of a stream that arrives in these chunks."""
    source: Any = Chunks(*chunks)
    return [(event.id or "", event.event, event.data) for event in SSEClient(source).events()]


def expected(records: list[Record]) -> list[tuple[str, str, str]]:
    return [(str(record.position), record.event.type, record.json.decode()) for record in records]


def test_a_record_is_one_block_with_event_one_line_of_data_and_the_id_last() -> None:
    """npm's fetch-event-source takes an id from its line: before the data, a cut within the block lost the record."""
    event = Progress(percent=9, status="running", raw_status="running")
    record = stamp("job_1", 5, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), event, Position("7f3a", 42))

    assert frame(record) == (
        b"event: progress\n"
        b'data: {"v":1,"job":"job_1","seq":5,"at":"2026-01-02T03:04:05.678901Z","type":"progress","level":"info",'
        b'"text":"9% (running)","percent":9,"status":"running","raw_status":"running","source":null,'
        b'"queue_position":null,"eta":null,"eta_low":null,"eta_high":null,"listed":true,"regressed":false,'
        b'"raw_percent":null,"unchanged":false}\n'
        b"id: 7f3a-42\n"
        b"\n"
    )


def test_a_notice_is_a_block_too_and_its_retry_never_stands_alone() -> None:
    assert notice_frame("gap", {"from": "a-1", "to": "b-2", "missed": None}, "b-2", retry=2_000) == (
        b'retry: 2000\nevent: gap\ndata: {"from":"a-1","to":"b-2","missed":null}\nid: b-2\n\n'
    )


def test_a_heartbeat_is_a_bare_comment_line_without_a_blank_one() -> None:
    assert HEARTBEAT == b":\n"
    assert parsed(frame(SAMPLES[0]), HEARTBEAT * 3, frame(SAMPLES[1]), HEARTBEAT) == expected(SAMPLES[:2])


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: f"{record.seq}-{record.event.type}")
def test_every_block_fits_the_profile(record: Record) -> None:
    assert BLOCK.fullmatch(frame(record))


def test_every_type_of_event_is_among_the_samples() -> None:
    assert {type(record.event) for record in SAMPLES} == set(EVENTS)


def test_a_block_ends_with_two_line_feeds_and_not_with_their_spelling() -> None:
    """The seed's streams ended every frame in a literal backslash-n, so that no browser saw a single event."""
    stream = b"".join(frame(record) for record in SAMPLES)

    assert stream.count(b"\n\n") == len(SAMPLES)
    assert not re.search(rb"\\n$", stream, re.MULTILINE)
    assert len(parsed(stream)) == len(SAMPLES)


@given(st.lists(st.integers(0, 4_000), max_size=30))
def test_however_the_stream_is_cut_into_chunks_the_same_events_come_out(cuts: list[int]) -> None:
    stream = HEARTBEAT.join(frame(record) for record in SAMPLES[:12])
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(edges)]

    assert parsed(*chunks) == expected(SAMPLES[:12])


@given(st.text(max_size=80) | st.sampled_from(["\r\n\r\nevent: done\ndata: {}", "\ufeff", "\u2028", "a\rb", "\x00"]))
def test_no_text_from_outside_can_end_a_block_or_begin_another(said: str) -> None:
    at, spot = datetime(2026, 1, 1, tzinfo=UTC), Position("e", 1)
    record = stamp("job_1", 1, at, Failed(kind="upstream", message=said), spot)
    decoder = SSEDecoder()

    lines = frame(record).decode("ascii").split("\n")
    blocks = [block for line in lines[:-1] if (block := decoder.decode(line)) is not None]

    assert BLOCK.fullmatch(frame(record))
    assert [(block.event, json.loads(block.data)["message"]) for block in blocks] == [("failed", said)]


def journal(records: list[Record]) -> JournalCursor:
    def read(after: int) -> list[Record]:
        return [record for record in records if record.position.offset > after][:3]

    return JournalCursor(read)


def test_a_reader_takes_every_record_once_page_by_page_and_then_rests() -> None:
    records = list(SAMPLES[:8])
    reader = journal(records)

    pages = [reader.next_page() for _ in range(4)]
    records.append(SAMPLES[8])

    assert parsed(*pages) == expected(SAMPLES[:8])
    assert pages[3] == b""
    assert parsed(reader.next_page()) == expected([SAMPLES[8]])
    assert reader.offset == SAMPLES[8].position.offset
    assert not reader.ended


def told(*events: Event) -> list[Record]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [stamp("j", seq, at, event, Position("e", seq)) for seq, event in enumerate(events, 1)]


def test_a_readers_cursor_passes_over_what_is_not_for_it_once_it_has_all_that_is() -> None:
    checks = [Checking(attempt=number, of=600) for number in range(1, 50)]
    records = told(*checks, Log(line="careful", severity="warning"), *checks, Done(urls=("https://a/b",)))

    def read(after: int) -> list[Record]:
        return [record for record in records[after:] if rank(record) >= 2][:1]

    reader = JournalCursor(read, head=lambda: len(records))
    pages = []
    for _ in range(2):
        pages.append((reader.next_page(), reader.offset))
    records += told(*[record.event for record in records], *checks)[len(records) :]

    assert [(parsed(page)[0][1], cursor) for page, cursor in pages] == [("log", 50), ("done", 100)]
    assert (reader.offset, reader.next_page(), reader.offset) == (100, b"", 149)


def progress(percent: int, status: Status = "running") -> Progress:
    return Progress(percent=percent, status=status, raw_status=status)


def test_thinning_keeps_what_has_changed_beside_the_latest_that_repeats_it() -> None:
    """A reader takes the text of a job from what is above `debug`: it would keep that of a figure long passed."""
    first, moved, other = progress(9), progress(12), progress(12, "queued")
    same, again = (replace(event, unchanged=True, eta=5.0) for event in (moved, other))
    records = told(first, replace(first, unchanged=True), moved, same, same, other, again, again)

    assert [(record.seq, record.event) for record in thinned(records)] == [
        (3, moved),
        (5, same),
        (6, other),
        (8, again),
    ]


def test_thinning_keeps_the_latest_progress_of_each_state_and_all_that_is_no_poll() -> None:
    warning = Retrying(kind="server", message="HTTP 502", attempt=1, next_in=2.5)
    poll: list[Event] = [Checking(attempt=1, of=600), Received(listed=1, seconds=0.1)]
    records = told(
        *poll,
        progress(1, "queued"),
        *poll,
        progress(2, "queued"),
        *poll,
        progress(3),
        *poll,
        progress(4),
        poll[0],
        warning,
        *poll,
        progress(5),
        Log(line="a line"),
        *poll,
        progress(6),
        Done(urls=("https://a/b",)),
    )

    assert [record.event for record in thinned(records)] == [
        progress(2, "queued"),
        progress(4),
        poll[0],
        warning,
        progress(5),
        Log(line="a line"),
        progress(6),
        Done(urls=("https://a/b",)),
    ]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=80))
def test_thinning_never_loses_a_jobs_last_word_nor_a_change_of_state(steps: list[tuple[str, int]]) -> None:
    statuses: list[Status] = ["queued", "running", "succeeded"]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    events = [
        (job, progress(kind, statuses[kind // 2])) if kind < 5 else (job, Log(line="a line")) for job, kind in steps
    ]
    records = [stamp(job, n, at, event, Position("e", n)) for n, (job, event) in enumerate(events, 1)]

    kept = thinned(records)

    for job in "ab":
        before = [record for record in records if record.job == job]
        after = [record for record in kept if record.job == job]
        assert after[-1:] == before[-1:]
        assert states(after) == states(before)
    assert kept == sorted(kept, key=lambda record: record.seq)


def states(records: list[Record]) -> list[str]:
    """The states a job went through, and its lines, without how often each was said."""
    said = [record.event.status if isinstance(record.event, Progress) else "line" for record in records]
    return [word for before, word in pairwise(["", *said]) if word != before or word == "line"]


def test_only_a_slow_reader_that_was_up_to_date_once_is_given_the_latest_instead_of_all() -> None:
    records = told(*[progress(1) for _ in range(THIN_OVER + 1)])

    def read(after: int) -> list[Record]:
        return records[after:]

    new = JournalCursor(read)
    assert len(parsed(new.next_page(slow=True))) == THIN_OVER + 1, "who is new is told the whole story"
    assert new.next_page() == b""

    burst = [progress(2) for _ in range(THIN_OVER + 1)]
    records += told(*[progress(1) for _ in records], *burst)[len(records) :]
    fast, slow = copy(new), copy(new)

    assert (len(parsed(fast.next_page())), fast.skipped) == (THIN_OVER + 1, 0)
    assert (len(parsed(slow.next_page(slow=True))), slow.skipped) == (1, THIN_OVER)
    assert fast.offset == slow.offset == records[-1].position.offset


def test_a_page_is_bounded_in_bytes_and_holds_one_record_at_least() -> None:
    records = told(*[Log(line="\U0001f600" * 8_000) for _ in range(20)])

    def read(after: int) -> list[Record]:
        return records[after:]

    reader = JournalCursor(read)
    pages = list(iter(reader.next_page, b""))

    assert len(pages) == 20
    assert max(map(len, pages)) < PAGE_BYTES + 256 * 1024
