"""On a terminal, polls that bring no news share one row and leave one line; everywhere else each has its lines."""

import asyncio
import fcntl
import io
import os
import re
import struct
import termios
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from relay.cli.received import read_received
from relay.events import Accepted, Checking, Done, Event, Log, Position, Progress, Received, Record
from relay.wire.record_json import stamp
from sinks import ConsoleSink
from sinks._collapsing import HELD, JOBS, Collapsing
from sinks._pretty import PrettyLine
from sinks.console import Format
from tests.sinks.outputs import a_terminal, plain_environment

AT: Final = datetime(2026, 1, 1, 16, 0, tzinfo=UTC)
ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]|\r")

NINE: Final = Progress(percent=9, status="running", raw_status="running")
SAME: Final = Progress(percent=9, status="running", raw_status="running", unchanged=True)
TEN: Final = Progress(percent=10, status="running", raw_status="running")


@pytest.fixture(autouse=True)
def a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with plain_environment(monkeypatch, "UTC"):
        yield


def poll(number: int, progress: Progress) -> list[Event]:
    return [Checking(attempt=number, of=600), Received(listed=1, seconds=0.1), progress]


def story(*events: Event, job: str = "job_1") -> list[Record]:
    return [
        stamp(job, seq, AT + timedelta(seconds=seq), event, Position("e", seq)) for seq, event in enumerate(events, 1)
    ]


QUIET_POLLS: Final = [event for number in range(2, 14) for event in poll(number, SAME)]
STORY: Final = story(Accepted(upstream="u"), *poll(1, NINE), *QUIET_POLLS, *poll(14, TEN), Done(urls=("https://a/b",)))


def written(
    records: list[Record],
    *,
    columns: int = 80,
    format: Format | None = None,  # noqa: A002
    end: Callable[[ConsoleSink], object] = ConsoleSink.close,
) -> str:
    """What a console writes to a real terminal of so many columns, read at its other end."""
    with a_terminal() as terminal:
        out = terminal.out.fileno()
        fcntl.ioctl(out, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        settings = termios.tcgetattr(out)
        settings[1] &= ~termios.OPOST
        termios.tcsetattr(out, termios.TCSANOW, settings)
        sink = ConsoleSink(terminal.out, format=format)
        for record in records:
            sink(record)
        with ThreadPoolExecutor(1) as reader:  # a terminal holds a few kilobytes until they are read
            read = reader.submit(read_to, terminal.reader, END)
            end(sink)
            os.write(out, END)
            return read.result().removesuffix(END).decode()


END: Final = b"the end of what is written"


def read_to(reader: int, end: bytes) -> bytes:
    read = b""
    while not read.endswith(end):
        read += os.read(reader, 1 << 16)
    return read


def collapsed(records: list[Record], *, columns: int = 80) -> list[bytes]:
    """The parts that are written, one after the other, for records that come without a pause."""
    render = Collapsing(PrettyLine("utf-8", colours=False), PrettyLine("utf-8", colours=False), columns=lambda: columns)
    return [*(part for record in records for part in render(record)), *render.rest()]


def shown(written: str) -> list[str]:
    """The rows of a terminal on which that was written: in each, only the text behind the last clearing remains."""
    rows = [row.rpartition("\r\x1b[K")[2] for row in written.split("\n")]
    assert rows.pop() == "", "the cursor is left at the start of a row"
    return [re.sub(r"^[\d:.]+ ", "", ESCAPE.sub("", row)) for row in rows]


def rows(parts: list[bytes]) -> list[str]:
    return shown(b"".join(parts).decode())


LEFT: Final = [
    "info    job_1                   1 accepted     accepted for u",
    "debug   job_1                   2 checking     checking (1 of 600)",
    "debug   job_1                   3 received     answered in 0.10 s, 1 job listed",
    "info    job_1                   4 progress     9% (running)",
    "debug   job_1                  40 progress     9% (running), unchanged x12",
    "debug   job_1                  41 checking     checking (14 of 600)",
    "debug   job_1                  42 received     answered in 0.10 s, 1 job listed",
    "info    job_1                  43 progress     10% (running)",
    "info    job_1                  44 done         done, 1 file",
]


def test_a_console_that_is_left_leaves_the_lines_of_one_that_is_closed() -> None:
    """A relay leaves its sinks: polls that are shown in the last row must not go with it, nor the prompt be behind."""
    begun = [*STORY[:13], *story(*poll(5, SAME)[:1], job="job_2")]
    left = written(begun, end=lambda sink: asyncio.run(sink.__aexit__(None, None, None)))

    assert left == written(begun)
    assert shown(left)[-1].endswith("checking     checking (5 of 600)")


def test_polls_without_news_leave_one_line_that_counts_them() -> None:
    assert rows(collapsed(STORY)) == LEFT


def test_each_poll_is_seen_in_the_last_row_as_it_comes() -> None:
    parts = collapsed(STORY, columns=200)
    live = [part.decode().rpartition("     ")[2] for part in parts if not part.endswith(b"\n")]
    assert live[2:8] == [
        "checking (2 of 600)",
        "answered in 0.10 s, 1 job listed",
        "9% (running)",
        "checking (3 of 600)",
        "answered in 0.10 s, 1 job listed",
        "9% (running), unchanged x2",
    ]
    assert "9% (running), unchanged x12" in live


def test_on_a_real_terminal_the_console_does_so_and_leaves_a_whole_line_when_it_is_closed() -> None:
    assert shown(written(STORY[:10], columns=200)) == [
        *LEFT[:4],
        "debug   job_1                  10 progress     9% (running), unchanged x2",
    ]


def test_the_last_row_is_never_wider_than_the_terminal_and_a_line_that_stays_is_whole() -> None:
    wide = Progress(percent=9, status="running", raw_status="\u6e32\u67d3" * 40, unchanged=True)
    parts = collapsed(story(Accepted(upstream="u"), *poll(1, wide), *poll(2, wide)), columns=60)
    live = [part.decode().removeprefix("\r\x1b[K") for part in parts if not part.endswith(b"\n")]

    assert live
    assert all(sum(1 if character.isascii() else 2 for character in row) < 60 for row in live)
    assert rows(parts)[-1].endswith(f"9% ({wide.raw_status}), unchanged x2")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("columns", "0")])
def test_a_terminal_that_wishes_for_plain_lines_or_says_no_width_gets_each_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a width, nobody can say whether a row would be wrapped."""
    monkeypatch.setenv(name, value)
    text = written(STORY, columns=0 if name == "columns" else 80)

    assert "\x1b[K" not in text
    assert "\r" not in text
    if name != "columns":
        assert "\x1b" not in text
    assert len(text.splitlines()) == len(STORY)


def test_a_width_that_is_lost_on_the_way_leaves_whole_lines() -> None:
    columns = 80
    render = Collapsing(PrettyLine("utf-8", colours=False), PrettyLine("utf-8", colours=False), columns=lambda: columns)
    parts = [part for record in STORY[:10] for part in render(record)]
    columns = 0
    parts += [part for record in STORY[10:12] for part in render(record)]

    assert rows([*parts, *render.rest()])[4:] == [
        "debug   job_1                  10 progress     9% (running), unchanged x2",
        "debug   job_1                  11 checking     checking (4 of 600)",
        "debug   job_1                  12 received     answered in 0.10 s, 1 job listed",
    ]


def test_json_on_a_terminal_and_pretty_lines_elsewhere_keep_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(STORY, format="json").splitlines() == [record.json.decode() for record in STORY]
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    sink = ConsoleSink(out, format="pretty")
    for record in STORY:
        sink(record)
    sink.close()
    assert len(out.getvalue().splitlines()) == len(STORY)


def test_jobs_are_counted_apart_and_their_lines_keep_their_order() -> None:
    one, two = STORY, story(Accepted(upstream="u"), *poll(1, NINE), *QUIET_POLLS[:6], Log(line="news"), job="job_2")
    turns = [record for pair in zip(one, two, strict=False) for record in pair] + one[len(two) :]
    left = rows(collapsed(turns))

    assert [row for row in left if "job_1" in row] == LEFT
    assert [row.split(maxsplit=4)[-1] for row in left if "job_2" in row][-2:] == ["9% (running), unchanged x2", "news"]


def test_records_of_a_relay_elsewhere_collapse_alike() -> None:
    received = [read_received(record.json) for record in STORY]
    render = Collapsing(PrettyLine("utf-8", colours=False), PrettyLine("utf-8", colours=False), columns=lambda: 80)

    assert rows([part for record in received for part in render(record)]) == LEFT


def test_steps_of_polls_that_bring_nothing_are_written_before_many_wait() -> None:
    steps: list[Event] = [Checking(attempt=number, of=600) for number in range(1, HELD + 2)]
    assert len(rows(collapsed(story(*steps))[: HELD + HELD + 1])) == HELD + 1


def test_a_job_beyond_the_limit_makes_the_oldest_give_way_and_nothing_is_lost() -> None:
    jobs = [story(Checking(attempt=1, of=9), job=f"j{number}") for number in range(JOBS + 1)]
    parts = collapsed([record for (record,) in jobs])

    assert len(rows(parts)) == JOBS + 1


def test_the_line_in_the_place_of_lost_ones_takes_the_last_row() -> None:
    render = Collapsing(PrettyLine("utf-8", colours=False), PrettyLine("utf-8", colours=False), columns=lambda: 80)
    assert [*render(STORY[1]), render.lost(3)][1].startswith(b"\r\x1b[K... 3 lines are missing here")
