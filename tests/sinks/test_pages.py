"""Who fell behind at the same record is given the same page, and that is put together once."""

from collections import Counter

from relay.events import Record
from relay.testing.conformance.samples import sample_records
from sinks.sse import PAGES_KEPT, Pages, frame
from web.streaming.journal_cursor import JournalCursor


class Counting:
    """Encodes as a stream does, and counts how often each record was."""

    def __init__(self) -> None:
        self.times: Counter[int] = Counter()

    def __call__(self, record: Record) -> bytes:
        self.times[record.position.offset] += 1
        return frame(record)


def test_a_page_is_encoded_once_for_all_who_are_behind_at_the_same_record() -> None:
    records, encode = sample_records(), Counting()
    pages = Pages(encode)
    readers = [JournalCursor(lambda after: records[after:], encode=pages) for _ in range(10)]

    told = {reader.next_page() for reader in readers}

    assert told == {b"".join(map(frame, records))}
    assert set(encode.times.values()) == {1}


def test_who_is_behind_elsewhere_is_given_a_page_of_its_own() -> None:
    records = sample_records()
    pages = Pages(frame)

    for start in range(len(records)):
        assert pages(records[start:]) == b"".join(map(frame, records[start:]))
        assert pages(records[: start + 1]) == b"".join(map(frame, records[: start + 1]))


def test_no_more_than_a_few_pages_are_remembered() -> None:
    records, encode = sample_records(), Counting()
    pages = Pages(encode)
    for start in range(PAGES_KEPT + 1):
        pages(records[start:])

    newest, oldest = records[PAGES_KEPT:], records
    before = Counter(encode.times)
    pages(newest)
    assert encode.times == before
    pages(oldest)
    assert encode.times == before + Counter(record.position.offset for record in oldest)
