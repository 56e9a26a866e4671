"""The file sink writes each record as one line, and a disk that is full costs nobody else anything."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from relay import ConfigError, Record, Relay, SinkOptions, SqliteJournal, UsageError
from relay.events import Log
from relay.testing import ManualClock, check_sink, sample_records
from relay.testing.conformance.samples import hostile_records
from sinks import FileSink
from sinks._rotated import rotated_files
from sinks.file import FileKeep, FileRotation, FileSettings
from tests.faults.disk import needs_mounts, small_disk
from tests.sinks.hostile import any_text, however_busy_the_machine
from tests.sinks.outputs import noted_syncs
from tests.sinks.test_console import ACTS_ON_A_TERMINAL, a_record

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (debug|info|warning|error) +\S+ +\d+ \S+ .*")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.jsonl"


def written(path: Path, records: list[Record], **options: object) -> bytes:
    sink = FileSink(path, **options)  # type: ignore[arg-type]
    for record in records:
        sink(record)
    sink.close()
    return path.read_bytes()


def parsed(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_each_line_is_the_record_as_every_stream_has_it(path: Path) -> None:
    records = [*sample_records(), *hostile_records()]
    assert written(path, records) == b"".join(record.json + b"\n" for record in records)


def test_pretty_lines_are_those_of_the_console_with_the_day_in_front(path: Path) -> None:
    records = [*sample_records(), *hostile_records()]
    lines = written(path, records, format="pretty").decode().split("\n")
    for record, line in zip(records, lines, strict=False):
        assert LINE.fullmatch(line)
        assert line.endswith(f"{record.event.type:<12} {record.event.text}")


@given(text=any_text)
@however_busy_the_machine
def test_whatever_the_text_a_line_is_one_line_of_which_nothing_acts(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile"
    record = a_record(Log(line=text))
    for form in ("json", "pretty"):
        path.unlink(missing_ok=True)
        shown = written(path, [record], format=form).decode()
        assert ACTS_ON_A_TERMINAL.findall(shown) == ["\n"]
        assert form == "pretty" or json.loads(shown) == json.loads(record.json)


def test_a_file_is_gone_on_with_whatever_its_format_and_the_lines_lost_in_it(path: Path) -> None:
    for form in ("json", "pretty"):
        path.unlink(missing_ok=True)
        for begin in (b'{"type":"skipped","missed":3}\n', b"... 3 lines are missing here\n"):
            before = begin if begin.startswith(b"{") == (form == "json") else b""
            path.write_bytes(before)
            after = written(path, sample_records()[:1], format=form)
            assert after.startswith(before)
            assert after.count(b"\n") == before.count(b"\n") + 1


def test_it_keeps_the_laws_of_a_sink(path: Path) -> None:
    check_sink(FileSink(path))
    assert path.read_bytes().count(b"\n") > 20


def test_what_it_is_shows_where_it_writes(path: Path) -> None:
    assert repr(FileSink(path)) == f"FileSink('{path}')"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("/nowhere/at/all/jobs.jsonl", "sink file: there is no folder /nowhere/at/all; make it"),
        ("/", "sink file: / is not a regular file; name another one"),
        ("/dev/null", "sink file: /dev/null is not a regular file; name another one"),
    ],
)
def test_a_path_that_can_be_no_file_is_a_mistake_that_is_reported_at_the_start(where: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        FileSink.from_settings(FileSettings(path=where))
    assert str(raised.value) == words


def test_options_that_do_not_exist_are_refused_by_name(path: Path) -> None:
    with pytest.raises(UsageError, match="'xml'"):
        FileSink(path, format="xml")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'lzma'"):
        FileSink(path, compress="lzma")  # type: ignore[arg-type]


def test_making_one_makes_no_file(path: Path) -> None:
    FileSink(path)
    assert not path.exists()


def test_by_default_it_is_bounded() -> None:
    assert 0 < FileRotation().bytes * (FileKeep().files + 1) < 2_000_000_000


def breaker(sink: FileSink) -> str:
    return sink.breaker


class Notices:
    """What the operator is told, to wait for."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._news = asyncio.Event()

    def __call__(self, text: str) -> None:
        self.texts.append(text)
        self._news.set()

    async def one(self, words: str) -> str:
        while not (found := [text for text in self.texts if words in text]):
            self._news.clear()
            await self._news.wait()
        return found[0]


async def test_every_record_is_written_lost_or_waiting_at_each_moment(path: Path) -> None:
    notices = Notices()
    sink = FileSink(path, capacity=10)
    sink.bind(ManualClock(), notices, "archive")
    os.mkdir(path)  # it cannot be opened now
    for number, record in enumerate(sample_records(), start=1):
        sink(record)
        counts = sink.counts()
        assert (counts.delivered, counts.dropped + counts.waiting) == (0, number)
    await notices.one("cannot be written")
    os.rmdir(path)
    sink.reopen()
    await notices.one("can be written again")
    sink.close()
    counts = sink.counts()
    assert (counts.waiting, counts.dropped) == (0, sink.missed)
    assert counts.delivered + counts.dropped == len(sample_records())
    lines = parsed(path)
    assert sum(line["missed"] for line in lines if line["type"] == "skipped") == counts.dropped
    assert sum(line["type"] != "skipped" for line in lines) == counts.delivered


@needs_mounts
async def test_a_full_disk_quarantines_the_sink_until_there_is_room_and_its_file_says_what_is_missing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    notices = Notices()
    with small_disk(folder, size=256 * 1024) as disk:
        path = folder / "jobs.jsonl"
        disk.fill()
        async with FileSink(path, capacity=5) as sink:
            sink.bind(ManualClock(), notices, "archive")
            for seq in range(1, 101):
                sink(a_record(Log(line="x" * 400), seq=seq))
            said = await notices.one("cannot be written")
            assert said.startswith(
                f"sink archive: the file {path} cannot be written ([Errno 28] No space left on device"
            )
            assert breaker(sink) == "open"
            disk.free()
            sink.reopen()  # it is tried each second; this is sooner
            await notices.one("can be written again")
            assert breaker(sink) == "closed"
            sink(a_record(Log(line="the last one"), seq=101))
        lines = parsed(path)
        missed = sum(line["missed"] for line in lines if line["type"] == "skipped")
        assert lines[-1]["text"] == "the last one"
        # The writer's thread had a record in hand when the disk turned out to be full, whichever that was.
        assert [line["seq"] for line in lines if "seq" in line][-5:] == [97, 98, 99, 100, 101]
        assert missed + sum("seq" in line for line in lines) == 101
        assert missed == sink.missed


async def told(journal: Path, file: Path, lines: Sequence[str]) -> bytes:
    """What a durable file holds after a relay that publishes *lines* has ended."""
    sink = SinkOptions(sink=FileSink(file, rotate=FileRotation(bytes=2_000)), name="archive", durable=True)
    relay = Relay([], sinks=[sink], journal=SqliteJournal(journal))
    async with relay:
        job = relay.registry.admit()
        for line in lines:
            relay.bus.publish(job, Log(line=line))
    return held_by(file)


async def test_a_durable_file_goes_on_where_it_got_to_across_restarts(path: Path, tmp_path: Path) -> None:
    words = [f"line {number}" for number in range(30)]
    await told(tmp_path / "relay.db", path, words[:10])
    await told(tmp_path / "relay.db", path, words[10:15])
    held = await told(tmp_path / "relay.db", path, words[15:])
    lines = [json.loads(line) for line in held.splitlines()]
    assert [line["text"] for line in lines if line["type"] == "log"] == words


async def test_the_work_of_a_durable_file_fails_while_it_cannot_be_written_and_keeps_what_it_returned_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = noted_syncs(monkeypatch)
    records = sample_records()
    async with FileSink(path) as sink:
        await sink.work(records[:3])
        assert synced == [path_size(path)]
        os.rename(path, f"{path}.aside")
        os.mkdir(path)
        with pytest.raises(OSError, match="Is a directory"):
            await sink.work(records[3:])
        os.rmdir(path)
        os.rename(f"{path}.aside", path)
        await sink.lost(2)
        await sink.work(records[3:])
    lines = parsed(path)
    assert lines.pop(3) == {"type": "skipped", "missed": 2}
    assert [line["text"] for line in lines] == [record.event.text for record in records]


def path_size(path: Path) -> int:
    return path.stat().st_size


def held_by(path: Path) -> bytes:
    return b"".join([*(rotated.path.read_bytes() for rotated in rotated_files(path)), path.read_bytes()])


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="needs logrotate")
@pytest.mark.parametrize("how", ["nocreate", "create 0640", "copytruncate"])
def test_logrotate_takes_the_file_away_and_no_line_is_lost(how: str, path: Path, tmp_path: Path) -> None:
    sink = FileSink(path)
    config = tmp_path / "logrotate.conf"
    config.write_text(f"{path} {{\n rotate 5\n {how}\n su root root\n}}\n")
    records = [a_record(Log(line="x"), seq=seq) for seq in range(1, 31)]
    for number, record in enumerate(records, start=1):
        sink(record)
        if number % 10 == 0:
            sink.close()  # nothing is under way: what copytruncate loses, it loses by its nature
            subprocess.run(["logrotate", "--force", "--state", tmp_path / "state", config], check=True)
    sink.close()
    parts = [path.with_name(f"jobs.jsonl.{number}").read_bytes() for number in (3, 2, 1)]
    assert b"".join(parts) == b"".join(record.json + b"\n" for record in records)
