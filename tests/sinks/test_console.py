"""The console prints one line a record, in the record's own words, whatever an upstream has written into them."""

import asyncio
import fcntl
import io
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given

from relay import Bus, Job, MemoryJournal
from relay.events import Accepted, Event, Failed, Log, Position, Progress, Record
from relay.testing import ManualClock, sample_records
from relay.testing.conformance.samples import hostile_records
from relay.wire.record_json import stamp
from sinks import ConsoleSink
from tests.sinks.hostile import any_text, however_busy_the_machine
from tests.sinks.outputs import PATIENCE, Gate, Pipe, a_pipe, a_terminal, plain_environment

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ACTS_ON_A_TERMINAL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
AT = datetime(2026, 1, 1, 16, 0, 5, 123456, tzinfo=UTC)


def a_record(event: Event, *, job: str = "job_1", seq: int = 1, at: datetime = AT) -> Record:
    return stamp(job, seq, at, event, Position("e", seq))


def printed(records: list[Record], **options: object) -> str:
    out = io.StringIO()
    sink = ConsoleSink(out, **options)  # type: ignore[arg-type]
    for record in records:
        sink(record)
    sink.close()
    return out.getvalue()


@pytest.fixture(autouse=True)
def a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """India's time is no whole hour off."""
    with plain_environment(monkeypatch, "Asia/Kolkata"):
        yield


def test_pretty_lines_say_time_level_job_seq_type_and_text_in_columns() -> None:
    records = [record for record in sample_records() if record.job == "job_sample_2"]
    assert printed(records, format="pretty").splitlines() == [
        "21:30:10.123 info    job_sample_2            1 accepted     accepted for sora, task task_2",
        "21:30:25.123 debug   job_sample_2            2 checking     checking (1 of 600)",
        "21:30:27.623 debug   job_sample_2            3 received     answered in 0.12 s, 2 jobs listed",
        "21:30:30.123 info    job_sample_2            4 progress     9% (running), about 140 s left",
        "21:30:50.123 warning job_sample_2            5 log          a frame was refused",
        "21:30:52.623 error   job_sample_2            6 failed       failed (policy): the prompt was refused",
    ]


def test_every_pretty_line_ends_in_the_very_words_of_the_record() -> None:
    records = [*sample_records(), *hostile_records()]
    for record, line in zip(records, printed(records, format="pretty").split("\n"), strict=False):
        assert line.endswith(f"{record.event.type:<12} {record.event.text}")


def test_json_lines_are_the_records_as_every_stream_has_them() -> None:
    records = [*sample_records(), *hostile_records()]
    assert printed(records, format="json").encode() == b"".join(record.json + b"\n" for record in records)


def events_with(text: str) -> list[Event]:
    return [Log(line=text), Progress(percent=1, status="unknown", raw_status=text), Accepted(upstream=text)]


@given(text=any_text)
@however_busy_the_machine
def test_whatever_the_text_a_pretty_line_is_one_line_and_nothing_in_it_acts_on_a_terminal(text: str) -> None:
    for event in events_with(text):
        shown = printed([a_record(event)], format="pretty")
        assert shown.endswith("\n")
        assert ACTS_ON_A_TERMINAL.findall(shown) == ["\n"]


@given(text=any_text)
@however_busy_the_machine
def test_whatever_the_text_a_json_line_is_one_line_of_ascii_without_control_characters(text: str) -> None:
    for event in events_with(text):
        shown = printed([a_record(event)], format="json")
        assert shown.isascii()
        assert shown.endswith("}\n")
        assert re.findall("[\x00-\x1f\x7f]", shown) == ["\n"]


@given(job=any_text)
@however_busy_the_machine
def test_a_job_id_that_somebody_else_made_up_is_made_inert_too(job: str) -> None:
    record = Record(job=job, seq=1, at=AT, event=Log(line="x"), position=Position("e", 1), json=b"{}")
    assert ACTS_ON_A_TERMINAL.findall(printed([record], format="pretty")) == ["\n"]


def test_words_that_nobody_made_inert_are_made_inert_here() -> None:
    class Careless(Log, frozen=True, tag="careless"):
        @property
        def text(self) -> str:
            return self.line

    event = Careless(line="\x1b[2J\n\u202e\x9b")
    record = Record(job="job_1", seq=1, at=AT, event=event, position=Position("e", 1), json=b"{}")
    assert printed([record], format="pretty").endswith(r" careless     \x1b[2J\n\u202e\x9b" + "\n")


@given(text=any_text)
@however_busy_the_machine
def test_colours_change_nothing_but_the_colour(text: str) -> None:
    record = a_record(Failed(kind="upstream", message=text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        coloured = printed([record], format="pretty")
    assert coloured != (plain := printed([record], format="pretty"))
    assert COLOUR.sub("", coloured) == plain


def test_a_job_has_one_colour_wherever_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = printed([a_record(Log(line="x"), job=f"job_{n % 8}", seq=1 + n // 8) for n in range(24)], format="pretty")
    colours: dict[str, set[str]] = {}
    for colour, job in re.findall(r"(\x1b\[[0-9;]*m)(job_\d)", shown):
        colours.setdefault(job, set()).add(colour)
    assert {job: len(used) for job, used in colours.items()} == {f"job_{n}": 1 for n in range(8)}
    assert len(set.union(*colours.values())) > 2


def test_records_below_the_level_are_left_out_but_never_a_terminal_one() -> None:
    lines = printed(sample_records(), format="pretty", level="error").splitlines()
    assert [line.split()[2:5] for line in lines] == [
        ["job_sample_3", "3", "cancelled"],
        ["job_sample_2", "6", "failed"],
        ["job_sample_1", "15", "done"],
    ]
    warnings = printed(sample_records(), format="pretty", level="warning").splitlines()
    assert [line.split()[4] for line in warnings] == ["retrying", "cancelled", "log", "failed", "stalled", "done"]


def test_an_output_that_cannot_show_a_character_shows_its_escape() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    sink = ConsoleSink(out, format="pretty")
    sink(a_record(Log(line="caf\xe9 \U0001f44d")))
    sink.close()
    assert raw.getvalue().endswith(b"caf\\xe9 \\U0001f44d\n")


def shown_on(terminal: Pipe) -> tuple[str, str]:
    sink = ConsoleSink(terminal.out)
    sink(a_record(Log(line="hello")))
    shown = terminal.read_lines("hello\r")[0]
    sink.close()
    return sink.format, shown


def test_on_a_terminal_it_is_pretty_and_in_colours() -> None:
    with a_terminal() as terminal:
        form, shown = shown_on(terminal)
    assert form == "pretty"
    assert COLOUR.search(shown)
    assert COLOUR.sub("", shown) == "21:30:05.123 info    job_1                   1 log          hello"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_on_a_terminal_without_colours_it_is_pretty_and_plain(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with a_terminal() as terminal:
        assert shown_on(terminal) == ("pretty", "21:30:05.123 info    job_1                   1 log          hello")


@pytest.mark.parametrize("columns", [0, 20])
def test_a_line_is_whole_however_narrow_the_terminal_says_it_is(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with a_terminal() as terminal:
        fcntl.ioctl(terminal.out.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 0, columns, 0, 0))
        assert shown_on(terminal)[1].endswith(" 1 log          hello")


def test_an_empty_no_color_is_no_wish_and_a_filled_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    record = a_record(Log(line="x"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "")
    assert COLOUR.search(printed([record], format="pretty"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOUR.search(printed([record], format="pretty"))


def test_elsewhere_it_is_json() -> None:
    record = a_record(Log(line="hello"))
    with a_pipe() as pipe:
        sink = ConsoleSink(pipe.out)
        sink(record)
        assert pipe.read_lines("}") == [record.json.decode()]
        sink.close()
    assert ConsoleSink(io.StringIO()).format == "json"


def test_standard_output_is_the_one_of_the_moment_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", mine := io.StringIO())
    sink = ConsoleSink()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    sink(record := a_record(Log(line="x")))
    sink.close()
    assert mine.getvalue() == record.json.decode() + "\n"


def test_a_form_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'xml'"):
        printed([], format="xml")


async def test_a_pipe_that_nobody_reads_keeps_no_record_from_the_other_sinks() -> None:
    heard: list[Record] = []
    bus, job = Bus(MemoryJournal(), clock=ManualClock()), Job("job_1")
    with a_pipe() as pipe:
        sink = ConsoleSink(pipe.out, capacity=10)
        with bus.subscribe(sink), bus.subscribe(heard.append):
            for _ in range(2_000):
                bus.publish(job, Log(line="x" * 80))
        assert [record.seq for record in heard] == list(range(1, 2_001))
        assert sink.missed > 0
        # In a thread: the last lines are written once the loop is free.
        lines = await asyncio.to_thread(pipe.read_lines, heard[-1].json.decode())
        sink.close()
    skips = [int(line.removeprefix('{"type":"skipped","missed":')[:-1]) for line in lines if "skipped" in line]
    assert sum(skips) == sink.missed
    assert len(lines) - len(skips) + sink.missed == 2_000


def test_on_the_pretty_console_a_line_for_people_says_what_is_missing() -> None:
    out = Gate()
    sink = ConsoleSink(out, format="pretty", capacity=1)
    sink(a_record(Log(line="first")))
    assert out.reached.wait(PATIENCE)
    for seq in range(2, 1_237):
        sink(a_record(Log(line="later"), seq=seq))
    out.open()
    sink.close()
    first, lost, last = out.getvalue().splitlines()
    assert first.endswith(" 1 log          first")
    assert last.endswith(" 1236 log          later")
    assert lost == "... 1,234 lines are missing here: the output did not take them in time"


async def test_leaving_writes_what_is_left_while_the_event_loop_goes_on() -> None:
    out = Gate()
    record = a_record(Log(line="x"))

    async def open_gate() -> None:
        out.open()

    async with ConsoleSink(out) as sink:
        sink(record)
        # It runs when the loop next turns: if leaving kept the loop from turning, nothing would be written.
        opening = asyncio.ensure_future(open_gate())
    assert opening.done()
    assert out.getvalue() == record.json.decode() + "\n"


def test_what_a_program_has_configured_for_structlog_neither_matters_nor_changes() -> None:
    def refuse(*_: object) -> str:
        raise AssertionError("the console must not log by structlog")

    record = a_record(Log(line="x"))
    try:
        structlog.configure(processors=[refuse])
        assert printed([record], format="json") == record.json.decode() + "\n"
        assert structlog.get_config()["processors"] == [refuse]
    finally:
        structlog.reset_defaults()
    printed([record], format="pretty")
    assert not structlog.is_configured()


PROGRAM = """
import sys
from relay.testing import sample_records
from sinks import ConsoleSink
sink = ConsoleSink()
for turn in range(200):
    for record in sample_records():
        sink(record)
    if turn == 100:
        print("half", file=sys.stderr, flush=True)
        sys.stdin.readline()
"""


def test_a_program_whose_reader_goes_away_ends_with_status_0_and_says_nothing() -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stderr is not None
    with program.stdin, program.stderr:
        assert program.stdout.readline() == sample_records()[0].json + b"\n"
        assert program.stderr.readline() == b"half\n"
        program.stdout.close()
        program.stdin.write(b"go on\n")
        program.stdin.close()
        assert program.stderr.read() == b""
        assert program.wait(PATIENCE) == 0


def test_a_program_without_standard_output_runs_all_the_same() -> None:
    program = PROGRAM.replace("turn == 100", "False")
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" >&-', sys.executable, "-W", "error", "-c", program],
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
